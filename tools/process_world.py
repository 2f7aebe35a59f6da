"""What the tests of processes share: one world for each test, people at a terminal, cards that they read from."""

import contextlib, fcntl, io, json, os, pty, random, re, select, struct, subprocess, tempfile, termios, time, unittest, unittest.mock
from pathlib import Path

import black_box
import rescue
from kill_rounds import reported
from kill_world import PASSPHRASE, Fault, Shape, World
from process_case import HALF_A_MINUTE, Case


class Alone(Case):
    """One world for each test."""

    def setUp(self):
        place = Path(tempfile.mkdtemp(dir=self.folder))
        self.world = World(place / "world", random.Random(1), self.binary, self.shim, self.mounts, Shape(3, "2+1", 2112))
        self.addCleanup(self.world.close)
        key = rescue.read_keyfile((self.world.folder / "recovery.key").read_bytes(), lambda: PASSPHRASE.encode())
        self.box = black_box.Box(list(self.world.sites.values()), key.archive, rescue.XWing(key.secret))

    def grow(self, name: str, megabytes: int):
        """A dataset that fills many stripes."""
        for number in range(megabytes // 8):
            self.world.sources[name].write(f"large-{number}", random.Random(f"{name}{number}").randbytes(8 << 20), 0o644)

    def commits(self, name: str, **more) -> dict:
        done = self.world.replicate(name, **more)
        self.assertTrue(reported(done), done.last_words())
        return json.loads(done.out)["snapshots"][0]

    def whole(self, *names: str):
        """Each of these comes back as it is now, without any one site, and the black box has nothing to say."""
        for name in names or self.world.sources:
            for gone in self.world.sites:
                done, tree = self.world.restore(name, [site for site in self.world.sites if site != gone])
                self.assertEqual(done.code, 0, done.last_words())
                self.assertEqual(tree, self.world.sources[name].snapshot())
        self.assertEqual(self.box.look(), [])

    def stopped(self, name: str, path: str, at: int, calls: str = ""):
        process = self.world.start_replicate(name, fault=Fault(path, at, "stop", calls))
        self.assertTrue(process.await_stop())
        return process

    def with_command(self, *words: str):
        """A dataset that is a command's output."""
        with open(self.world.folder / "exclave.toml", "a") as file:
            file.write(f'[[dataset]]\nname = "dump"\ncommand = {json.dumps(words)}\n')


def decoder(*words: str) -> tuple[int, str, str]:
    """A call of rescue.py: its exit code, and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), unittest.mock.patch.dict(os.environ, EXCLAVE_PASSPHRASE=PASSPHRASE):
        code = rescue.main(list(words))
    return code, out.getvalue(), err.getvalue()


CUSTODIANS = """
[[group]]
name = "custodians"
threshold = 2
custodian = [{ name = "First", kind = "national" }, { name = "Second", kind = "allied" }, { name = "Third", kind = "international" }]
"""


class Typing(Alone):
    """People at a terminal of 80 columns and 24 lines."""

    def text(self, share: str, form: str) -> list[str]:
        done = subprocess.run([self.binary, "key", "show", share, "--as", form], cwd=self.world.folder, capture_output=True, text=True,
                              env={"EXCLAVE_PASSPHRASE": PASSPHRASE})
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.splitlines()

    def at_a_terminal(self, words: list[str], typed: list[str], folder: Path | None = None, **environment: str) -> tuple[int, str]:
        """The exit code and all that stood on the terminal. Each line is typed when it is asked for."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(folder or self.world.folder)
            os.execvpe(words[0], words, {"TERM": "dumb"} | environment)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        seen, asked, typed = "", 0, list(typed)
        while select.select([terminal], [], [], HALF_A_MINUTE)[0]:
            try:
                seen += os.read(terminal, 65536).decode()
            except OSError:
                break       # the terminal is closed
            if seen.count(": ") > asked and seen.endswith(": ") and typed:
                asked = seen.count(": ")
                time.sleep(0.05)    # until it has switched the echo off
                os.write(terminal, typed.pop(0).encode() + b"\n")
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(terminal)
        self.assertEqual(typed, [], seen)
        return code, seen


class Card:
    """What a custodian reads off a printed card."""

    def __init__(self, page: str):
        text = re.sub(r"<svg.*?</svg>", "", page, flags=re.S)
        rows = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in re.findall(r"<tr[^>]*>.*?</tr>", text, re.S)]
        self.words = [" ".join(row[-6:]) for row in rows if len(row) >= 6 and all(re.fullmatch("[a-z]+", cell) for cell in row[-6:])]
        self.digits = [" ".join(row[-5:]) for row in rows if len(row) >= 5 and all(re.fullmatch("[0-9]{5}", cell) for cell in row[-5:])]
        self.anchor = "".join(re.search(r"Anchor</[^>]+>\s*<[^>]+>(?:<[^>]+>)*([0-9a-f ]{64,})", text)[1].split())
        self.sites = re.findall(r"file://[^<\s]+", text)
        self.heads = re.findall(r">([0-9a-f]{64})<", text)
