#!/usr/bin/env python3
"""One dataset over stores of many kinds at once, while they are stopped, emptied and killed and the real program works with
them: 2+2 at a directory, Ceph, Azurite and rclone's WebDAV; 4+2 with moto and the stand-in for Google beside them.

    tools/across_servers.py --binary FILE [--more] [TEST ...]

`--more` plays at the stores that only tools/nightly has, Garage and Swift. Standard library only. AZURITE, MOTO and GARAGE
name what servers/*.sh want; tools/real-servers installs it and runs this.
"""

import argparse, random, shutil, signal, sys, tempfile, time, unittest
from pathlib import Path

from across_world import (DONE, FINDINGS, MIB, STALE, UNRECOVERABLE, Archive, Azurite, Ceph, Directory, Garage, Google, Moto, Store,
                          Swift, WebDav, grow, tree_of, write)


class Across(unittest.TestCase):
    binary: Path
    folder: Path
    # Every store that a test has asked for: Ceph takes 20 s to start, and each archive has its own part of it.
    known: dict[type[Store], Store] = {}

    def up(self, *kinds: type[Store]) -> list[Store]:
        """The stores of this test, all in service."""
        for kind in kinds:
            if kind not in self.known:
                self.known[kind] = kind(self.folder)
        self.stores = [self.known[kind] for kind in kinds]
        self.all_up()
        return self.stores

    def all_up(self):
        for store in self.stores:
            store.start()
        for store in self.stores:
            store.await_start()

    def archive(self, name: str, large_bytes: int, more: str = "", of_site: dict[str, str] | None = None) -> Archive:
        archive = Archive(self.folder / name, self.binary, self.stores, more, of_site)
        grow(archive.source, random.Random(name), large_bytes)
        return archive

    def lose(self, *stores: Store):
        for store in stores:
            store.stop()

    def change(self, archive: Archive):
        dice = random.Random("change")
        write(archive.source / "deeds" / "new.txt", b"parcel of today\n" * 50, 0o640, dice)
        write(archive.source / "scan of today", dice.randbytes(3 * MIB), 0o600, dice)
        (archive.source / "deeds" / "03" / "deed-3.txt").unlink()

    def whole(self, archive: Archive, state: str = "durable"):
        """What comes back is what is there, byte for byte."""
        done, tree = archive.restore(DONE)
        said = done.said()
        self.assertEqual((said["outcome"], said["state"], said["stale"]), ("complete", state, None), said)
        self.assertEqual(tree, tree_of(archive.source))

    def lost(self, archive: Archive):
        """No file comes back, not even a wrong one: too few shards of anything are left."""
        done, tree = archive.restore(UNRECOVERABLE)
        self.assertEqual([path for path, what in tree.items() if what[0] == "file"], [], str(done))

    def refused(self, archive: Archive, code: int, why: str, *words: str):
        """No file comes back, not even a wrong one, and it is said why."""
        done, tree = archive.restore(code, *words)
        self.assertIn(why, done.err)
        self.assertEqual([path for path, what in tree.items() if what[0] == "file"], [], str(done))


