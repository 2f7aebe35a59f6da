#!/usr/bin/env python3
"""The real program as a process among others: interrupted, killed at one exact call, run twice at once, on full disks.

    tools/process_tests.py [--binary FILE] [TEST ...]

Each of these came out of kill_rounds.py or of a promise in the README, and is played here the same way every time: faults.c
stops or kills the program at a given call, and so nothing depends on how fast it is.
"""

import argparse, json, os, pty, re, resource, select, shutil, signal, sqlite3, subprocess, sys, tempfile, termios, time, unittest
from pathlib import Path

import rescue
from kill_rounds import CHAIN, JOURNAL, can_mount, in_a_namespace, program, reported
from kill_world import FAKETIME, Fault, Shim, tree_of
from kit_tests import Kit
from process_audit import Audits
from process_canary import Canary
from process_case import Case
from process_parts import AirGap
from process_repair import Repairs
from process_tenants import Tenants
from process_token import Token
from process_tripwire import Tripwires
from process_witness import Witnesses
from process_world import CUSTODIANS, HALF_A_MINUTE, Alone, Card, Typing, decoder

__all__ = ["AirGap", "Audits", "Canary", "Kit", "Repairs", "Tenants", "Token", "Tripwires", "Witnesses"]     # run beside what stands here


class Interrupts(Alone):
    def test_the_first_wish_keeps_what_is_durable_and_the_next_run_uses_it(self):
        self.grow("deeds", 240)
        process = self.stopped("deeds", JOURNAL, 4, "write")     # the run's beginning, two stripes, and the third not yet
        process.send(signal.SIGINT)
        process.send(signal.SIGCONT)
        done = process.end()
        self.assertEqual(done.code, 130, done.last_words())
        durable = int(re.search(r"(\d+) stripes? of this run (is|are) durable and will be used", done.err)[1])
        self.assertGreaterEqual(durable, 2)
        self.assertIn("Stopping at the next stripe", done.err)
        said = self.commits("deeds")
        self.assertEqual(said["recovered_stripes"], durable)
        self.whole("deeds")
        self.assertEqual(sorted(self.live_stripes(said).values())[0], durable)

    def live_stripes(self, said: dict) -> dict[bytes, int]:
        """How many stripes of each run a snapshot needs."""
        snapshot = rescue.Snapshot(self.box.archive(), self.box.heads[bytes.fromhex(said["head"])])
        return {run: sum(map(len, live.spans)) for run, live in snapshot.live.items()}

    def test_the_second_wish_is_an_order(self):
        self.with_command("sh", "-c", "echo begun; exec sleep 600")
        process = self.world.start_replicate("dump")
        child = self.child(process, "sleep")
        began = time.monotonic()
        process.send(signal.SIGINT)
        process.sleep(1)
        process.send(signal.SIGINT)
        done = process.end()
        self.assertEqual((done.code, time.monotonic() - began < HALF_A_MINUTE), (130, True), done.last_words())
        self.gone(child)

    def test_a_command_that_says_nothing_can_be_interrupted(self):
        self.with_command("sh", "-c", "echo begun; exec sleep 100")
        process = self.world.start_replicate("dump")
        process.sleep(1)
        process.send(signal.SIGTERM)
        began = time.monotonic()
        done = process.end()
        self.assertEqual((done.code, time.monotonic() - began < HALF_A_MINUTE), (130, True), done.last_words())

    def child(self, process, name: str) -> int:
        """The dataset's command, once it is what it says."""
        while process.popen.poll() is None:
            for children in Path(f"/proc/{process.popen.pid}/task").glob("*/children"):
                for pid in children.read_text().split():
                    if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                        return int(pid)
            time.sleep(0.01)
        self.fail("the program ended before its command began")

    def gone(self, pid: int):
        for _ in range(HALF_A_MINUTE * 100):
            if not Path(f"/proc/{pid}").exists() or ") Z " in Path(f"/proc/{pid}/stat").read_text():
                return
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        self.fail(f"the dataset's command, process {pid}, outlived the program")


