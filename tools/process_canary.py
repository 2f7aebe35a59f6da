"""Canaries: names, contents and keys that must not be found where they don't belong, whatever the program does.

A dataset is full of strings that occur nowhere else, and all keys are known here. The real program founds an archive over
two directories and an S3 server, replicates, restores, splits and combines keys, changes its charter, gives run keys
away, meets errors and dies. Then every byte is searched that left it: at the sites, on the wire, in what it said, in its
environment and command line while it ran, in the state folder, in temporary files and core dumps. The rule for each place
is in MAY_LIE. First of all the search itself is tried, at canaries that were planted for it.
"""

import base64, contextlib, json, os, re, resource, secrets, shutil, signal, socket, subprocess, sys, threading, time
from pathlib import Path
from typing import Callable

import rescue
from across_world import Moto
from kill_world import Fault
from process_case import HALF_A_MINUTE, Case

MOTO = Path(__file__).resolve().parents[1] / ".cache" / "moto"
NOBODY = 65534

CUSTODIANS = """
[[group]]
name = "custodians"
threshold = 2
custodian = [{ name = "First", kind = "national" }, { name = "Second", kind = "allied" }, { name = "Third", kind = "international" }]
"""

# What may lie where, by the beginning of a needle's name. SECURITY.md, "Who sees what" and "Keys".
MAY_LIE = {
    "sites": (),
    "traffic": (),
    "environment": (),
    "temporary": (),
    # Names of the dataset and of files are the owner's words to the owner. What a file holds, and keys, never.
    "said": ("name",),
    # As for `said`: the caller named the dataset, a path, a label.
    "command lines": ("name",),
    # The newest catalog has names, sizes and other metadata; the writer signs unattended, and goes on deduplicating.
    "state": ("name", "metadata", "key writer", "key dataset"),
    # Settings, drafts, key files, share files. A passphrase and the store's secret lie in the files that we gave.
    "files": ("name",),
}


# ---- What is searched for --------------------------------------------------------------------------------------------

def forms(raw: bytes) -> dict[str, bytes]:
    """How bytes may be written down."""
    found = {"raw": raw, "hex": raw.hex().encode(), "HEX": raw.hex().upper().encode()}
    for offset in range(3):
        # The characters that depend on these bytes alone, wherever in a group of three they begin.
        text = base64.b64encode(bytes(offset) + raw)[(offset * 8 + 5) // 6:-4]
        found |= {f"base64 at {offset}": text, f"base64url at {offset}": text.translate(bytes.maketrans(b"+/", b"-_"))}
    for name in ("raw", "hex"):
        with contextlib.suppress(UnicodeDecodeError):
            text = found[name].decode("ascii")
            found |= {f"{name} in UTF-16": text.encode("utf-16-le"), f"{name} in UTF-16, big-endian": text.encode("utf-16-be")}
    found["numbers"] = ", ".join(map(str, raw)).encode()      # as Rust's Debug prints them
    return found


class Needles:
    def __init__(self):
        self.forms: dict[str, dict[str, bytes]] = {}

    def add(self, name: str, raw: bytes):
        assert len(raw) >= 16, name
        self.forms[name] = forms(raw)

    def in_bytes(self, hay: bytes) -> set[str]:
        return {f"{name} ({form})" for name, all_forms in self.forms.items() for form, text in all_forms.items() if text in hay}

    def in_tree(self, folder: Path, without: Callable[[Path], bool] = lambda path: False) -> dict[str, set[str]]:
        """By path: in names, in targets of links, in attributes and in bytes."""
        found = {}
        for path in sorted(folder.rglob("*")):
            if without(path):
                continue
            hay = os.fsencode(path.relative_to(folder)) + b"\0"
            if path.is_symlink():
                hay += os.fsencode(os.readlink(path))
            elif path.is_file():
                hay += path.read_bytes()
                with contextlib.suppress(OSError):
                    hay += b"".join(os.fsencode(name) + b"\0" + os.getxattr(path, name) for name in os.listxattr(path))
            if here := self.in_bytes(hay):
                found[str(path.relative_to(folder))] = here
        return found


def canary(what: str) -> str:
    """Nobody else's word, and no word of another canary."""
    return f"canary-{what}-{secrets.token_hex(8)}"


# ---- Where it is searched --------------------------------------------------------------------------------------------

class Tap:
    """Between the program and a server: hands on what either says, and keeps it."""

    def __init__(self, port: int):
        self.server_port, self.heard, self.lock = port, bytearray(), threading.Lock()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self.socket.accept()[0]
                server = socket.create_connection(("127.0.0.1", self.server_port))
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self.hand_on, args=(one, other), daemon=True).start()

    def hand_on(self, one: socket.socket, other: socket.socket):
        # Each direction whole, so that nothing is torn by what comes back.
        own = bytearray()
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                own += data
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)
        with self.lock:
            self.heard += own + b"\0"

    def close(self):
        self.socket.close()


