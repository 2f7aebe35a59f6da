"""An air gap, played by process_tests.py: docs/runbooks/charter.md, with the codes read by another program's decoder (ZXing)."""

import json, random, re, subprocess
from pathlib import Path

import zxingcpp

from kill_world import PASSPHRASE
from process_world import Alone

QUIET = 4                                       # modules of white around a code


def read_code(modules: list[str], scale: int = 3) -> str:
    """The text of one QR code, drawn in letters: # is black."""
    width = max(map(len, modules)) + 2 * QUIET
    rows = [" " * width] * QUIET + [" " * QUIET + row.ljust(width - QUIET) for row in modules] + [" " * width] * QUIET
    image = b"".join(bytes(0 if letter == "#" else 255 for letter in row for _ in range(scale)) * scale for row in rows)
    found = zxingcpp.read_barcodes(memoryview(image).cast("B", (len(rows) * scale, width * scale)), formats=zxingcpp.BarcodeFormat.QRCode)
    assert len(found) == 1, f"{len(found)} codes"
    return found[0].text


def of_svg(svg: str) -> str:
    """A code on a page: black rectangles of one path."""
    path = re.search(r' d="([^"]+)"', svg)[1]
    boxes = [tuple(map(int, box)) for box in re.findall(r"M(\d+) (\d+)h(\d+)v(\d+)", path)]
    side = min(height for _, _, _, height in boxes)
    left, top = min(x for x, *_ in boxes), min(y for _, y, *_ in boxes)
    black = {((x - left) // side + step, (y - top) // side) for x, y, width, _ in boxes for step in range(width // side)}
    size = 1 + max(max(cell) for cell in black)
    return read_code(["".join("#" if (x, y) in black else " " for x in range(size)) for y in range(size)])


def of_terminal(lines: list[str]) -> str:
    """A code in a terminal: two modules a character, black on white."""
    halves = {" ": "  ", "█": "##", "▀": "# ", "▄": " #"}
    rows = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    both = [["".join(halves[letter][half] for letter in row) for half in (0, 1)] for row in rows]
    return read_code([row for pair in both for row in pair])


class AirGap(Alone):
    RUNBOOK = Path(__file__).parents[1] / "docs" / "runbooks" / "charter.md"

    def setUp(self):
        super().setUp()
        self.air = self.world.folder / "air"
        self.air.mkdir()
        self.told("key", "generate", "--role", "root", "--out", "air/root-1.key", "--public", "root-1.pub")
        self.told("charter", "new", "--out", "next.toml")
        draft = self.world.folder / "next.toml"
        text = draft.read_text()
        changed = text.replace("threshold = 1\nkeys = [", 'threshold = 2\nkeys = ["root-1.pub", ')
        self.assertNotEqual(text, changed)
        draft.write_text(changed)
        section = self.RUNBOOK.read_text().split("## A root key on a machine without a network\n")[1]
        self.lines = [line.split("    #")[0].strip() for line in re.search(r"```sh\n(.*?)```", section, re.S)[1].splitlines()]

    def told(self, *words: str, folder: Path | None = None, code: int = 0) -> subprocess.CompletedProcess:
        done = subprocess.run([self.binary, *words], cwd=folder or self.world.folder, capture_output=True, text=True,
                              env={"EXCLAVE_PASSPHRASE": PASSPHRASE})
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def step(self, begin: str, **more) -> subprocess.CompletedProcess:
        """A line of the run-book."""
        line = next(line for line in self.lines if line.startswith(f"exclave {begin}"))
        line = line.replace('"9e4f 01c2 77d0 5a1b"', self.digest[:16])
        return self.told(*line.split()[1:], **more)

    def test_a_charter_crosses_as_codes_and_a_signature_comes_back(self):
        explained = json.loads(self.told("--json", "charter", "explain", "next.toml").stdout)
        self.digest = explained["digest"]
        self.step("charter show next.toml")
        page = (self.world.folder / "next.html").read_text()
        codes = [of_svg(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.S)]
        self.assertGreater(len(codes), 5)
        random.Random(7).shuffle(codes)
        # One was filmed twice, one not at all; and one of another page is among them.
        (self.air / "scan.txt").write_text("\n".join([*codes[1:], codes[2]]))
        missing = int(codes[0].split("/")[2])
        self.assertIn(f"these are missing: {missing}", self.step("charter explain scan.txt", folder=self.air, code=5).stderr)
        self.told("charter", "show", "next.charter", "--parts", "text", "--parts-out", "other.txt")
        other = (self.world.folder / "other.txt").read_text().splitlines()
        (self.air / "scan.txt").write_text("\n".join([*codes, other[0]]))
        self.assertIn("part 1 (line", self.step("charter explain scan.txt", folder=self.air, code=5).stderr)
        (self.air / "scan.txt").write_text("\n".join(codes))
        self.assertIn(self.digest[:4], self.step("charter explain scan.txt", folder=self.air).stdout)
        shown = self.step("charter sign scan.txt", folder=self.air).stdout.splitlines()
        frames = "\n".join(shown).split("part ")[1:]
        back = [of_terminal([line for line in frame.splitlines() if line.startswith("\x1b[")]) for frame in frames]
        self.assertLess((self.air / "back").stat().st_size, 3500)
        self.assertGreater(len(back), 3)
        (self.world.folder / "back.txt").write_text("\n".join(reversed(back)))
        self.step("charter sign next.toml")
        self.told("charter", "sign", "next.v2.charter", "--root", "exclave-root.key")
        self.told("charter", "publish", "next.v2.charter")
        self.assertEqual(json.loads(self.told("--json", "charter", "show").stdout)["version"], 2)
