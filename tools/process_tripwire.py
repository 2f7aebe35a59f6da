"""A source that ransomware went through, before the real program; played by process_tests.py."""

import json, random
from pathlib import Path

from kill_world import tree_of
from process_world import Alone


class Tripwires(Alone):
    """Four fifths of a dataset turn to noise: told, said in the head, and the snapshot before restores."""

    def setUp(self):
        super().setUp()
        self.register = self.world.folder / "register"
        self.register.mkdir()
        for number in range(50):
            dice = random.Random(number)
            lines = (f"{dice.randrange(10**6):06};parcel;{dice.randrange(100)}\n" for _ in range(3000))
            self.write(f"sheet-{number:02}.csv", "".join(lines).encode())

    def write(self, name: str, data: bytes):
        (self.register / name).write_bytes(data)

    def replicate(self, *more: str) -> tuple[int, dict]:
        done = self.world.run("replicate", str(self.register), "--name", "register", "--new-dataset", *more)
        return done.code, json.loads(done.out)["snapshots"][0]

    def tripped(self, *more: str) -> tuple[int, list[str]]:
        code, said = self.replicate(*more)
        self.assertEqual(said["outcome"], "committed")
        return code, [wire["wire"] for wire in said["tripwires"]]

    def test_four_fifths_turned_to_noise(self):
        self.assertEqual(self.tripped(), (0, []))
        self.write("sheet-07.csv", b"one sheet was emptied\n")
        code, good = self.replicate()
        self.assertEqual((code, good["tripwires"]), (0, []))
        before = tree_of(self.register)
        for number in range(40):
            self.write(f"sheet-{number:02}.csv", random.Random(-number).randbytes(60_000))
        self.assertEqual(self.tripped(), (3, ["changed", "noise"]))
        listed = self.world.run("snapshots", "--identity", "recovery.key")
        wires = {one["seq"]: one["tripwires"] for one in map(json.loads, listed.out.splitlines())}
        self.assertEqual(wires, {0: [], 1: [], 2: ["changed", "noise"]})
        target = self.world.folder / "back"
        done = self.world.run("restore", "--identity", "recovery.key", "--snapshot", good["head"][:12], "--to", str(target))
        self.assertIn(done.code, (0, 6), done.last_words())
        self.assertEqual(tree_of(target), before)

    def test_a_change_that_is_right_is_let_pass(self):
        self.assertEqual(self.tripped(), (0, []))
        for path in self.register.iterdir():
            path.rename(path.with_suffix(".txt"))
        self.assertEqual(self.tripped("--expected-change"), (0, []))
        self.assertEqual(self.tripped("--exclude", "*.tmp"), (3, ["redefined"]))