class Charters(Alone):
    """Charters that the program changed, read by the decoder that was written from FORMAT.md."""

    def change(self, draft: str, *roots: str):
        """Signs a draft and puts it at the sites; the decoder believes the file first."""
        for place, root in enumerate(roots):
            signed = draft if place == 0 else draft.replace(".toml", f".v{self.version}.charter")
            self.expect(0, "charter", "sign", signed, "--root", root)
            code, out, err = decoder("charter", str(self.world.folder / draft.replace(".toml", f".v{self.version}.charter")))
            self.assertEqual((code, f"version {self.version}, created " in out), (0 if place == len(roots) - 1 else 3, True), out + err)
        published = json.loads(self.expect(0, "charter", "publish", draft.replace(".toml", f".v{self.version}.charter")).out)
        self.assertIn(f"digest {published['digest']}", out)
        self.version += 1

    version = 2

    def expect(self, code: int, *words: str):
        done = self.world.run(*words)
        self.assertEqual(done.code, code, done.last_words())
        return done

    def comes_back(self, *words: str, code: int = 0) -> str:
        """By the decoder, without any one site; what it said of it."""
        for gone in self.world.sites:
            target = self.world.folder / "rescued"
            sites = [str(path) for name, path in self.world.sites.items() if name != gone]
            found, out, err = decoder("restore", "--identity", str(self.world.folder / "recovery.key"), "--site", *sites, "--to", str(target), *words)
            self.assertEqual((found, "LOST" in out), (code, False), out + err)
            self.assertEqual(tree_of(target), self.world.sources["deeds"].snapshot(), gone)
            shutil.rmtree(target)
        return err

    def heads(self) -> tuple[dict[bytes, rescue.Head], str]:
        archive = self.box.archive()
        return archive.heads, "\n".join(archive.charter_notes() + archive.charter_alarms())

    def test_two_roots_sign_a_change_and_a_hidden_version_is_noticed(self):
        self.commits("deeds")
        for name in ("second", "third"):
            self.expect(0, "key", "generate", "--role", "root", "--out", f"{name}.key", "--public", f"{name}.pub")
        self.expect(0, "charter", "new", "--out", "more.toml")
        draft = self.world.folder / "more.toml"
        text = draft.read_text()
        self.assertIn("[roots]\nthreshold = 1\nkeys = [", text)
        draft.write_text(text.replace("[roots]\nthreshold = 1\nkeys = [", '[roots]\nthreshold = 2\nkeys = ["second.pub", "third.pub", '))
        self.change("more.toml", "exclave-root.key", "second.key")
        self.world.sources["deeds"].change()
        self.commits("deeds")
        self.assertIn("going by charter version 2", self.comes_back())
        self.whole("deeds")
        for site in self.world.sites.values():
            for path in site.glob("*/charter/00000002.*"):
                path.rename(path.parent.parent / path.name)
        older = self.world.sources["deeds"].snapshot
        self.assertEqual(len(self.heads()[0]), 1)
        self.assertIn("HIDDEN CHARTER: a head obeys charter version 2, and the sites show version 1", self.heads()[1])
        code, _, err = decoder("restore", "--identity", str(self.world.folder / "recovery.key"), "--site", *map(str, self.world.sites.values()),
                                    "--to", str(self.world.folder / "hidden"))
        self.assertEqual((code, "HIDDEN CHARTER" in err, tree_of(self.world.folder / "hidden") == older()), (6, True, False), err)

    def test_a_stolen_writer_is_replaced_and_the_thiefs_heads_are_void(self):
        self.commits("deeds")
        good = json.loads(self.expect(0, "snapshots", "--identity", "recovery.key").out.splitlines()[0])
        shutil.copytree(self.world.state, self.world.folder / "theirs")
        settings = (self.world.folder / "exclave.toml").read_text()
        (self.world.folder / "theirs.toml").write_text(settings.replace(str(self.world.state), str(self.world.folder / "theirs")))
        self.world.sources["deeds"].write("theirs", b"a deed that nobody signed", 0o644)
        self.assertEqual(self.world.run("--config", "theirs.toml", "--json", "replicate", "--name", "deeds").code, 0)
        self.world.sources["deeds"].forget("theirs")
        thiefs = self.heads()[0].keys() - {bytes.fromhex(good["snapshot"])}
        self.assertEqual(len(thiefs), 1)

        self.expect(0, "key", "generate", "--role", "writer", "--out", "heir.key", "--public", "heir.pub")
        self.expect(0, "charter", "new", "--out", "heir.toml", "--revoke", good["writer"], "--accept", good["snapshot"], "--writer", "heir.pub")
        self.change("heir.toml", "exclave-root.key")
        self.expect(0, "key", "install", "heir.key")
        said = self.commits("deeds")
        heads, notes = self.heads()
        self.assertEqual(heads.keys(), {bytes.fromhex(good["snapshot"]), bytes.fromhex(said["head"])})
        self.assertIn(f"1 heads of revoked writer {good['writer']} are void: seq 1", notes)
        archive = self.box.archive()
        runs = {name: set(rescue.Snapshot(archive, heads[bytes.fromhex(name)]).runs) for name in (good["snapshot"], said["head"])}
        self.assertEqual(runs[good["snapshot"]] & runs[said["head"]], set(), "the epoch ended: nothing older is referred to")
        self.assertIn("are void", self.comes_back())
        code, _, err = decoder("restore", "--identity", str(self.world.folder / "recovery.key"), "--site", *map(str, self.world.sites.values()),
                                    "--to", str(self.world.folder / "stolen"), "--head", thiefs.pop().hex())
        self.assertEqual((code, "not-found" in err), (4, True), err)

    def test_a_recipient_joins_and_an_ally_gets_one_snapshot(self):
        good = self.commits("deeds")["head"]
        self.commits("ships")
        for name in ("second", "ally"):
            self.expect(0, "key", "generate", "--out", f"{name}.key", "--public", f"{name}.pub")
        self.expect(0, "key", "generate", "--role", "restorer", "--out", "restorer.key", "--public", "restorer.pub")
        self.expect(0, "charter", "new", "--out", "join.toml")
        draft = self.world.folder / "join.toml"
        before, behind = draft.read_text().split("[[recipients]]\n")
        self.assertIn("keys = [", behind)
        member = '[[member]]\nrole = "restorer"\nkey = "restorer.pub"\n\n'
        draft.write_text(f"{before}{member}[[recipients]]\n" + behind.replace("keys = [", 'keys = ["second.pub", ', 1))
        self.change("join.toml", "exclave-root.key")
        anchor = self.box.anchor.hex()
        second, ally = (("--identity", str(self.world.folder / f"{name}.key"), "--anchor", anchor) for name in ("second", "ally"))
        sites = [str(path) for path in list(self.world.sites.values())[1:]]
        code, _, err = decoder("restore", *second, "--site", *sites, "--to", str(self.world.folder / "early"), "--dataset", "deeds")
        self.assertEqual((code, "not-a-recipient" in err), (5, True), err)
        self.expect(0, "key", "rewrap", "--identity", "recovery.key", "--restorer", "restorer.key")
        self.expect(0, "grant", "give", good, "--to", "ally.pub", "--restorer", "restorer.key", "--identity", "recovery.key")
        for name, keyed in (("second", second), ("ally", ally)):
            code, out, err = decoder("restore", *keyed, "--site", *sites, "--to", str(self.world.folder / name), "--dataset", "deeds")
            self.assertEqual((code, tree_of(self.world.folder / name)), (0, self.world.sources["deeds"].snapshot()), out + err)
        code, out, err = decoder("heads", *ally, "--site", *sites)
        self.assertEqual((code, out.count("not-a-recipient"), "1 grants give run keys" in err), (3, 1, True), out + err)
        self.assertEqual(self.box.look(), [])

    def test_a_site_joins(self):
        self.commits("deeds")
        embassy = self.world.folder / "sites" / "embassy"
        embassy.mkdir()
        with open(self.world.folder / "exclave.toml", "a") as file:
            file.write(f'[[site]]\nname = "embassy"\naddress = "file://{embassy}"\nhosting = "embassy"\n')
        self.expect(0, "charter", "new", "--out", "site.toml")
        self.change("site.toml", "exclave-root.key")
        self.world.sites["embassy"] = embassy
        self.addCleanup(self.world.sites.pop, "embassy")     # no file system of its own
        self.box.folders.append(embassy)
        self.world.sources["deeds"].change()
        self.commits("deeds")
        self.assertIn("going by charter version 2", self.comes_back())
        heads, _ = self.heads()
        self.assertEqual({head.value[8] for head in heads.values()}, {1, 2})


