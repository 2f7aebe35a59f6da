"""Repairs by the real program, played by process_tests.py: by the run-book, and killed wherever it writes."""

import random, re, subprocess
from pathlib import Path

from kill_world import Fault
from process_world import Alone


class Repairs(Alone):
    """docs/runbooks/repair.md: an ally with the anchor, the addresses and the right to put, on a machine that has nothing but the
    program."""

    RUNBOOK = Path(__file__).parents[1] / "docs" / "runbooks" / "repair.md"

    def setUp(self):
        super().setUp()
        self.grow("deeds", 48)
        self.commits("deeds")
        self.fresh = self.world.folder / "fresh"
        (self.fresh / "bin").mkdir(parents=True)
        (self.fresh / "bin" / "exclave").symlink_to(self.binary)
        self.blocks = re.findall(r"^```sh\n(.*?)^```$", self.RUNBOOK.read_text(), re.M | re.S)
        self.assertEqual(len(self.blocks), 3)
        self.sound = self.everything()

    def everything(self) -> dict[Path, bytes]:
        files = [path for site in self.world.sites.values() for path in site.rglob("*") if path.is_file()]
        return {path: path.read_bytes() for path in files}

    def good(self) -> int:
        """How many objects are there and as they were."""
        now = self.everything()
        return sum(now.get(path) == data for path, data in self.sound.items())

    def damage(self, dice: random.Random):
        """Of each stripe one shard is gone, cut or changed: as many as it can bear. Each site has lost a small record."""
        stripes: dict[tuple[str, str], list[Path]] = {}
        for path in self.sound:
            if "/shards/" in str(path):
                stripes.setdefault((path.parent.name, path.name.split(".")[0]), []).append(path)
        self.assertGreaterEqual(len(stripes), 3)
        victims = [dice.choice(sorted(shards)) for shards in stripes.values()]
        for site, text in zip(self.world.sites.values(), ("/ledger.", "/heads/", "/envelope.")):
            victims.append(next(path for path in sorted(self.sound) if path.is_relative_to(site) and text in str(path)))
        for path in victims:
            path.chmod(0o644)
            data = bytearray(self.sound[path])
            data[dice.randrange(len(data))] ^= 1
            match dice.randrange(3):
                case 0: path.unlink()
                case 1: path.write_bytes(data)
                case 2: path.write_bytes(data[:len(data) // 2])
        self.assertEqual(self.good(), len(self.sound) - len(victims))

    def play(self, number: int) -> subprocess.CompletedProcess:
        """A block of the run-book, behind the one that says which archive and where."""
        settings = re.sub(r"(?<=ANCHOR=)0+", self.box.anchor.hex(), self.blocks[0])
        settings = re.sub(r'(?<=SITES=")[^"]+', " ".join(self.addresses()), settings)
        self.assertNotEqual(settings, self.blocks[0])
        environment = {"PATH": f"{self.fresh / 'bin'}:/usr/bin:/bin", "HOME": str(self.fresh)}
        return subprocess.run(["/bin/bash", "-ec", settings + self.blocks[number]], cwd=self.fresh, env=environment, capture_output=True, text=True, timeout=300)

    def addresses(self) -> list[str]:
        return [part for path in self.world.sites.values() for part in ("--site", f"file://{path}")]

    def test_the_run_book(self):
        self.damage(random.Random(2))
        before = self.everything()
        planned = self.play(1)
        self.assertEqual((planned.returncode, "Nothing was written" in planned.stdout), (3, True), planned.stdout + planned.stderr)
        self.assertEqual(self.everything(), before)
        done = self.play(2)
        self.assertEqual((done.returncode, "mended" in done.stdout), (0, True), done.stdout + done.stderr)
        self.assertEqual(self.everything(), self.sound)
        again = self.play(1)
        self.assertEqual((again.returncode, "nothing to mend" in again.stdout), (0, True), again.stdout + again.stderr)
        self.whole("deeds")

    def test_killed_wherever_it_writes_it_makes_nothing_worse(self):
        words = ["--config", "/dev/null", "--json", "repair", "--archive", self.box.anchor.hex(), *self.addresses()]
        kills = 0
        stores = ":".join(f"{path}/" for path in self.world.sites.values())
        for at in (1, 2, 4, 7, 11, 16, 22, 29):
            for gone in self.everything().keys() - self.sound.keys():
                gone.unlink()       # what a killed put left beside
            self.damage(random.Random(at))
            before = self.good()
            done = self.world.run(*words, fault=Fault(stores, at, "kill"))
            kills += done.code == -9
            self.assertIn(done.code, (0, -9), done.last_words())
            self.assertGreaterEqual(self.good(), before, f"killed at call {at}")
            done = self.world.run(*words)
            self.assertEqual(done.code, 0, done.last_words())
            self.assertEqual(self.good(), len(self.sound))
        self.assertGreater(kills, 2)
        self.whole("deeds")