class AcrossServers(Across):
    def test_two_stores_are_lost_and_one_of_them_comes_back_empty(self):
        here, ceph, azure, dav = self.up(Directory, Ceph, Azurite, WebDav)
        archive = self.archive("lost", 40 * MIB)
        said = archive.replicate(DONE)
        self.assertEqual((said["outcome"], said["head_sites"], said["debt_shards"]), ("committed", 4, 0))
        self.assertGreater(said["stripes"], 2)

        # Any two of four restore, with the addresses of the dead ones still in hand.
        self.lose(azure, dav)
        dav.empty()
        self.whole(archive)
        self.all_up()

        # The one that was emptied answers again, and has no plate: nothing at it counts, and that is told. The others are
        # enough for a commit (2+2: three verified shards, heads at three sites), which owes a shard of each new stripe.
        self.change(archive)
        said = archive.replicate(FINDINGS)
        self.assertEqual((said["outcome"], said["head_sites"], said["debt_shards"]), ("committed", 3, said["stripes"]))
        self.assertEqual([trouble["site"] for trouble in said["site_troubles"]], [dav.name], said)
        self.assertIn("no plate", said["site_troubles"][0]["error"])

        # What a commit promises after one site's loss (`plan`): with that site empty, any one more may go.
        self.lose(here)
        self.whole(archive)

        # Two more are three of four: beyond what 2+2 promises. One of the two sites that must answer for the snapshot to be
        # known as the newest is left (a store without a plate is no site), and one of the two shards that each stripe needs.
        self.lose(ceph)
        self.refused(archive, STALE, "there may be a newer snapshot")
        self.refused(archive, UNRECOVERABLE, "there may be a newer snapshot", "--accept-stale")

        # It was only away.
        here.start()
        self.whole(archive)

    def test_a_server_dies_in_the_middle_of_a_run(self):
        here, ceph, _, dav = self.up(Directory, Ceph, Azurite, WebDav)
        # Small stripes, and a slow line to the one that dies: it holds whole shards, torn ones and none when it does.
        archive = self.archive("died", 16 * MIB, '[class]\npayload = "1MiB"\n[every_dataset]\nchunk = "256KiB"\n',
                               {dav.name: 'upload_per_second_max = "2MiB"\n'})
        process = archive.start("replicate", str(archive.source))
        while process.poll() is None and dav.shards("died", MIB) < 1:
            time.sleep(0.01)
        self.assertIsNone(process.poll(), "the run was over before the server could die")
        dav.kill()
        done = archive.end(process)

        # 2+2: three verified shards of each stripe and the head at three sites are a commit, and what the dead one has not
        # shown is owed: a finding. (PROVISIONAL is for stripes with two shards under a head at three sites; without two of
        # four sites no head has its quorum, and none is written.)
        self.assertEqual(done.code, FINDINGS, str(done))
        said = done.snapshot()
        self.assertEqual((said["outcome"], said["verified_min"], said["head_sites"]), ("committed", 3, 3), said)
        self.assertTrue(0 < said["debt_shards"] <= said["stripes"], said)
        self.assertEqual([trouble["site"] for trouble in said["site_troubles"]], [dav.name], said)
        owed = said["debt_shards"]
        self.whole(archive)     # with the dead one still dead

        # It is back, with what it had and perhaps the torn end of what it was taking in.
        self.all_up()
        self.change(archive)
        said = archive.replicate(DONE)
        self.assertEqual((said["outcome"], said["debts_paid"], said["debt_shards"], said["head_sites"]), ("committed", owed, 0, 4), said)

        # What was paid is there: of these two sites, each shard is needed.
        self.lose(here, ceph)
        self.whole(archive)

    def test_two_of_six_are_down_at_a_commit(self):
        # 4+2: a stripe with five verified shards is durable, with four it can be restored. A head counts at four sites.
        here, _, azure, dav, moto, google = self.up(Directory, Ceph, Azurite, WebDav, Moto, Google)
        archive = self.archive("six", 24 * MIB, '[class]\npayload = "1MiB"\n[every_dataset]\nchunk = "256KiB"\n')
        said = archive.replicate(DONE)
        self.assertEqual((said["outcome"], said["verified_min"], said["head_sites"], said["debt_shards"]), ("committed", 6, 6, 0), said)
        durable = said["head"]

        # Each new stripe owes two shards. The head says so itself: it is read elsewhere, without state.
        self.lose(azure, dav)
        self.change(archive)
        said = archive.replicate(STALE)
        provisional, owed = said["head"], said["debt_shards"]
        self.assertEqual((said["outcome"], said["verified_min"], said["head_sites"]), ("provisional", 4, 4), said)
        self.assertEqual(owed, 2 * said["stripes"], said)
        listed = [(one["snapshot"], one["state"], one["verified_min"], one["debt_shards"], len(one["head_sites"])) for one in archive.snapshots()]
        self.assertEqual(listed, [(provisional, "provisional", 4, owed, 4), (durable, "durable", 6, 0, 4)])
        # It is the newest, and whole; and of these four sites each is needed.
        self.whole(archive, "provisional")
        self.lose(here)
        self.lost(archive)

        # The two come back. The next run, of an unchanged source, pays what is owed, and then it commits.
        self.all_up()
        said = archive.replicate(DONE)
        self.assertEqual((said["outcome"], said["debts_paid"], said["debt_shards"], said["head_sites"]), ("committed", owed, 0, 6), said)
        self.assertGreaterEqual(said["verified_min"], 5, said)
        # What was said then stays said.
        listed = [(one["snapshot"], one["state"], len(one["head_sites"])) for one in archive.snapshots()]
        self.assertEqual(listed, [(said["head"], "durable", 6), (provisional, "provisional", 4), (durable, "durable", 6)])

        # What was paid is there: two others are gone for good, and of these four sites each is needed.
        self.lose(moto, google)
        self.whole(archive)
        self.assertEqual([one["state"] for one in archive.snapshots()], ["durable", "provisional", "durable"])


