"""A ministry's dataset and the sealed directory, played by process_tests.py from docs/runbooks/charter.md, and read by rescue.py."""

import json, re, subprocess
from pathlib import Path

from kill_world import PASSPHRASE
from process_world import Alone, decoder


class Tenants(Alone):
    RUNBOOK = Path(__file__).parents[1] / "docs" / "runbooks" / "charter.md"

    def told(self, line: str, code: int = 0) -> subprocess.CompletedProcess:
        done = subprocess.run([self.binary, *line.split()], cwd=self.world.folder, capture_output=True, text=True,
                              env={"EXCLAVE_PASSPHRASE": PASSPHRASE})
        self.assertEqual(done.returncode, code, line + done.stdout + done.stderr)
        return done

    def section(self, title: str) -> list[tuple[str, str]]:
        """Language and text of each block."""
        text = self.RUNBOOK.read_text().split(f"## {title}\n")[1].split("\n## ")[0]
        return re.findall(r"```(\w+)\n(.*?)```", text, re.S)

    def lines(self, block: str) -> list[str]:
        lines = [line.split("   #")[0].strip() for line in block.splitlines()]
        return [line.removeprefix("exclave ") for line in lines if line.startswith("exclave ")]

    def test_a_ministry_adds_a_dataset_and_the_other_decoder_reads_what_was_said(self):
        (_, rules), (_, commands) = self.section("A ministry adds a dataset, and demands more for it")
        self.told("key generate --role administrator --out ministry.key --public ministry.pub")
        self.told("charter new --out next.toml")
        draft = self.world.folder / "next.toml"
        draft.write_text(f"{draft.read_text()}\n{rules}")
        self.told("charter sign next.toml --root exclave-root.key")
        self.told("charter publish next.v2.charter")
        refused = self.told("replicate --name deeds", code=5).stderr
        self.assertIn("rule registered-datasets", refused)
        dataset = re.search(r"exclave dataset add ([0-9a-f]{32})", refused)[1]
        for line in self.lines(commands):
            self.told(line.replace("ID", dataset))
        self.told("replicate --name deeds")
        self.directory(dataset)

    def directory(self, dataset: str):
        ((_, commands),) = self.section("Names and contacts")
        new, *others = self.lines(commands)
        self.told(new)
        draft = self.world.folder / "directory.toml"
        draft.write_text(re.sub(r'name = "deeds"\n', 'name = "deeds"\nowner = "Kammergericht"\n', draft.read_text()).replace("tier = 3", "tier = 0"))
        for line in others:
            if "root-2.key" not in line:                    # there is one root here
                self.told(line.replace("root-1.key", "exclave-root.key"))
        self.assertIn("Kammergericht", self.told("directory show --identity recovery.key").stdout)
        sites = [word for place in self.world.sites.values() for word in ("--site", str(place))]
        code, said, err = decoder("names", "--identity", str(self.world.folder / "recovery.key"), *sites)
        self.assertEqual(code, 0, said + err)
        self.assertNotIn("ignored", err)
        self.assertIn('owner = "Kammergericht"', said)
        self.assertIn(f"# dataset {dataset}: class 0, losses, liars, read-back [0, 0, 1]", said)
        self.assertEqual(self.box.look(), [])
        audit = json.loads(self.told("--json audit --mode full").stdout)
        self.assertEqual((audit["verdict"], audit["datasets"][0]["registered"]), ("whole", 2))