class AtOnce(Alone):
    def test_a_second_run_of_one_dataset_is_refused_and_names_the_first(self):
        first = self.stopped("deeds", JOURNAL, 1, "sync")
        second = self.world.replicate("deeds")
        self.assertEqual(second.code, 1, second.last_words())
        self.assertIn(f'dataset "deeds" is in use by process {first.popen.pid}', second.err)
        first.send(signal.SIGCONT)
        self.assertEqual(first.end().code, 0)
        self.whole("deeds")

    def test_two_datasets_at_once(self):
        """The first stands still at one call after another while the second runs from its beginning to its end."""
        for path, at, calls in ((JOURNAL, 1, "write"), (JOURNAL, 1, "sync"), (JOURNAL, 2, "write"), (CHAIN, 1, "rename"), ("/sites/b/", 3, "write")):
            with self.subTest(path=path, at=at, calls=calls):
                for source in self.world.sources.values():
                    source.change()
                first = self.stopped("deeds", path, at, calls)
                second = self.world.start_replicate("ships")
                second.sleep(2)     # its whole run, or as far as it comes without the chain, which the first may hold
                first.send(signal.SIGCONT)
                ended, other = first.end(), second.end()
                self.assertEqual((ended.code, other.code), (0, 0), (ended.last_words(), other.last_words()))
                self.whole()

    def test_the_journal_of_a_living_run_is_left_alone(self):
        """The other dataset's run finds a journal without a word in it: that of a run that is just beginning."""
        self.grow("deeds", 40)
        first = self.stopped("deeds", JOURNAL, 1, "write")
        self.commits("ships")
        self.assertEqual(len(list((self.world.state / "journal").iterdir())), 1)
        first.send(signal.SIGCONT)
        self.assertEqual(first.end().code, 0)
        self.whole()

    def test_a_journal_that_goes_away_is_no_failure(self):
        """The other dataset's run ends, and removes its journal, between our listing and our look."""
        self.commits("deeds")
        first = self.stopped("ships", JOURNAL, 1, "sync")      # one entry written; no lock of the catalog is held here
        second = self.stopped("deeds", JOURNAL, 1, "open")
        first.send(signal.SIGCONT)
        self.assertEqual(first.end().code, 0)
        second.send(signal.SIGCONT)
        done = second.end()
        self.assertEqual(done.code, 0, done.last_words())
        self.whole()