class MoreServers(Across):
    def test_stores_that_overwrite_or_refuse_create_only_puts(self):
        # Garage answers 200 to a create-only put of a taken name and overwrites; Swift answers 501.
        here, azure, garage, swift = self.up(Directory, Azurite, Garage, Swift)
        archive = self.archive("create-only", 24 * MIB)
        checks = {one["name"]: one for one in archive.expect(DONE, "site", "check").listed()}
        found = {name: one["probe"]["create_only"]["value"] for name, one in checks.items()}
        self.assertEqual(found, {here.name: "honoured", azure.name: "honoured", garage.name: "silently-overwrites", swift.name: "unsupported"})
        self.assertEqual({one["verdict"] for one in checks.values()}, {"usable"})
        self.kept(archive, (here, azure), (garage, swift))

    def test_stores_that_nobody_has_checked(self):
        # Without a check no put is create-only.
        here, azure, garage, swift = self.up(Directory, Azurite, Garage, Swift)
        self.kept(self.archive("unchecked", 2 * MIB), (garage, swift), (here, azure))

    def kept(self, archive: Archive, first: tuple[Store, ...], then: tuple[Store, ...]):
        """Two snapshots that need every shard of either half of the stores."""
        said = archive.replicate(DONE)
        self.assertEqual((said["outcome"], said["verified_min"], said["head_sites"], said["debt_shards"]), ("committed", 4, 4, 0), said)
        self.lose(*first)
        self.whole(archive)
        self.all_up()
        self.change(archive)
        said = archive.replicate(DONE)
        self.assertEqual((said["outcome"], said["head_sites"], said["debt_shards"]), ("committed", 4, 0), said)
        self.lose(*then)
        self.whole(archive)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", type=Path, metavar="FILE", required=True)
    parser.add_argument("--more", action="store_true", help="play at Garage and Swift, and not at the others")
    parser.add_argument("tests", nargs="*", metavar="TEST", help="such as test_a_server_dies_in_the_middle_of_a_run")
    options = parser.parse_args()
    # unittest takes SystemExit for a failure and goes on.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    Across.binary, Across.folder = options.binary.resolve(), Path(tempfile.mkdtemp(prefix="exclave-across-"))
    tests = MoreServers if options.more else AcrossServers
    try:
        names = [f"__main__.{tests.__name__}.{name}" for name in options.tests] or [f"__main__.{tests.__name__}"]
        result = unittest.TextTestRunner(verbosity=2).run(unittest.defaultTestLoader.loadTestsFromNames(names))
    finally:
        for store in Across.known.values():
            store.stop()
        shutil.rmtree(Across.folder, ignore_errors=True)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
