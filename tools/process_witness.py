"""Witnesses by the real program, played by process_tests.py: by the run-book, with two of them on loopback and a real replicate;
killed wherever they write; asked by strangers who don't mean well."""

import base64, concurrent.futures, errno, hashlib, http.client, json, os, re, shutil, signal, socket, subprocess, time
from pathlib import Path

import forge
import rescue
from kill_world import FAKETIME, Fault
from process_world import HALF_A_MINUTE, Alone

RUNBOOK = Path(__file__).parents[1] / "docs" / "runbooks" / "witness.md"
NATIONS = {"lu": "LU", "fi": "FI"}


class Served:
    """A witness that runs."""

    def __init__(self, case: "Watched", name: str, fault: Fault | None = None, more: tuple = ()):
        self.case, self.name = case, name
        folder = case.world.folder / name
        said = folder / f"said-{time.monotonic_ns()}"
        text = case.serve.replace("exclave witness", "exec exclave witness").replace("embassy.charter", case.charter).rstrip() + " " + " ".join(more)
        environment = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "HOME": str(folder), "LISTEN": f"127.0.0.1:{case.ports[name]}"}
        if fault:
            environment |= case.world.shim.environment(fault, folder / f"report-{time.monotonic_ns()}")
        with open(said, "w") as out:
            self.popen = subprocess.Popen(["/bin/bash", "-ec", text], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        case.addCleanup(self.kill)
        self.said = said
        deadline = time.monotonic() + HALF_A_MINUTE
        while "listening at" not in said.read_text() and self.popen.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)

    def kill(self):
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()

    def stop(self) -> int:
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(HALF_A_MINUTE)

    def ask(self, body: bytes, path="/add-checkpoint", method="POST", headers=None) -> tuple[int, str, str]:
        way = http.client.HTTPConnection("127.0.0.1", self.case.ports[self.name], timeout=HALF_A_MINUTE)
        try:
            way.request(method, path, body, headers or {})
            answer = way.getresponse()
            return answer.status, answer.getheader("content-type") or "", answer.read().decode()
        finally:
            way.close()


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return door.getsockname()[1]