class Locks(Alone):
    def test_a_catalog_that_somebody_holds_is_not_waited_for_without_end(self):
        self.commits("deeds")
        holder = sqlite3.connect(self.world.state / "catalog.sqlite", isolation_level=None)
        self.addCleanup(holder.close)
        holder.execute("BEGIN IMMEDIATE")
        done = self.world.replicate("ships")
        self.assertEqual(done.code, 1, done.last_words())
        self.assertIn("is locked by another process", done.err)
        self.assertIn("Hint: ", done.err)
        holder.execute("ROLLBACK")
        self.commits("ships")
        self.whole()


class Deaths(Alone):
    def test_a_place_in_the_chain_is_taken_once(self):
        """Killed, or failed, between the journalled head and the chain's own file; then the other dataset is first."""
        for how in ("kill", "error"):
            with self.subTest(how):
                self.world.sources["deeds"].change()
                died = self.world.replicate("deeds", fault=Fault("/state/chain.new", 1, how, "write"))
                self.assertIn(died.code, (-9, 1))
                self.commits("ships")
                self.assertEqual(self.commits("deeds")["recovered_heads"], 1)
                self.whole()

    def test_an_old_journal_comes_back(self):
        """The journal folder alone is restored from a copy that was taken in the middle of a run that went well."""
        self.grow("deeds", 40)
        process = self.stopped("deeds", JOURNAL, 5, "write")
        copy = self.world.copy_state()
        process.send(signal.SIGCONT)
        self.assertEqual(process.end().code, 0)
        self.world.roll_back(copy, "journal")
        self.world.sources["deeds"].add()
        self.commits("deeds")
        self.whole("deeds")

    def test_an_old_journal_of_a_run_that_was_taken_over_comes_back(self):
        """It knows fewer stripes than were taken over: what is beyond must not be referred to without a ledger."""
        self.grow("deeds", 240)
        process = self.stopped("deeds", JOURNAL, 4, "write")
        copy = self.world.copy_state()
        journal = next((self.world.state / "journal").iterdir())
        known = journal.stat().st_size
        process.send(signal.SIGCONT)
        while process.popen.poll() is None and journal.stat().st_size < 3 * known:
            time.sleep(0.001)
        process.send(signal.SIGKILL)
        self.assertEqual(process.end().code, -9)
        self.assertGreater(self.commits("deeds")["recovered_stripes"], 2)
        self.world.roll_back(copy, "journal")
        self.world.sources["deeds"].add()
        self.commits("deeds")
        self.whole("deeds")


