"""Tests of black_box.py: it has nothing to say about a good archive, and finds each thing that it is there to find."""

import contextlib, io, shutil, sys, tempfile, unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import black_box
import forge
import rescue


class BlackBox(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="black-box-test-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.forge = forge.Forge("box")
        self.files = forge.demo(self.forge)
        self.run = forge.Run(self.forge, "second")     # its id and key; nothing is published again

    def box(self) -> black_box.Box:
        self.forge.write(self.folder)
        return black_box.Box([self.folder / f"site{s}" for s in range(3)], self.forge.anchor, rescue.XWing(self.forge.recipients[0].seed))

    def finds(self, box: black_box.Box, *parts: str):
        with contextlib.redirect_stderr(io.StringIO()):
            found = box.look()
        for part in parts:
            self.assertTrue(any(part in violation for violation in found), (part, found))

    def objects(self, pattern: str) -> list[Path]:
        found = sorted(self.folder.glob(f"site*/*/{pattern}"))
        self.assertTrue(found, pattern)
        return found

    def test_a_good_archive_and_its_trees(self):
        box = self.box()
        self.assertEqual([box.look(), box.look()], [[], []])
        newest = next(head for head in box.heads.values() if head.seq == 1)
        tree = box.contents(newest.hash)
        self.assertEqual(sorted(tree), ["a", "a/big.bin", "a/text", "empty", "link-1", "sparse", "sym", "z", "z/link-2"])
        for name, data in self.files.items():
            self.assertEqual((tree[name][0], tree[name][3]), ("file", rescue.blake3(data).hexdigest()), name)
        self.assertEqual((box.dataset_name(newest.hash), box.gaps()), ("registers", 0))

    def test_what_is_gone_and_what_changed(self):
        box = self.box()
        self.assertEqual(box.look(), [])
        shard, record = self.objects("shards/*/*/*.02.*")[0], self.objects("runs/*/ledger.*")[0]
        shard.unlink()
        record.write_bytes(record.read_bytes()[:-1] + b"\0")
        self.finds(box, f"{shard.name} is gone", f"{record.name} has other bytes")

    def test_names_that_are_not_the_bytes(self):
        box = self.box()
        shard, head = self.objects("shards/*/*/*.00.*")[0], self.objects("heads/*/*/*")[0]
        shard.with_name(shard.name.replace(".00.", ".01.")).write_bytes(shard.read_bytes())
        shard.with_name("0000000000.00").write_bytes(b"x")
        head.with_name(head.name[:-1] + ("0" if head.name[-1] != "0" else "1")).write_bytes(head.read_bytes())
        self.finds(box, "isn't the name of what it holds", "has no name of section 2", "has a tag that isn't its bytes'")

    def test_a_damaged_shard(self):
        box = self.box()
        path = self.objects("shards/*/*/*.00.*")[0]
        data = bytearray(path.read_bytes())
        data[5000] ^= 1
        path.write_bytes(data)
        self.finds(box, "bad-trailer", "has 2 good shards; k is 2, the head says 3")

    def test_leftovers_are_no_objects(self):
        box = self.box()
        path = self.objects("shards/*/*/*.00.*")[0]
        path.with_name("~12.3").write_bytes(bytes(100))
        self.assertEqual((box.look(), box.leftover_bytes), ([], 100))

    def one_more_shard(self, index: int, payload: bytes):
        """Under the context of a stripe that is there."""
        shard = rescue.read_shard(next(data for name, data, _ in self.forge.objects if f"/shards/{self.run.id.hex()}/" in name))
        name = f"shards/{self.run.id.hex()}/000000/{shard.context.ordinal:010}.{index:02}"
        self.forge.add(name, forge.shard(shard.context.raw, index, shard.commitment, payload), index, payload)

    def test_one_key_for_two_payloads(self):
        self.one_more_shard(1, bytes(65536))
        self.finds(self.box(), "KEY AND NONCE TWICE: shard 1 has 2 payloads")

    def test_one_codeword(self):
        box = self.box()
        for path in self.objects(f"shards/{self.run.id.hex()}/*/0000000000.02.*"):
            path.unlink()
        self.one_more_shard(2, bytes(65536))
        self.forge.objects = self.forge.objects[-1:]
        self.forge.write(self.folder)
        self.finds(box, "isn't of one codeword", "has 2 good shards")

    def test_a_fork_and_a_box_key_used_twice(self):
        value = rescue.cbor(rescue.split_signed(self.forge.objects[-1][1], 1 << 20)[0])
        forge.publish_head(self.forge, value | {11: 1})
        sealed = rescue.open_box(self.run.key, 2, value[14])
        changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
        forge.publish_head(self.forge, value | {5: 2, 6: bytes(32), 14: forge.box(self.run.key, 2, value[14][:32], changed)})
        self.finds(self.box(), "FORK: two heads of seq 1", "KEY AND NONCE TWICE: two boxes", "names another head before it")

    def test_too_few_sites(self):
        box = self.box()
        for pattern, kept in ((f"runs/{self.run.id.hex()}/envelope.*", 1), (f"runs/{self.run.id.hex()}/ledger.*", 1), ("runs/*/live.*", 2)):
            for path in self.objects(pattern)[kept:]:
                path.unlink()
        self.finds(box, "envelope of run", "ledger part of run", "run table page lies at 1 sites, 2 are a quorum")

    def test_shards_of_a_run_without_an_envelope(self):
        box = self.box()
        for path in self.objects(f"runs/{self.run.id.hex()}/envelope.*"):
            path.unlink()
        self.finds(box, f"run {self.run.id.hex()} has shards and no envelope")


if __name__ == "__main__":
    unittest.main()
