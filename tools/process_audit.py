"""An auditor's run-book, played by process_tests.py."""

import base64, json, re, shutil, subprocess, sys
from pathlib import Path

from blake3 import blake3

import rescue
from kill_world import PASSPHRASE
from process_world import Alone


class Audits(Alone):
    """docs/runbooks/audit.md: an auditor with the anchor, the addresses and the right to read, on a machine that has nothing but
    the program."""

    RUNBOOK = Path(__file__).parents[1] / "docs" / "runbooks" / "audit.md"

    def setUp(self):
        super().setUp()
        self.grow("deeds", 24)
        self.commits("deeds")
        self.fresh = self.world.folder / "fresh"
        (self.fresh / "bin").mkdir(parents=True)
        (self.fresh / "bin" / "exclave").symlink_to(self.binary)
        self.blocks = re.findall(r"^```sh\n(.*?)^```$", self.RUNBOOK.read_text(), re.M | re.S)
        self.assertEqual(len(self.blocks), 7)

    def play(self, number: int) -> subprocess.CompletedProcess:
        """A block of the run-book, behind the one that says which archive and where."""
        settings = re.sub(r"(?<=ANCHOR=)0+", self.box.anchor.hex(), self.blocks[0])
        settings = re.sub(r'(?<=SITES=")[^"]+', " ".join(f"--site file://{path}" for path in self.world.sites.values()), settings)
        self.assertNotEqual(settings, self.blocks[0])
        environment = {"PATH": f"{self.fresh / 'bin'}:/usr/bin:/bin", "HOME": str(self.fresh), "EXCLAVE_PASSPHRASE": PASSPHRASE}
        return subprocess.run(["/bin/bash", "-ec", settings + self.blocks[number]], cwd=self.fresh, env=environment, capture_output=True, text=True, timeout=300)

    def done(self, number: int, code: int = 0) -> str:
        played = self.play(number)
        self.assertEqual(played.returncode, code, played.stdout + played.stderr)
        return played.stdout

    def named(self):
        """The owner names the auditor in the charter."""
        shutil.copy(self.fresh / "auditor.pub", self.world.folder / "auditor.pub")
        for words in (("charter", "new"), None, ("charter", "sign", "charter.toml", "--root", "exclave-root.key"), ("charter", "publish", "charter.v2.charter")):
            if words is None:
                draft = self.world.folder / "charter.toml"
                draft.write_text(draft.read_text() + '\n[[member]]\nrole = "auditor"\nkey = "auditor.pub"\n')
                continue
            done = self.world.run(*words)
            self.assertEqual(done.code, 0, done.last_words())

    def test_the_run_book(self):
        self.done(1)
        refused = self.play(4)
        self.assertEqual((refused.returncode, "may not sign reports" in refused.stderr), (5, True), refused.stderr)
        self.named()
        before = {site: sorted(path.rglob("*")) for site, path in self.world.sites.items()}
        self.assertIn("[whole]", self.done(2))
        forecast = self.done(3)
        self.assertIn("An audit of mode full would read", forecast)
        self.assertIn("[whole]", self.done(4))
        self.assertEqual(self.done(5).count("[whole]"), 2)
        told = self.done(6)
        self.assertIn("both signatures verify", told)
        self.assertIn("computed again and agree", told)
        page = (self.fresh / "deep.html").read_text()
        self.assertEqual(("<script" in page, "http" in re.sub("http-equiv", "", page), "Not proven" in page), (False, False, True))
        for name in self.world.sources["deeds"].snapshot():
            for report in ("sample.dsse", "deep.dsse", "deep.html"):
                self.assertNotIn(name.encode() if len(name) > 8 else b"large-", (self.fresh / report).read_bytes())
        self.assertEqual(before, {site: sorted(path.rglob("*")) for site, path in self.world.sites.items()}, "an audit writes nothing")
        self.drawn_as_the_specification_says()

    def drawn_as_the_specification_says(self):
        """Seed and samples once more, from FORMAT.md section 20 and by another hand."""
        report = json.loads(base64.b64decode(json.loads((self.fresh / "sample.dsse").read_text())["payload"]))["predicate"]
        heads = b"".join(sorted(bytes.fromhex(head["hash"]) for head in report["heads"] if head["newest"]))
        logs = b"".join(log.key + log.incarnation + log.proven[0].to_bytes(8, "big") + log.proven[1] for log in self.logs())
        self.assertEqual(report["seed"]["logs_digest"], blake3(logs).hexdigest())
        seed = rescue.kdf("exclave 2026 audit seed v2",
                          self.box.anchor + blake3(heads).digest() + blake3(logs).digest() + bytes.fromhex(report["seed"]["nonce"]))
        self.assertEqual(seed.hex(), report["seed"]["seed"])
        for site in report["sites"]:
            population, size = site["population"], site["sample"]
            damaged, sound, miss = -(-population // 100), 0, 1.0
            while miss > 0.01:
                miss *= (population - damaged - sound) / (population - sound)
                sound += 1
            self.assertEqual(size, sound)
            draws = blake3(b"exclave audit sample v1\0" + bytes.fromhex(site["id"]) + population.to_bytes(8, "big") + size.to_bytes(8, "big"), key=seed)
            taken: set[int] = set()
            for place, last in enumerate(range(population - size, population)):
                drawn = int.from_bytes(draws.digest(length=16, seek=16 * place), "big") % (last + 1)
                taken.add(last if drawn in taken else drawn)
            numbers = b"".join(number.to_bytes(8, "big") for number in sorted(taken))
            self.assertEqual(blake3(numbers).hexdigest(), site["sample_digest"], site["name"])
            self.assertEqual(site["shards"]["ok"], size)

    def logs(self) -> list:
        """The logs as the independent decoder reads them."""
        stores = rescue.Stores([str(path) for path in self.world.sites.values()], self.box.anchor)
        history = rescue.read_history(list(stores.matching("charter/*", rescue.RECORD_CAP)), self.box.anchor)
        return rescue.read_logs(stores, self.box.anchor, history.by_number)

    def test_the_logs(self):
        self.done(1)
        self.named()
        anchor = self.box.anchor.hex()
        sites = [word for path in self.world.sites.values() for word in ("--site", f"file://{path}")]

        def told(*words: str, code: int = 0) -> str:
            done = self.command(*words)
            self.assertEqual(done.returncode, code, f"{words}: {done.stdout}{done.stderr}")
            return done.stdout
        public = ("--archive", anchor, *sites)
        shown = [json.loads(line) for line in told("log", "show", "--json", *public).splitlines()]
        ours = self.logs()
        self.assertEqual([(log["key"], log["size"]) for log in shown], [(log.key.hex(), len(log.entries)) for log in ours])
        self.assertIn("Every checkpoint leads to the next", told("log", "verify", *public))
        entries = [json.loads(line) for line in told("log", "show", "--entries", "", "--json", *public).splitlines()]
        head = [entry["hash"] for entry in entries if entry["kind"] == "head"][-1]
        told("log", "proof", head, "--out", "head.tlog-proof", *public)
        # Offline, by the program with the charter alone, and by the independent decoder.
        shutil.copy(self.world.folder / "charter.v2.charter", self.fresh / "charters")
        offline = ("--charter-file", "charters", "--archive", anchor)
        self.assertIn(head, told("log", "verify", "head.tlog-proof", *offline))
        decoder = [sys.executable, str(Path(rescue.__file__)), "log", "--anchor", anchor, "--site", *map(str, self.world.sites.values())]
        for more, wanted in (((), f"{len(ours[0].entries)} entries"), (("--proof", str(self.fresh / "head.tlog-proof")), head)):
            done = subprocess.run([*decoder, *more], capture_output=True, text=True, timeout=300)
            self.assertEqual((done.returncode, wanted in done.stdout), (0, True), done.stdout + done.stderr)
        proof = (self.fresh / "head.tlog-proof").read_text()
        (self.fresh / "bad.tlog-proof").write_text(proof.replace("index ", "index 1", 1))
        told("log", "verify", "bad.tlog-proof", *offline, code=5)
        # As other programs want it: tiles and bundles that lead to the checkpoint.
        told("log", "export", "out", *public)
        folder = self.fresh / "out" / ours[0].key.hex() / ours[0].incarnation.hex()
        checkpoint = rescue.read_checkpoint((folder / "checkpoint").read_bytes())
        bundle = rescue.read_bundle((folder / f"tile/entries/000.p/{checkpoint.size}").read_bytes(), checkpoint.size)
        leaves = [rescue.leaf_hash(entry) for entry in bundle]
        self.assertEqual((folder / f"tile/0/000.p/{checkpoint.size}").read_bytes(), b"".join(leaves))
        self.assertEqual(rescue.tree_root(leaves), checkpoint.root)
        # A report is logged by who may put.
        self.done(4)
        told("log", "add", "sample.dsse", "--key", "auditor.key", *public)
        self.assertIn("report", told("log", "verify", "sample.dsse.tlog-proof", "--record", "sample.dsse", *offline))
        self.assertEqual(len(self.logs()), 2)
        # A site that is set back, and a head that all hide.
        newest = sorted(next(iter(self.world.sites.values())).glob("*/log/*/*/checkpoint/*"))
        newest = [path for path in newest if ours[0].key.hex() in str(path)][-1]
        newest.unlink()
        self.assertIn("log-behind", told("log", "verify", *public, code=3))
        heads = sorted(next(iter(self.world.sites.values())).glob("*/heads/*/*/*"))[-1].name
        for path in self.world.sites.values():
            for hidden in path.glob(f"*/heads/*/*/{heads}"):
                hidden.unlink()
        self.assertIn("head-hidden", told("log", "verify", *public, code=3))

    def test_a_lost_shard_a_changed_one_and_a_lost_site(self):
        self.done(1)
        self.named()
        self.done(5)
        first, second, _ = self.world.sites.values()
        shards = sorted(first.glob("*/shards/*/*/*"))
        shards[0].unlink()
        victim = sorted(second.glob("*/shards/*/*/*"))[1]
        self.flip(victim)
        for report in ("full.dsse", "deep.dsse"):
            (self.fresh / report).rename(self.fresh / f"before-{report}")
        played = self.play(5)
        self.assertEqual((played.returncode, "[findings]" in played.stdout), (3, True), played.stdout + played.stderr)
        for path in (shards[0], victim):
            self.assertIn(path.name, played.stdout)
        compared = self.command("report", "diff", "before-full.dsse", "full.dsse", "--anchor", self.box.anchor.hex())
        self.assertEqual((compared.returncode, "WORSE" in compared.stdout), (3, True), compared.stdout + compared.stderr)
        for path in second.glob("*/shards/*/*/*"):
            path.unlink()
        (self.fresh / "full.dsse").unlink()
        played = self.play(5)
        self.assertEqual((played.returncode, "[unrecoverable]" in played.stdout), (4, True), played.stdout + played.stderr)

    def command(self, *words: str) -> subprocess.CompletedProcess:
        environment = {"HOME": str(self.fresh), "EXCLAVE_PASSPHRASE": PASSPHRASE}
        return subprocess.run([str(self.binary), *words], cwd=self.fresh, env=environment, capture_output=True, text=True, timeout=300)

    def flip(self, path: Path):
        path.chmod(0o644)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    def test_reports_that_are_not_to_be_believed(self):
        self.done(1)
        self.named()
        self.done(4)
        anchor, report = self.box.anchor.hex(), self.fresh / "sample.dsse"
        for name, words, code in (
            ("another archive", ("--anchor", "00" * 32), 5),
            ("no anchor", (), 2),
            ("right", ("--anchor", anchor), 0),
        ):
            done = self.command("report", "verify", "sample.dsse", *words)
            self.assertEqual(done.returncode, code, f"{name}: {done.stdout}{done.stderr}")
        envelope = json.loads(report.read_text())
        payload = base64.b64decode(envelope["payload"])
        for name, changed, code in (
            ("payload", payload.replace(b'"missing":0', b'"missing":1', 1), 5),
            ("not JSON", payload[:-1], 2),
            ("another field", payload.replace(b'"verdict":', b'"more":1,"verdict":', 1), 2),
        ):
            self.assertNotEqual(changed, payload)
            (self.fresh / "changed.dsse").write_text(json.dumps(envelope | {"payload": base64.b64encode(changed).decode()}))
            done = self.command("report", "verify", "changed.dsse", "--anchor", anchor)
            self.assertEqual(done.returncode, code, f"{name}: {done.stdout}{done.stderr}")
        (self.fresh / "unsigned.dsse").write_text(json.dumps(envelope | {"signatures": []}))
        self.assertEqual(self.command("report", "verify", "unsigned.dsse", "--anchor", anchor).returncode, 5)
        done = self.command("report", "verify", "unsigned.dsse", "--anchor", anchor, "--unsigned")
        self.assertEqual((done.returncode, "UNSIGNED" in done.stdout), (0, True), done.stderr)