class Clones(Alone):
    def test_two_machines_with_one_key_at_the_same_moment(self):
        """Both take the same place in the chain: nobody can prevent that. It is told, no side is taken, and it heals."""
        world = self.world
        self.commits("deeds")
        shutil.copytree(world.state, world.folder / "clone")
        settings = (world.folder / "exclave.toml").read_text().replace(str(world.state), str(world.folder / "clone"))
        (world.folder / "clone.toml").write_text(settings)
        world.sources["deeds"].change()
        first = self.stopped("deeds", "/state/chain.new", 1, "write")
        self.assertEqual(world.run("--config", "clone.toml", "--json", "replicate", "--name", "deeds").code, 0)
        first.send(signal.SIGCONT)
        self.assertEqual(first.end().code, 0)
        violations = self.box.look()
        chain = [one for one in violations if not one.startswith("log ")]
        self.assertTrue(len(chain) == 1 and chain[0].startswith("FORK: "), violations)
        self.assertTrue(any("FORK: two checkpoints of size" in one for one in violations), violations)
        done, tree = world.restore("deeds", list(world.sites))
        self.assertEqual((done.code, tree), (5, {}), done.last_words())
        self.assertIn("is one side of a fork", done.err)
        world.sources["deeds"].change()
        for settings in ("exclave.toml", "clone.toml"):
            done = world.run("--config", settings, "--json", "replicate", "--name", "deeds")
            self.assertEqual((done.code, json.loads(done.out)["snapshots"][0]["new_incarnation"]), (3, True), done.last_words())
            done, tree = world.restore("deeds", list(world.sites))
            self.assertEqual((done.code, tree), (3, world.sources["deeds"].snapshot()), done.last_words())
            self.assertIn("ALARM: writer", done.err)
        self.assertEqual([one for one in self.box.look() if not one.startswith("log ")], chain)


class Losses(Alone):
    def test_what_the_sites_have_lost_is_sent_anew(self):
        """Fewer than k shards of one stripe are left, and a day has passed since they were seen."""
        if not FAKETIME.is_file():
            self.skipTest("libfaketime isn't installed")
        self.commits("deeds")
        for site in ("a", "b"):
            for shard in self.world.sites[site].glob("*/shards/*/*/0000000000.*"):
                shard.unlink()
        self.world.sources["deeds"].add()
        first = self.world.replicate("deeds", years=1)
        self.assertEqual(first.code, 1, first.last_words())
        self.assertIn("can't be restored", first.err)
        self.commits("deeds", years=1)
        for gone in self.world.sites:
            done, tree = self.world.restore("deeds", [site for site in self.world.sites if site != gone])
            self.assertEqual((done.code, tree), (0, self.world.sources["deeds"].snapshot()), done.last_words())


class FullDisks(Alone):
    def setUp(self):
        super().setUp()
        if not self.mounts:
            self.skipTest("no file system can be mounted here")

    def test_a_full_state_folder(self):
        self.commits("deeds")
        for room in (0, 8192, 40_000, 120_000):
            with self.subTest(room=room):
                self.grow("deeds", 24)
                self.world.sources["deeds"].add()
                self.world.leave_room(self.world.state, room)
                done = self.world.replicate("deeds")
                self.world.leave_room(self.world.state, None)
                if not reported(done):
                    self.assertEqual(done.code, 1)
                    self.assertRegex(done.err, rf"{self.world.state}/\S+")
                    self.assertRegex(done.err, "No space left|no room left")
                    self.assertRegex(done.err, "Hint: .*room")
                self.commits("deeds")
                self.whole("deeds")

    def test_a_full_target(self):
        self.commits("deeds")
        target = self.world.folder / "target"
        target.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2g", "tmpfs", target], check=True)
        self.addCleanup(subprocess.run, ["umount", target])
        self.world.leave_room(target, 3 << 20)
        words = ["restore", "--identity", "recovery.key", "--to", str(target)]
        done = self.world.run(*words)
        self.assertEqual(done.code, 1, done.last_words())
        self.assertRegex(done.err, "full|No space left")
        self.assertIn(f"--to {target} --replace", done.err)
        self.world.leave_room(target, None)
        self.assertEqual(self.world.run(*words).code, 2)
        done = self.world.run(*words, "--replace")
        self.assertEqual(done.code, 0, done.last_words())
        self.assertEqual(tree_of(target), self.world.sources["deeds"].snapshot())


