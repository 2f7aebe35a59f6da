"""Signing keys whose Ed25519 half lies in a PKCS#11 token: SoftHSM2's, each with a folder of its own."""

import json, os, random, re, shutil, subprocess, tempfile
from pathlib import Path

import rescue
from kill_world import PASSPHRASE, Source, tree_of
from process_case import Case

# Debian puts it into one of these; tools/setup installs it.
MODULES = [Path("/usr/lib/softhsm/libsofthsm2.so"), *Path("/usr/lib").glob("*/softhsm/libsofthsm2.so")]
PINS = {"roots": "654321", "writers": "987654"}


class Token(Case):
    def setUp(self):
        self.module = next((path for path in MODULES if path.is_file()), None)
        if self.module is None or shutil.which("softhsm2-util") is None:
            self.skipTest("SoftHSM2 isn't installed: tools/setup")
        self.place = Path(self.enterContext(tempfile.TemporaryDirectory(dir=self.folder)))
        (self.place / "tokens").mkdir()
        (self.place / "softhsm2.conf").write_text(f"directories.tokendir = {self.place}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(self.place), "EXCLAVE_PASSPHRASE": PASSPHRASE,
                            "SOFTHSM2_CONF": str(self.place / "softhsm2.conf")}
        for label, pin in PINS.items():
            subprocess.run(["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "11223344", "--pin", pin],
                           env=self.environment, check=True, capture_output=True)
            self.private(f"{label}.pin", pin + "\n")
        self.sites = {name: self.place / "sites" / name for name in "abc"}
        for path in self.sites.values():
            path.mkdir(parents=True)
        self.source = Source(self.place / "source", random.Random(8))
        (self.place / "exclave.toml").write_text(
            'state_dir = "state"\n[class]\ncode = "2+1"\npayload = "2112KiB"\n'
            + "".join(f'[[site]]\nname = "{name}"\naddress = "file://{path}"\n' for name, path in self.sites.items())
            + f'[[dataset]]\nname = "deeds"\npath = "{self.source.folder}"\n')

    def private(self, name: str, text: str):
        (self.place / name).write_text(text)
        (self.place / name).chmod(0o600)

    def run_it(self, *words: str, code: int = 0, module: Path | None = None, pins: tuple[str, ...] = ("roots=roots.pin", "writers=writers.pin")):
        """Its documents on standard output, and its words on standard error."""
        tokens = ["--token-module", str(module or self.module), *(part for pin in pins for part in ("--token-pin-file", pin))]
        done = subprocess.run([self.binary, "--json", *words, *tokens], cwd=self.place, env=self.environment, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, start_new_session=True, timeout=120)
        self.assertEqual(done.returncode, code, f"{words}: {done.stdout}{done.stderr}")
        self.assertNotIn("panicked", done.stderr)
        for pin in PINS.values():
            self.assertNotIn(pin, done.stdout + done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{") and line.endswith("}")], done.stderr

    def generate(self, role: str, token: str, name: str) -> dict:
        self.run_it("key", "generate", "--role", role, "--token", token, "--out", f"{name}.key", "--public", f"{name}.pub")
        done = subprocess.run([self.binary, "--json", "key", "show", f"{name}.key"], cwd=self.place, capture_output=True, check=True, env=self.environment)
        return json.loads(done.stdout)

    def found(self):
        shown = self.generate("root", "roots", "root"), self.generate("writer", "writers", "writer")
        self.run_it("key", "generate", "--out", "recovery.key")
        self.run_it("init", "--recovery", "recovery.key", "--use-root", "root.key", "--use-writer", "writer.key")
        return shown

    def objects(self, label: str) -> list[str]:
        """What a token's folder holds, by the files' names."""
        return sorted(str(path) for path in (self.place / "tokens").rglob("*.object"))

    def comes_back(self):
        target = self.place / "restored"
        shutil.rmtree(target, ignore_errors=True)
        self.run_it("restore", "--identity", "recovery.key", "--to", str(target))
        self.assertEqual(tree_of(target), self.source.snapshot())

    def test_an_archive_is_founded_and_changed_by_keys_in_tokens(self):
        root, writer = self.found()
        self.assertEqual((root["token"]["label"], writer["token"]["label"]), ("roots", "writers"))
        self.assertEqual(len(self.objects("roots")), 2 * 2 + 2, "two pairs, and a token's own object of each")
        self.run_it("replicate")
        self.comes_back()
        # The decoder that was written from FORMAT.md knows nothing of tokens: signatures are signatures.
        key = rescue.read_keyfile((self.place / "recovery.key").read_bytes(), lambda: PASSPHRASE.encode())
        archive = rescue.Archive([str(path) for path in self.sites.values()], key.archive, rescue.XWing(key.secret))
        [head] = archive.heads.values()
        self.assertEqual(head.value[3].hex(), writer["key"])
        # Another root joins, and the next version is signed by both: by a token and by a file.
        self.run_it("key", "generate", "--role", "root", "--out", "second.key", "--public", "second.pub")
        self.run_it("charter", "new", "--out", "more.toml")
        draft = self.place / "more.toml"
        text = draft.read_text()
        self.assertIn("[roots]\nthreshold = 1\nkeys = [", text)
        draft.write_text(text.replace("[roots]\nthreshold = 1\nkeys = [", '[roots]\nthreshold = 2\nkeys = ["second.pub", '))
        self.run_it("charter", "sign", "more.toml", "--root", "root.key")
        self.run_it("charter", "sign", "more.v2.charter", "--root", "second.key")
        self.run_it("charter", "publish", "more.v2.charter")
        self.source.change()
        self.run_it("replicate")
        self.comes_back()
        self.assertEqual(rescue.Archive([str(path) for path in self.sites.values()], key.archive, rescue.XWing(key.secret)).charters.newest.value[1], 2)

    def test_a_restorer_gives_and_wraps_by_a_token(self):
        self.found()
        self.run_it("replicate")
        self.generate("restorer", "roots", "restorer")
        self.run_it("key", "generate", "--out", "ally.key", "--public", "ally.pub")
        self.run_it("charter", "new")
        draft = self.place / "charter.toml"
        before, behind = draft.read_text().split("[[recipients]]\n")
        draft.write_text(f'{before}[[member]]\nrole = "restorer"\nkey = "restorer.pub"\n\n[[recipients]]\n'
                         + behind.replace("keys = [", 'keys = ["ally.pub", ', 1))
        self.run_it("charter", "sign", "charter.toml", "--root", "root.key")
        self.run_it("charter", "publish", "charter.v2.charter")
        opened = ("--identity", "recovery.key", "--restorer", "restorer.key")
        self.run_it("key", "rewrap", *opened)
        [snapshot] = self.run_it("snapshots", "--identity", "recovery.key")[0]
        self.run_it("grant", "give", snapshot["snapshot"], "--to", "ally.pub", *opened)
        self.run_it("restore", "--identity", "ally.key", "--archive", snapshot.get("archive") or self.anchor(), "--verify")

    def anchor(self) -> str:
        return rescue.read_keyfile((self.place / "recovery.key").read_bytes(), lambda: PASSPHRASE.encode()).archive.hex()

    def test_a_token_that_is_gone_loses_nothing(self):
        self.found()
        self.run_it("replicate")
        shutil.move(self.place / "tokens", self.place / "drawer")
        (self.place / "tokens").mkdir()
        self.source.change()
        _, err = self.run_it("replicate", code=1)
        self.assertRegex(err, r'token "writers" \(serial number [0-9a-f]+\) is not there')
        self.run_it("charter", "new")
        _, err = self.run_it("charter", "sign", "charter.toml", "--root", "root.key", code=5)
        self.assertRegex(err, 'token "roots" .* is not there')
        self.assertFalse((self.place / "charter.v2.charter").exists())
        # Whoever restores needs no token.
        before = tree_of(self.place / "source")
        self.run_it("restore", "--identity", "recovery.key", "--verify")
        shutil.rmtree(self.place / "tokens")
        shutil.move(self.place / "drawer", self.place / "tokens")
        self.run_it("replicate")
        self.comes_back()
        self.assertEqual(before, tree_of(self.place / "source"))

    def test_what_is_wrong_is_said(self):
        self.found()
        self.private("wrong.pin", "111111\n")
        for attempt in (1, 2):
            _, err = self.run_it("charter", "new", "--out", f"draft-{attempt}.toml")
            _, err = self.run_it("charter", "sign", f"draft-{attempt}.toml", "--root", "root.key", code=5, pins=("wrong.pin",))
            self.assertIn('the PIN is not that of token "roots"', err)
            self.assertIn("typed wrongly before", err)
        _, err = self.run_it("charter", "sign", "draft-1.toml", "--root", "root.key", code=5, pins=())
        self.assertIn("no terminal to ask at", err)
        _, err = self.run_it("charter", "sign", "draft-1.toml", "--root", "root.key", code=5, module=self.place / "nowhere.so")
        self.assertIn("is no file", err)
        _, err = self.run_it("charter", "sign", "draft-1.toml", "--root", "root.key", code=5, module=self.place / "exclave.toml")
        self.assertIn("can't be used", err)
        # A passphrase that is wrong costs no try of the PIN.
        self.environment["EXCLAVE_PASSPHRASE"] = "another"
        _, err = self.run_it("charter", "sign", "draft-1.toml", "--root", "root.key", code=5, pins=("wrong.pin",))
        self.assertIn("the passphrase does not open the key", err)
        self.environment["EXCLAVE_PASSPHRASE"] = PASSPHRASE
        # The pair of another key, under this one's name.
        root, writer = ((self.place / f"{name}.key").read_text() for name in ("root", "writer"))
        other = self.generate("root", "roots", "other")
        (self.place / "root.key").write_text(root.replace(self.id_in(root), other["token"]["id"]))
        _, err = self.run_it("charter", "sign", "draft-1.toml", "--root", "root.key", code=5)
        self.assertIn('the key in token "roots" is another', err)
        (self.place / "root.key").write_text(root.replace(self.id_in(root), "00" * 16))
        _, err = self.run_it("charter", "sign", "draft-1.toml", "--root", "root.key", code=5)
        self.assertIn('holds 0 keys with the id', err)
        (self.place / "root.key").write_text(root)
        self.run_it("charter", "sign", "draft-1.toml", "--root", "root.key")
        # No library is named by a file.
        (self.place / "writer.key").write_text(writer.replace("[token]", f'[token]\nmodule = "{self.module}"'))
        _, err = self.run_it("key", "install", "writer.key", code=2)
        self.assertIn("unknown field", err)

    def id_in(self, text: str) -> str:
        return re.search(r'^id = "([0-9a-f]+)"$', text, re.M)[1]