class Watched(Alone):
    """An archive whose charter names two witnesses, each with a folder of its own."""

    def setUp(self):
        super().setUp()
        self.blocks = re.findall(r"^```(\w+)\n(.*?)^```$", RUNBOOK.read_text(), re.M | re.S)
        self.ports = {name: free_port() for name in NATIONS}
        self.anchor = self.box.anchor.hex()
        shell = [text for kind, text in self.blocks if kind == "sh"]
        self.made, self.begun, self.serve, self.shown = shell
        for name in NATIONS:
            (self.world.folder / name).mkdir()
            self.play(name, self.made)
            shutil.copy(self.world.folder / name / "witness.pub", self.world.folder / f"witness-{name}.pub")
        self.charter = str(self.published())
        with open(self.world.folder / "exclave.toml", "a") as file:
            for name in NATIONS:
                file.write(f'[[witness]]\nname = "{name}.example/w"\nurl = "http://127.0.0.1:{self.ports[name]}/add-checkpoint"\n')
        for name in NATIONS:
            self.play(name, self.begun)

    def play(self, name: str, block: str, code: int = 0) -> str:
        """A block of the run-book, on the ally's machine: Luxembourg's, with the other one's name in its place."""
        folder = self.world.folder / name
        (folder / "bin").mkdir(exist_ok=True)
        if not (folder / "bin" / "exclave").exists():
            (folder / "bin" / "exclave").symlink_to(self.world.binary)
        text = block.replace("lu.example", f"{name}.example").replace("embassy.charter", getattr(self, "charter", "embassy.charter"))
        environment = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "HOME": str(folder), "ANCHOR": self.anchor}
        done = subprocess.run(["/bin/bash", "-ec", text], cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def published(self) -> Path:
        draft, tables = self.world.folder / "charter.toml", next(text for kind, text in self.blocks if kind == "toml")
        self.expect("charter", "new")
        draft.write_text(draft.read_text() + "\n" + tables)
        explained = self.expect("charter", "explain", "charter.toml").out
        self.assertIn("2 witnesses in 2 nations vouch", explained)
        self.expect("charter", "sign", "charter.toml", "--root", "exclave-root.key")
        self.expect("charter", "publish", "charter.v2.charter")
        return self.world.folder / "charter.v2.charter"

    def expect(self, *words: str, code: int = 0):
        done = self.world.run(*words)
        self.assertEqual(done.code, code, done.last_words() + done.out + done.err)
        return done

    def serving(self, *names: str, **more) -> list[Served]:
        served = [Served(self, name, **more) for name in names or NATIONS]
        for one in served:
            self.assertIsNone(one.popen.poll(), one.said.read_text())
        return served


class Witnesses(Watched):
    def test_the_run_book(self):
        lu, fi = self.serving()
        said = self.commits("deeds")
        self.assertEqual(said["log"]["witnesses"]["cosigned"], ["lu.example/w", "fi.example/w"], said["log"])
        self.assertTrue(said["log"]["witnesses"]["quorum"], said["log"])
        # One of them is away: the commit is a commit, and says so.
        self.assertEqual(fi.stop(), 0)
        self.world.sources["deeds"].write("another", b"deed", 0o644)
        said = self.commits("deeds")
        self.assertEqual((said["log"]["witnesses"]["cosigned"], said["log"]["witnesses"]["quorum"]), (["lu.example/w"], False), said["log"])
        # The key's state is there once, and never again under the same key.
        self.assertIn("is that of a witness of archive", self.play("lu", self.begun, 5))
        # It comes back, and cosigns what it has missed.
        self.serving("fi")
        self.world.sources["deeds"].write("a third", b"deed", 0o644)
        said = self.commits("deeds")
        self.assertTrue(said["log"]["witnesses"]["quorum"], said["log"])
        self.assertEqual(lu.stop(), 0)
        self.whole("deeds")

    def test_without_its_state_it_does_not_start(self):
        lu, _ = self.serving()
        self.commits("deeds")
        lu.stop()
        state = self.world.folder / "lu" / "state"
        logs = list((state / "logs").iterdir())
        self.assertEqual(len(logs), 1)
        kept = logs[0].read_bytes()
        logs[0].unlink()
        lost = Served(self, "lu")
        self.assertEqual(lost.popen.wait(HALF_A_MINUTE), 5, lost.said.read_text())
        self.assertIn("the file of a log that was cosigned is gone", lost.said.read_text())
        logs[0].write_bytes(kept)
        self.serving("lu")

    def test_a_stolen_key_that_forks_its_log_is_convicted_offline(self):
        lu, _ = self.serving()
        self.commits("deeds")
        origin, size, _ = self.newest().decode().split("\n")[:3]
        writer = forge.Signer(rescue.read_keyfile((self.world.state / "writer.key").read_bytes(), None).secret)
        self.assertEqual(writer.id.hex(), origin.split("/")[2])
        body = f"{origin}\n{size}\n{base64.b64encode(bytes(32)).decode()}\n"
        for kind, key, signature in zip((b"\x01", b"\xffexclave/ml-dsa-65/v1"), (writer.public[:32], writer.public[32:]), writer.sign_bytes(body.encode())):
            name = hashlib.sha256(origin.encode() + b"\n" + kind + key).digest()[:4]
            body += ("\n" if kind == b"\x01" else "") + f"\u2014 {origin} {base64.b64encode(name + signature).decode()}\n"
        self.assertEqual(lu.ask(f"old {size}\n\n{body}".encode()), (409, "text/x.tlog.size", f"{size}\n"))
        self.assertIn("ALARM: another tree of", lu.said.read_text())
        # The file convicts by itself, at the ally's, with no site and no witness in reach.
        self.assertEqual(lu.stop(), 0)
        shutil.move(self.world.folder / "sites", self.world.folder / "gone")
        self.addCleanup(lambda: shutil.move(self.world.folder / "gone", self.world.folder / "sites"))
        said = self.play("lu", self.shown)
        self.assertIn(origin, said)

    def newest(self) -> bytes:
        """The newest checkpoint at a site, with the most signatures."""
        found = [path for site in self.world.sites.values() for path in site.rglob("*") if path.parent.name == "checkpoint"]
        return max(found, key=lambda path: (path.name.split(".")[0], path.stat().st_size)).read_bytes()

    def restored(self, *more: str) -> tuple[int, dict, str]:
        to = self.world.folder / f"restored-{time.monotonic_ns()}"
        addresses = [part for path in self.world.sites.values() for part in ("--site", f"file://{path}")]
        done = self.world.run("--config", "/dev/null", "--json", "restore", "--identity", "recovery.key", "--dataset", "deeds", "--to", str(to), *addresses, *more)
        return done.code, json.loads(done.out) if done.out else {}, done.err

    def test_sites_that_are_all_set_back_are_found_out(self):
        self.serving()
        self.commits("deeds")
        old = {name: self.world.folder / f"old-{name}" for name in self.world.sites}
        for name, path in self.world.sites.items():
            shutil.copytree(path, old[name])
        self.world.sources["deeds"].write("newer", b"deed", 0o644)
        head = self.commits("deeds")["head"]
        code, said, err = self.restored()
        self.assertEqual((code, said["freshness"], said["snapshot"]), (0, "F1", head), err)
        self.assertIn("not proven: lives of writers whose logs all sites hide", said["freshness_says"])
        brought = self.world.folder / "brought.checkpoint"
        brought.write_bytes(self.newest())
        self.assertEqual(self.restored("--checkpoint", str(brought))[0], 0)
        for name, path in self.world.sites.items():
            for entry in path.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            shutil.copytree(old[name], path, dirs_exist_ok=True)
        # Whoever knows nothing can't know; whoever brings a checkpoint, or asks a witness, does.
        kept = self.world.folder / "kept"
        code, said, err = self.restored("--checkpoint", str(brought), "--evidence", str(kept))
        self.assertEqual((code, said), (6, {}), err)
        self.assertIn("they were all set back, or hide what is newer", err)
        (report,) = kept.iterdir()
        self.assertEqual(json.loads(report.read_text())["checkpoint"].encode(), brought.read_bytes())
        code, said, err = self.restored("--checkpoint", str(brought), "--accept-stale")
        self.assertEqual((code, said["freshness"]), (6, "F2"), err)
        done = self.world.run("snapshots", "--identity", "recovery.key", "--ask-witnesses")
        self.assertEqual(done.code, 6, done.err)
        self.assertIn("set back together", done.err)
        done = self.world.run("witness", "ask")
        self.assertEqual(done.code, 6, done.last_words() + done.out)
        self.assertIn("this log was set back", done.out)

    def test_a_backdated_report_is_found_out_offline(self):
        if not FAKETIME.is_file():
            self.skipTest("libfaketime isn't installed")
        self.serving()
        self.commits("deeds")
        then = self.world.folder / "then.checkpoint"
        then.write_bytes(self.newest())
        self.world.sources["deeds"].write("newer", b"deed", 0o644)
        self.commits("deeds")
        # An audit of today that says it was last year's; and an honest one.
        for name, years, code in (("last-year", -1, 5), ("today", 0, 0)):
            self.world.run("audit", "--mode", "heads", "--report", name, years=years)
            words = ("report", "verify", name, "--unsigned", "--anchor", self.anchor)
            self.expect(*words)
            said = self.expect(*words, "--checkpoint", str(then), code=code)
            self.assertEqual("backdated" in said.err, code == 5, said.err)

    def requests(self) -> list[bytes]:
        """What the agent sends, as somebody in the middle sees it: requests for three sizes of its log."""
        seen = []
        door = socket.create_server(("127.0.0.1", self.ports["lu"]))
        door.settimeout(HALF_A_MINUTE)

        def one():
            way, _ = door.accept()
            with way, way.makefile("rb") as file:
                length = 0
                while (line := file.readline().strip()):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                seen.append(file.read(length))
                way.sendall(b"HTTP/1.1 503 no\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        with concurrent.futures.ThreadPoolExecutor() as pool, door:
            for number in range(3):
                self.world.sources["deeds"].write(f"deed {number}", os.urandom(100), 0o644)
                waiting = pool.submit(one)
                self.commits("deeds")
                waiting.result()
        return seen

    def test_killed_wherever_it_writes_it_remembers_what_it_said(self):
        requests = self.requests()
        first, last = requests[0], requests[-1]
        body = last.split(b"\n\n", 1)[1]
        sizes = [int(request.split(b"\n\n", 1)[1].split(b"\n")[1]) for request in requests]
        self.assertEqual(sizes, sorted(set(sizes)))
        state, clean = self.world.folder / "lu" / "state", self.world.folder / "clean"
        shutil.copytree(state, clean)
        kills = answers = 0
        for at in range(1, 14):
            shutil.rmtree(state)
            shutil.copytree(clean, state)
            served = Served(self, "lu", fault=Fault(f"{state}/logs:{state}/origins", at, "kill"))
            status = 0
            try:
                status, _, text = served.ask(b"old 0\n\n" + first.split(b"\n\n", 1)[1])
            except (OSError, http.client.HTTPException):
                pass
            served.kill()
            kills += served.popen.returncode == -9 and status != 200
            answers += status == 200
            # Whatever it said before it died it knows afterwards: only a size that is on the disk was ever cosigned.
            again = Served(self, "lu")
            self.assertIsNone(again.popen.poll(), again.said.read_text())
            status_again, kind, text = again.ask(b"old 0\n\n" + body)
            if status == 200:
                self.assertEqual((status_again, kind, text), (409, "text/x.tlog.size", f"{sizes[0]}\n"), f"killed at call {at}")
            else:
                self.assertIn(status_again, (200, 409), text)
            again.kill()
        self.assertGreater(kills, 2)
        self.assertGreater(answers, 0)

    def test_a_full_disk_cosigns_nothing(self):
        first, *_ = self.requests()
        body = b"old 0\n\n" + first.split(b"\n\n", 1)[1]
        state = self.world.folder / "lu" / "state"
        served = Served(self, "lu", fault=Fault(f"{state}/logs", 1, errno=errno.ENOSPC))
        status, _, text = served.ask(body)
        self.assertEqual((status, "—" in text), (503, False), text)
        served.kill()
        (served,) = self.serving("lu")
        self.assertEqual(served.ask(body)[0], 200)

    def test_strangers_are_answered_and_bounded(self):
        (served,) = self.serving("lu")
        cases = [(b"", 400), (b"old 0\n", 400), (b"\xff" * 100, 400), (b"x" * (1 << 20), 413), (b"old 0\n\nsomebody/else\n1\n" + b"A" * 43 + b"=\n\n\xe2\x80\x94 somebody/else AAAAAAAA\n", 404)]
        for body, status in cases:
            self.assertEqual(served.ask(body)[0], status, body[:60])
        self.assertEqual(served.ask(b"", method="GET")[0], 405)
        self.assertEqual(served.ask(b"", path="/")[0], 404)
        self.assertGreaterEqual(served.ask(b"", headers={f"x-{i}": "y" for i in range(60)})[0], 400)
        # Whoever opens connections and says nothing keeps nobody out for long.
        idle = [socket.create_connection(("127.0.0.1", self.ports["lu"])) for _ in range(80)]
        began = time.monotonic()
        self.assertEqual(served.ask(b"")[0], 400)
        self.assertLess(time.monotonic() - began, HALF_A_MINUTE)
        for way in idle:
            way.close()
        self.assertEqual(served.stop(), 0)