class Limits(Alone):
    def test_a_limit_on_the_length_of_files_is_told(self):
        self.grow("deeds", 8)
        self.commits("deeds")
        target = self.world.folder / "target"
        words = ["restore", "--identity", "recovery.key", "--to", str(target)]
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, unlimited[1]))
        try:
            done = self.world.run(*words)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        self.assertEqual(done.code, 3, done.last_words())
        [refused] = json.loads(done.out)["refused"]
        self.assertEqual(refused["path"], "large-0")
        self.assertIn("File too large", refused["why"])
        done = self.world.run(*words, "--replace")
        self.assertEqual(done.code, 0, done.last_words())
        self.assertEqual(tree_of(target), self.world.sources["deeds"].snapshot())


class Prompt(Typing):
    """What is typed hidden."""

    def test_ctrl_c_gives_the_terminal_back(self):
        for signal_of in (None, signal.SIGTERM):
            pid, terminal = pty.fork()
            if pid == 0:
                os.chdir(self.world.folder)
                os.execvpe(self.binary, [self.binary, "key", "generate", "--out", "other.key"], {"TERM": "dumb"})
            echo = lambda: bool(termios.tcgetattr(terminal)[3] & termios.ECHO)
            seen = ""
            while not seen.endswith(": ") and select.select([terminal], [], [], HALF_A_MINUTE)[0]:
                seen += os.read(terminal, 65536).decode()
            deadline = time.monotonic() + HALF_A_MINUTE
            while echo() and time.monotonic() < deadline:
                time.sleep(0.01)
            self.assertFalse(echo(), seen)
            os.write(terminal, b"\x03") if signal_of is None else os.kill(pid, signal_of)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            self.assertEqual((code, echo()), (130, True), seen)
            self.assertFalse((self.world.folder / "other.key").exists())
            os.close(terminal)


class Recovery(Typing):
    """docs/runbooks/recovery.md: custodians with cards, on a machine that has nothing but the program."""

    RUNBOOK = Path(__file__).parents[1] / "docs" / "runbooks" / "recovery.md"

    def setUp(self):
        super().setUp()
        self.commits("deeds")
        (self.world.folder / "custodians.toml").write_text(CUSTODIANS)
        words = ["key", "split", "--identity", "recovery.key", "--custodians", "custodians.toml", "--out", "shares", "--ask-sites"]
        self.done(*words)
        self.done("charter", "new")
        draft = self.world.folder / "charter.toml"
        draft.write_text(draft.read_text() + '\n[[shares]]\nset = "shares/shares.set"\n')
        self.done("charter", "sign", "charter.toml", "--root", "exclave-root.key")
        self.done("charter", "publish", "charter.v2.charter")
        self.cards = {name: Card((self.world.folder / f"shares/1-{x}-{name}.html").read_text()) for x, name in enumerate(("first", "second", "third"), 1)}
        self.fresh = self.world.folder / "fresh"
        (self.fresh / "bin").mkdir(parents=True)
        (self.fresh / "bin" / "exclave").symlink_to(self.binary)
        self.blocks = re.findall(r"^```sh\n(.*?)^```$", self.RUNBOOK.read_text(), re.M | re.S)

    def done(self, *words: str):
        done = self.world.run(*words)
        self.assertEqual(done.code, 0, done.last_words())

    def play(self, number: int, typed: list[str], sites: int = 2) -> tuple[int, str]:
        """A block of the run-book, behind the one that is filled in from a card."""
        card = self.cards["first"]
        settings = self.blocks[0]
        settings = re.sub(r"(?<=ANCHOR=)0+", card.anchor, settings)
        settings = re.sub(r'(?<=SITES=")[^"]+', " ".join(f"--site {site}" for site in card.sites[:sites]), settings)
        self.assertNotEqual(settings, self.blocks[0])
        environment = {"PATH": f"{self.fresh / 'bin'}:/usr/bin:/bin", "HOME": str(self.fresh)}
        return self.at_a_terminal(["/bin/bash", "-ec", settings + self.blocks[number]], typed, self.fresh, **environment)

    def test_two_custodians_restore_by_the_run_book(self):
        first, third = self.cards["first"], self.cards["third"]
        code, seen = self.play(1, [])
        self.assertEqual((code, "Charter version 2" in seen, "2 of 3 custodians" in seen), (0, True, True), seen)
        # The second custodian is absent; the third one mistypes a line, and types digits.
        wrong = " ".join(reversed(third.digits[1].split()))
        code, seen = self.play(2, [*first.words, third.digits[0], wrong, *third.digits[1:]])
        self.assertEqual((code, "line 2: its check does not fit" in seen), (0, True), seen)
        self.assertIn(first.heads[0][:8], seen)
        code, seen = self.play(3, [*first.words, *third.words])
        self.assertEqual(code, 0, seen)
        self.assertEqual(tree_of(self.fresh / "restored"), self.world.sources["deeds"].snapshot())
        for line in (*first.words, *third.words):
            self.assertNotIn(line, seen)
        self.assertLessEqual(max(len(line) for line in seen.splitlines() if "Share" in line), 120)

    def test_a_damaged_card_is_named_and_one_custodian_is_too_few(self):
        first, second, third = (self.cards[name] for name in ("first", "second", "third"))
        # The same card twice.
        code, seen = self.play(3, [*first.words, *first.words])
        self.assertEqual((code, "First" in seen), (4, True), seen)
        self.assertFalse((self.fresh / "restored").exists())
        # A line of another card fits its own check, and no share's: the custodian is named, and nothing else is tried.
        mixed = [*second.words[:4], third.words[4], *second.words[5:]]
        code, seen = self.play(3, [*first.words, *mixed])
        self.assertEqual((code in (4, 5), "Second" in seen), (True, True), seen)
        self.assertFalse((self.fresh / "restored").exists())
        # One store alone: what is newest isn't known, and nothing is written.
        code, seen = self.play(3, [*first.words, *second.words], sites=1)
        self.assertEqual((code, "must answer" in seen), (6, True), seen)