class Watched:
    """A call of the program: what it said, and what others of its user can see of it while it runs."""

    def __init__(self, case: "Canary", words: tuple[str, ...], fault: Fault | None, typed: bytes | None, become: Callable | None):
        environment = {"PATH": os.environ["PATH"], "HOME": str(case.home), "TMPDIR": str(case.temporary), "RUST_BACKTRACE": "full",
                       "RUST_LOG": "trace"}
        if fault:
            environment |= case.shim.environment(fault, case.place / "report")

        def before():
            resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            if become:
                become()
        self.case, self.words = case, words
        self.out, self.err = open(case.place / "out", "w+b"), open(case.place / "err", "w+b")
        self.popen = subprocess.Popen([case.binary, *words], cwd=case.home, env=environment, stdout=self.out, stderr=self.err,
                                      stdin=subprocess.DEVNULL if typed is None else subprocess.PIPE, preexec_fn=before)
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        if typed:
            self.popen.stdin.write(typed)
            self.popen.stdin.flush()

    def watch(self):
        while self.popen.returncode is None:
            for name, into in (("environ", self.case.environments), ("cmdline", self.case.command_lines)):
                with contextlib.suppress(OSError):
                    into.add(Path(f"/proc/{self.popen.pid}/{name}").read_bytes())
            time.sleep(0.002)

    def status(self, field: str) -> str:
        return re.search(rf"^{field}:\s*(.*)$", Path(f"/proc/{self.popen.pid}/status").read_text(), re.M)[1]

    def await_state(self, state: str):
        deadline = time.monotonic() + HALF_A_MINUTE
        while self.popen.poll() is None and time.monotonic() < deadline:
            if self.status("State").startswith(state):
                return
            time.sleep(0.002)
        self.case.fail(f"it is not in state {state}: {self.words}")

    def end(self) -> tuple[int, bytes, bytes]:
        """The exit code, negative for a signal, and what it said. That it left no core is checked for every call."""
        if self.popen.stdin:
            self.popen.stdin.close()
        deadline = time.monotonic() + 120
        while (info := os.waitid(os.P_PID, self.popen.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)) is None:
            if time.monotonic() > deadline:
                self.popen.kill()
            time.sleep(0.002)
        self.case.assertNotEqual(info.si_code, os.CLD_DUMPED, "it dumped its memory")
        self.popen.wait()
        self.thread.join()
        said = []
        for file in (self.out, self.err):
            file.seek(0)
            said.append(file.read())
            file.close()
        self.case.said += said
        return self.popen.returncode, *said


# ---- The play --------------------------------------------------------------------------------------------------------