class Ceremony(Typing):
    """Shares that are typed at a terminal."""

    def test_a_line_that_is_typed_wrongly_is_typed_again_and_nothing_is_shown(self):
        self.commits("deeds")
        (self.world.folder / "custodians.toml").write_text(CUSTODIANS)
        done = self.world.run("key", "split", "--identity", "recovery.key", "--custodians", "custodians.toml", "--out", "shares")
        self.assertEqual(done.code, 0, done.last_words())
        first, second = (self.text(f"shares/1-{x}-{name}.share", form) for x, name, form in ((1, "first", "words"), (3, "third", "digits")))
        wrong, unknown = " ".join([*first[1].split()[:4], *first[1].split()[:3:-1]]), " ".join(["exclave", *first[1].split()[1:]])
        typed = [first[0], wrong, unknown, "", *first[1:], *second[:2], second[3], *second[2:]]
        words = [str(self.binary), "key", "combine", "--set", "shares/shares.set", "--share", "-", "--share", "-"]
        code, seen = self.at_a_terminal(words, typed)
        self.assertEqual(code, 0, seen)
        recipient = json.loads(self.world.run("key", "show", "recovery.key").out)["recipient"]
        self.assertIn(recipient, seen)
        for told in ("line 2: its check does not fit", "line 2, word 1: not a word of the list", "Share 2, line 3 of 6", "line 3: its check does not fit"):
            self.assertIn(told, seen)
        for line in (*first, *second):
            self.assertNotIn(line, seen)


def without_a_network(arguments: list[str]):
    """Goes on where only this machine can be reached: none of these tests may need more."""
    if "PROCESS_TESTS_ALONE" not in os.environ and not subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        os.environ["PROCESS_TESTS_ALONE"] = "1"
        os.execvp("unshare", ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "alone", sys.executable, *arguments])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", type=Path, metavar="FILE")
    parser.add_argument("tests", nargs="*", metavar="TEST", help="such as Deaths or AtOnce.test_two_datasets_at_once")
    options = parser.parse_args()
    binary = program(options.binary)
    in_a_namespace([__file__, *sys.argv[1:]])
    without_a_network([__file__, *sys.argv[1:]])
    Case.binary, Case.folder = binary, Path(tempfile.mkdtemp(prefix="exclave-process-"))
    Case.shim, Case.mounts = Shim(Case.folder), can_mount(Case.folder)
    try:
        names = [f"__main__.{name}" for name in options.tests] or ["__main__"]
        result = unittest.TextTestRunner(verbosity=2).run(unittest.defaultTestLoader.loadTestsFromNames(names))
    finally:
        shutil.rmtree(Case.folder, ignore_errors=True)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