class Canary(Case):
    """THREATS A33 and C19."""

    def setUp(self):
        self.place = self.folder / f"canary-{time.monotonic_ns()}"
        self.home, self.temporary, self.source, self.state = (self.place / name for name in ("home", "temporary", "source", "state"))
        self.sites = self.place / "sites"
        for folder in (self.home, self.temporary, self.source, self.sites / "a", self.sites / "b", self.sites / "c"):
            folder.mkdir(parents=True)
        self.addCleanup(shutil.rmtree, self.place)
        self.needles, self.said, self.environments, self.command_lines = Needles(), [], set(), set()
        self.settings = self.home / "exclave.toml"

    def run_it(self, *words: str, code: int | tuple = 0, typed: bytes | None = None, fault: Fault | None = None) -> bytes:
        code = code if isinstance(code, tuple) else (code,)
        found, out, err = Watched(self, words, fault, typed, None).end()
        self.assertIn(found, code, f"{words}: {err.decode()[-1500:]}")
        self.assertNotIn(b"panicked", err)
        return out

    def secret_word(self, file: str, what: str) -> str:
        """A passphrase in a private file."""
        word = canary(what)
        self.needles.add(f"key passphrase of {what}", word.encode())
        (self.home / file).write_text(word + "\n")
        (self.home / file).chmod(0o600)
        return word

    def fill_source(self):
        """Every part of a tree that can hold words."""
        words = {what: canary(what) for what in ("file", "folder", "link", "content", "more", "target", "attribute", "label", "dataset")}
        for what in ("file", "folder", "link", "target", "label", "dataset"):
            self.needles.add(f"name of a {what}", words[what].encode())
        for what in ("content", "more"):
            self.needles.add(f"content: {what}", words[what].encode())
        self.needles.add("metadata: an attribute's value", words["attribute"].encode())
        folder = self.source / words["folder"]
        folder.mkdir()
        # Packs well, and not at all.
        (folder / words["file"]).write_text(f"{words['content']} is what a register says\n" * 4000)
        noise = [os.urandom(300_000) for _ in range(8)]
        (folder / f"{words['file']}.image").write_bytes(words["more"].encode().join(noise))
        (folder / words["link"]).symlink_to(f"../{words['target']}")
        with contextlib.suppress(OSError):
            os.setxattr(folder / words["file"], "user.canary", words["attribute"].encode())
        self.words = words

    def found_archive(self, third: str, endpoint: str):
        """Keys, settings, sites."""
        self.passphrase = self.secret_word("passphrase", "the recovery identity")
        self.settings.write_text(
            f'state_dir = "{self.state}"\ncredentials = "{self.home}/credentials.toml"\n[class]\ncode = "2+1"\npayload = "2112KiB"\n'
            + "".join(f'[[site]]\nname = "{name}"\naddress = "{address}"\n'
                      for name, address in (("a", f"file://{self.sites}/a"), ("b", f"file://{self.sites}/b"), ("c", third)))
            + endpoint
            + f'[[dataset]]\nname = "{self.words["dataset"]}"\npath = "{self.source}"\nlabel = "{self.words["label"]}"\n')
        for name in ("recovery", "other", "stranger"):
            self.run_it("key", "generate", "--out", f"{name}.key", "--public", f"{name}.pub", *self.open)
        self.run_it("key", "generate", "--role", "restorer", "--out", "restorer.key", "--public", "restorer.pub", *self.open)
        self.run_it("init", "--recovery", "recovery.key", *self.open)
        key = self.know("recovery.key", "key recovery")
        self.know("other.key", "key of another recipient")
        self.know("stranger.key", "key of a stranger")
        root = self.know("exclave-root.key", "key root")
        for name, seeds in (("root", root.secret), ("writer", rescue.read_keyfile((self.state / "writer.key").read_bytes(), None).secret)):
            self.needles.add(f"key {name}: Ed25519", seeds[:32])
            self.needles.add(f"key {name}: ML-DSA-65", seeds[32:])
        return rescue.XWing(key.secret), key.archive

    open = ("--passphrase-file", "passphrase")

    def know(self, file: str, name: str, passphrase: str | None = None) -> rescue.KeyFile:
        key = rescue.read_keyfile((self.home / file).read_bytes(), lambda: (passphrase or self.passphrase).encode())
        self.needles.add(name, key.secret)
        return key

    def play(self, identity: tuple[str, ...]):
        """What an owner does in ten years."""
        name = self.words["dataset"]
        self.run_it("plan", code=(0, 3))
        self.run_it("--json", "replicate", "--name", name)
        (self.source / "more").write_text(f"{self.words['content']} {time.time()}\n" * 100)
        self.run_it("replicate", "--name", name)
        self.run_it("replicate", "--name", name, "--dry-run")
        head = json.loads(self.run_it("--json", "snapshots", *identity).splitlines()[0])["snapshot"]
        self.run_it("ls", "--recursive", *identity)
        self.run_it("find", "*canary*", *identity)
        self.run_it("--json", "restore", *identity, "--to", "restored")
        self.run_it("restore", *identity, "--verify")
        self.run_it("restore", *identity, "--dry-run")
        self.run_it("catalog", "rebuild", *identity)
        self.run_it("site", "list")
        self.run_it("site", "check", code=(0, 3))
        return head

    def custody(self, head: str, identity: tuple[str, ...]):
        """Shares, charters, grants."""
        words = [self.secret_word(f"passphrase-{x}", f"share {x}") for x in (1, 2, 3)]
        (self.home / "passphrases").write_text("\n".join(words) + "\n")
        (self.home / "passphrases").chmod(0o600)
        (self.home / "custodians.toml").write_text(CUSTODIANS)
        self.run_it("key", "split", "--identity", "recovery.key", "--custodians", "custodians.toml", "--out", "shares", "--share-passphrases",
                    "passphrases", *self.open)
        files = [f"shares/1-{x}-{name}.share" for x, name in enumerate(("first", "second", "third"), 1)]
        for x, file in enumerate(files):
            self.know(file, f"key share {x + 1}", words[x])
        lines = []
        for x, file in enumerate(files):
            # What a custodian asks for is said: it is read here, and not by the search.
            done = subprocess.run([self.binary, "key", "show", file, "--as", "words", "--passphrase-file", f"passphrase-{x + 1}"],
                                  cwd=self.home, capture_output=True, check=True, env={})
            lines.append(done.stdout)
            for number, line in enumerate(done.stdout.splitlines()):
                self.needles.add(f"key share {x + 1}, line {number + 1}", line)
        typed = lines[0] + lines[2]
        shares = ("--share", "-", "--share", "-", "--set", "shares/shares.set")
        self.run_it("key", "combine", *shares, typed=typed)
        self.run_it("key", "check", "--set", "shares/shares.set", "--share", "-", typed=lines[1])
        self.run_it("key", "combine", *shares, typed=lines[0] + lines[0], code=(1, 4, 5))
        self.run_it("restore", *shares, "--verify", typed=typed)
        self.run_it("charter", "new")
        draft = self.home / "charter.toml"
        before, behind = draft.read_text().split("[[recipients]]\n")
        member = '[[member]]\nrole = "restorer"\nkey = "restorer.pub"\n\n'
        draft.write_text(f'{before}{member}[[recipients]]\n{behind.replace("keys = [", "keys = [" + chr(34) + "other.pub" + chr(34) + ", ", 1)}'
                         '\n[[shares]]\nset = "shares/shares.set"\n')
        self.run_it("charter", "sign", "charter.toml", "--root", "exclave-root.key", *self.open)
        self.run_it("charter", "explain", "charter.v2.charter")
        self.run_it("charter", "publish", "charter.v2.charter")
        self.directory(identity)
        restorer = ("--restorer", "restorer.key", "--restorer-passphrase-file", "passphrase")
        self.run_it("key", "rewrap", *identity, *restorer)
        self.run_it("grant", "give", head, "--to", "other.pub", *identity, *restorer)
        self.run_it("key", "request", "--key", "ceremony.key", "--out", "request.key", *self.open)
        self.know("ceremony.key", "key ceremony")
        self.run_it("key", "wrap-share", "--share", files[0], "--to", "request.key", "--out", "wrapped", "--passphrase-file", "passphrase-1")

    def directory(self, identity: tuple[str, ...]):
        """Names and contacts, sealed."""
        self.run_it("directory", "new")
        draft, entry = self.home / "directory.toml", ""
        for what in ("owner", "contact", "notes"):
            word = canary(what)
            self.needles.add(f"name in the directory: {what}", word.encode())
            entry += f'{what} = "{word}"\n'
        draft.write_text(draft.read_text().replace("tier = 3\n", f"{entry}tier = 1\n", 1))
        self.run_it("directory", "sign", "directory.toml", "--root", "exclave-root.key", *self.open)
        self.run_it("directory", "publish", "directory.v1.directory")
        self.run_it("directory", "show", *identity)

    def errors(self, identity: tuple[str, ...]):
        """Whatever goes wrong says what and where, and no more."""
        stranger = ("--identity", "stranger.key", *self.open)
        self.run_it("restore", *identity[:2], "--passphrase-file", "passphrase-1", "--verify", code=5)
        self.run_it("restore", *stranger, "--to", "stranger", code=(1, 4, 5))
        for shard in list((self.sites / "a").glob("*/shards/*/*/*"))[::2]:
            data = bytearray(shard.read_bytes())
            data[len(data) // 2] ^= 1
            shard.write_bytes(data)
        self.run_it("restore", *identity, "--verify", code=(0, 3))
        shutil.move(self.sites / "a", self.sites / "gone")
        shutil.move(self.sites / "b", self.sites / "gone too")
        self.run_it("restore", *identity, "--to", "nothing", code=(1, 4, 6))
        shutil.move(self.sites / "gone", self.sites / "a")
        shutil.move(self.sites / "gone too", self.sites / "b")
        (self.source / "growth").write_text(f"{self.words['content']} grows\n" * 100)
        self.run_it("replicate", fault=Fault("/sites/a/", 2, "error", "write", errno=28, lasts=True), code=(0, 1, 3, 6))
        self.run_it("replicate", fault=Fault("/state/", 2, "error", "write", errno=28, lasts=True), code=(0, 1, 3, 6))
        (self.settings.with_name("broken.toml")).write_text(self.settings.read_text() + "surprise = 1\n")
        self.run_it("--config", "broken.toml", "replicate", code=2)

    def deaths(self):
        """In the middle of a run, with all keys in memory, by signals that dump it."""
        for number, sent in enumerate((signal.SIGABRT, signal.SIGSEGV, signal.SIGTRAP, signal.SIGQUIT)):
            (self.source / f"change-{number}").write_bytes(os.urandom(400_000))
            running = Watched(self, ("replicate",), Fault("/sites/b/", 1, "stop", "write"), None, None)
            running.await_state("T")
            self.assertRegex(Path(f"/proc/{running.popen.pid}/limits").read_text(), r"Max core file size +0 +0 ")
            self.assertGreater(int(running.status("VmLck").split()[0]), 0)
            self.search("temporary", self.needles.in_tree(self.temporary))
            running.popen.send_signal(sent)
            running.popen.send_signal(signal.SIGCONT)
            # The first SIGSEGV only takes Rust's own handler away, which looks for a stack that is too long.
            while sent == signal.SIGSEGV and os.waitid(os.P_PID, running.popen.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                os.kill(running.popen.pid, sent)
                time.sleep(0.001)
            code, _, _ = running.end()
            # What is taken as a wish to stop is none of these.
            self.assertEqual(code, -sent)
        self.run_it("replicate")

    # The search

    def search(self, where: str, found: dict[str, set[str]]):
        wrong = {path: bad for path, names in found.items() if (bad := {n for n in names if not n.startswith(MAY_LIE[where])})}
        self.assertEqual(wrong, {}, f"canaries in {where}")

    def test_of_the_test(self):
        """The search finds what is planted, in every form and place; and a core is one that it would find."""
        words = ("a canary of sixteen letters", "another one, of a key")
        self.needles.add("name of a plant", words[0].encode())
        self.needles.add("key plant", words[1].encode())
        for word in map(str.encode, words):
            for form, text in forms(word).items():
                path = self.place / "planted"
                path.write_bytes(os.urandom(1000) + text + os.urandom(1000))
                self.assertTrue(self.needles.in_tree(self.place)["planted"], form)
            for wrapped in (base64.b64encode(b"x" + word + b"y"), base64.urlsafe_b64encode(b"xyz?" + word), f"key: {list(word)}".encode()):
                self.assertTrue(self.needles.in_bytes(b"said: " + wrapped), wrapped)
        with self.assertRaisesRegex(AssertionError, "canaries in sites"):
            self.search("sites", self.needles.in_tree(self.place))
        self.assertEqual(self.needles.in_bytes(os.urandom(1 << 20)), set())
        (self.place / "planted").unlink()
        (self.place / words[0]).symlink_to(words[1])
        self.assertEqual(self.needles.in_tree(self.place)[words[0]], {"name of a plant (raw)", "key plant (raw)"})
        (self.place / words[0]).unlink()

        # A program that protects nothing, with the same limits, at the same place.
        def before():
            resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        plain = subprocess.Popen([sys.executable, "-c", "import os; os.abort()"], cwd=self.home, env={"PLANT": words[1]}, preexec_fn=before)
        info = os.waitid(os.P_PID, plain.pid, os.WEXITED | os.WNOWAIT)
        plain.wait()
        if Path("/proc/sys/kernel/core_pattern").read_text().strip() in ("core", "core.%p"):
            self.assertEqual(info.si_code, os.CLD_DUMPED)
            self.assertTrue(self.needles.in_tree(self.home), "its core shows the plant")

    def test_nothing_is_found_where_it_does_not_belong(self):
        self.fill_source()
        (self.home / "credentials.toml").write_text("")
        third, endpoint, tap = f"file://{self.sites}/c", "", None
        secret = canary("store")
        if (MOTO / "bin" / "moto_server").is_file():
            os.environ["MOTO"] = str(MOTO)
            moto = Moto(self.place)
            moto.folder.mkdir()
            moto.start()
            self.addCleanup(moto.stop)
            moto.await_start()
            tap = Tap(int(moto.endpoint["S3_ENDPOINT"].rpartition(":")[2]))
            self.addCleanup(tap.close)
            third, endpoint = moto.address("canary"), f'endpoint = "http://127.0.0.1:{tap.port}"\nregion = "{moto.endpoint["S3_REGION"]}"\n'
            self.needles.add("key of the store", secret.encode())
            (self.home / "credentials.toml").write_text(
                f'["{third}"]\n{endpoint}'
                f'credentials.s3 = {{ access_key = "k", secret_key = "{secret}" }}\n')
        else:
            print("no moto: nothing is heard on the wire; tools/real-servers install", file=sys.stderr)
        (self.home / "credentials.toml").chmod(0o600)
        identity, anchor = self.found_archive(third, endpoint)
        opened = ("--identity", "recovery.key", *self.open)
        head = self.play(opened)
        self.custody(head, opened)
        self.deaths()
        self.errors(opened)

        # Keys that no file of the owner's has: from what lies at two sites, by the other decoder.
        archive = rescue.Archive([str(self.sites / name) for name in "ab"], anchor, identity)
        self.assertGreaterEqual(len(archive.heads), 3)
        for number, one in enumerate(archive.heads.values()):
            snapshot = rescue.Snapshot(archive, one)
            for run in snapshot.runs:
                self.needles.add(f"key of run {run.hex()[:8]}", archive.run_keys[run].run_key)
            self.needles.add("key dataset: secret", snapshot.sealed[10])
            self.needles.add("key dataset: chunk ids", rescue.kdf("exclave 2026 chunk id key v1", snapshot.sealed[10]))

        ours = {"passphrase", "passphrases", "passphrase-1", "passphrase-2", "passphrase-3", "credentials.toml", "restored"}
        cards = lambda path: path.suffix == ".html" and path.parent.name == "shares"
        self.search("sites", self.needles.in_tree(self.sites))
        if tap:
            self.assertIn(b"PUT /", bytes(tap.heard))
            self.assertGreater(len(tap.heard), 2_000_000)
            self.search("traffic", {"the tap": self.needles.in_bytes(bytes(tap.heard))})
        self.search("said", {"output": self.needles.in_bytes(b"\n".join(self.said))})
        self.search("environment", {"environ": self.needles.in_bytes(b"\0".join(self.environments))})
        self.search("command lines", {"cmdline": self.needles.in_bytes(b"\0".join(self.command_lines))})
        self.assertIn(b"combine", b"\0".join(self.command_lines))
        self.search("temporary", self.needles.in_tree(self.temporary))
        self.search("state", self.needles.in_tree(self.state))
        self.search("files", self.needles.in_tree(self.home, lambda path: path.relative_to(self.home).parts[0] in ours or cards(path)))
        self.assertEqual([path for path in self.place.rglob("*") if path.name.startswith("core")], [])
        # What is known to lie in the state folder does, so that the list above is no idle one.
        told = set().union(*self.needles.in_tree(self.state).values())
        self.assertTrue(any(name.startswith("name of a file") for name in told), told)
        self.assertTrue(any(name.startswith("key writer") for name in told), told)
        for path in (self.state, *self.state.rglob("*")):
            self.assertEqual(path.stat().st_mode & 0o077, 0, path)

    def test_a_plain_user_locks_what_keys_lie_in(self):
        """8 MiB may be locked by whoever is nobody: a share that waits for others is on a page that isn't swapped out."""
        if os.geteuid() != 0 or "4294967295" not in Path("/proc/self/uid_map").read_text():
            self.skipTest("another user can't be played here")
        self.passphrase = self.secret_word("passphrase", "the recovery identity")
        (self.home / "custodians.toml").write_text(CUSTODIANS)
        self.run_it("key", "generate", "--out", "recovery.key", *self.open)
        self.run_it("key", "split", "--identity", "recovery.key", "--custodians", "custodians.toml", "--out", "shares", "--no-cards", *self.open)
        for path in (self.place, self.home, *self.home.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        self.folder.chmod(0o711)

        def become():
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (8 << 20, 8 << 20))
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        words = ("key", "combine", "--set", "shares/shares.set", "--share", "shares/1-1-first.share", "--share", "-", *self.open)
        waiting = Watched(self, words, None, b"", become)
        deadline = time.monotonic() + HALF_A_MINUTE
        # The passphrase's Argon2id takes a moment; then it waits for what is typed.
        while waiting.popen.poll() is None and waiting.status("VmLck") == "0 kB" and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(1)
        locked = int(waiting.status("VmLck").split()[0])
        code, _, err = waiting.end()
        self.assertIn(code, (1, 2, 4, 5), err)
        self.assertTrue(4 <= locked <= 8192, locked)
