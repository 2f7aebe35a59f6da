#!/usr/bin/env python3
"""Kills, stops, starves and deceives the real program, and looks whether the archive is whole each time.

    tools/kill_rounds.py                      100 rounds with a random seed
    tools/kill_rounds.py --seed 7 --world 3   one world again: what a failure prints

A world is a small archive on 3 to 6 folders with two datasets; it is played for some rounds. A round:

  1. The dataset changes; a model of it is kept.
  2. `exclave replicate` is hit: see HITS. Sometimes the other dataset is replicated at the same time.
  3. Any k sites, chosen at random, must give the snapshot before or the new one, whole; what was reported as
     committed must be what comes back. Sometimes that restore is killed, too, and goes on.
  4. Sometimes the state folder suffers too: see DAMAGES. Sometimes the other dataset is replicated first, or the
     dataset changes again.
  5. The next `exclave replicate` must commit, or fail with a documented code and go on once its hint was followed.
  6. Any k sites give the new snapshot; every third time rescue.py reads it, too, from those sites alone.
  7. black_box.py looks at all sites with the identity: names, signatures, quorums, shards, keys, every head's tree.

Undocumented exit codes, panics and hangs fail a round. A failure leaves its folder and prints how to play it again:
the seed fixes the edits, the hits and where they fall, but not how the program's threads race.
"""

import argparse, json, os, random, shutil, signal, subprocess, sys, tempfile, time
from collections import Counter
from pathlib import Path

import black_box
import rescue
from kill_world import FAKETIME, PASSPHRASE, SHAPES, Broken, Done, Fault, Shim, World, difference, note, trouble

ROUNDS_A_WORLD = 8
ENOSPC, EIO = 28, 5
STATE = "/state/"
JOURNAL, CHAIN, CATALOG = "/state/journal/", "/state/chain:/state/datasets/", "/state/catalog."


# ---- Hits: each runs `exclave replicate NAME` and does something to it ------------------------------------------------

def moment(world: World) -> float:
    """Somewhere within a run, as far as the one before tells how long that takes."""
    return world.dice.uniform(0, 1.2) * world.seconds


def call(world: World, path: str) -> int:
    """The number of a call on such a path, as far as the run before tells how many there are."""
    return world.dice.randint(1, max(world.calls.get(path, 40), 2))


def kill_at_a_moment(world: World, name: str) -> Done:
    process = world.start_replicate(name)
    process.sleep(moment(world))
    process.send(signal.SIGKILL)
    return process.end()


def kill_at_a_call(world: World, name: str) -> Done:
    path = world.dice.choice([JOURNAL, JOURNAL, CHAIN, CHAIN, CATALOG, STATE])
    return world.replicate(name, fault=Fault(path, call(world, path), world.dice.choice(["kill", "killed"])))


def kill_around_the_head(world: World, name: str) -> Done:
    """The chain is written once, right after the head is in the journal and before it is anywhere else."""
    return world.replicate(name, fault=Fault("/state/chain.new", world.dice.randint(1, 2), world.dice.choice(["kill", "killed"])))


def stop_and_go_on(world: World, name: str) -> Done:
    process = world.start_replicate(name)
    process.sleep(moment(world))
    process.send(signal.SIGSTOP)
    time.sleep(world.dice.uniform(1, 1.5))
    process.send(signal.SIGCONT)
    if world.dice.random() < 0.5:
        process.sleep(world.dice.uniform(0, 0.1))
        process.send(signal.SIGINT)
    return process.end()


def interrupt(world: World, name: str) -> Done:
    process = world.start_replicate(name)
    process.sleep(moment(world))
    process.send(world.dice.choice([signal.SIGINT, signal.SIGTERM]))
    if world.dice.random() < 0.2:
        process.sleep(world.dice.uniform(0, 0.02))
        process.send(signal.SIGINT)
    return process.end()


def full(world: World, name: str, state: bool, sites: int) -> Done:
    """File systems that are full after some more bytes, and have room again afterwards."""
    places = [world.state] * state + world.dice.sample(sorted(world.sites.values()), sites)
    for place in places:
        world.leave_room(place, world.dice.choice([0, world.dice.randint(0, 200_000), world.dice.randint(0, 6_000_000)]))
    try:
        return world.replicate(name)
    finally:
        for place in places:
            world.leave_room(place, None)


def full_state(world: World, name: str) -> Done:
    return full(world, name, True, 0)


def full_sites(world: World, name: str) -> Done:
    return full(world, name, False, world.dice.randint(1, len(world.sites)))


def full_state_and_site(world: World, name: str) -> Done:
    return full(world, name, True, 1)


def journal_fails(world: World, name: str) -> Done:
    fault = Fault(JOURNAL, call(world, JOURNAL), world.dice.choice(["error", "torn", "drop"]), "write,sync", world.dice.choice([EIO, ENOSPC]),
                  world.dice.random() < 0.3)
    return world.replicate(name, fault=fault)


def state_fails(world: World, name: str) -> Done:
    path = world.dice.choice([CHAIN, CATALOG, STATE])
    return world.replicate(name, fault=Fault(path, call(world, path), world.dice.choice(["error", "torn"]), "", world.dice.choice([EIO, ENOSPC]),
                                             world.dice.random() < 0.3))


def site_fails(world: World, name: str) -> Done:
    path = f"/sites/{world.dice.choice(sorted(world.sites))}/"
    return world.replicate(name, fault=Fault(path, world.dice.randint(1, 30), world.dice.choice(["error", "torn"]), "", EIO, world.dice.random() < 0.7))


def site_is_away(world: World, name: str) -> Done:
    """Unmounted, or its path gone, for one run."""
    place = world.dice.choice(sorted(world.sites.values()))
    away = world.folder / "away"
    away.mkdir()
    if world.mounts:
        subprocess.run(["mount", "--move", place, away], check=True)
        os.rmdir(place)
    else:
        os.rename(place, away / "site")
    try:
        return world.replicate(name)
    finally:
        place.mkdir(exist_ok=True)
        if world.mounts:
            subprocess.run(["mount", "--move", away, place], check=True)
        else:
            os.rmdir(place)
            os.rename(away / "site", place)
        os.rmdir(away)


def clock(world: World, name: str) -> Done:
    return world.replicate(name, years=world.dice.choice([-10, 10]))


def copied_while_it_runs(world: World, name: str) -> Done:
    """A clone of the machine is taken at some call; the original goes on to its end."""
    path = world.dice.choice([JOURNAL, JOURNAL, STATE])
    process = world.start_replicate(name, fault=Fault(path, call(world, path), "stop"))
    if process.await_stop():
        world.copy_state()
        process.send(signal.SIGCONT)
    return process.end()


def nothing(world: World, name: str) -> Done:
    return world.replicate(name)


HITS = {"kill -9 at a moment": (kill_at_a_moment, 4), "kill -9 at a call": (kill_at_a_call, 4), "kill -9 around the head": (kill_around_the_head, 2),
        "stop, continue, interrupt": (stop_and_go_on, 1), "interrupt": (interrupt, 2),
        "full: state": (full_state, 2), "full: sites": (full_sites, 2), "full: state and site": (full_state_and_site, 1),
        "journal fails": (journal_fails, 3), "state fails": (state_fails, 3), "site fails": (site_fails, 2), "site away": (site_is_away, 1),
        "clock": (clock, 2), "cloned while it runs": (copied_while_it_runs, 3), "none": (nothing, 1)}


# ---- Damages: what becomes of the state folder between two runs -------------------------------------------------------

def a_copy(world: World) -> Path | None:
    copies = sorted((world.folder / "copies").iterdir())
    return world.dice.choice(copies) if copies else None


def journal_rolled_back(world: World):
    if copy := a_copy(world):
        world.roll_back(copy, "journal")


def state_rolled_back(world: World):
    """As when a machine is cloned: sometimes the other one comes back later."""
    if world.dice.random() < 0.5:
        world.copy_state()
    if copy := a_copy(world):
        world.roll_back(copy, "*")


def catalog_deleted(world: World):
    world.remove(world.dice.choice(["catalog.sqlite", "catalog.sqlite*"]))


def catalog_rolled_back(world: World):
    if copy := a_copy(world):
        world.roll_back(copy, "catalog.sqlite*")


def catalog_garbled(world: World):
    path = world.state / "catalog.sqlite"
    if path.is_file() and path.stat().st_size:
        with open(path, "r+b") as file:
            file.seek(world.dice.randrange(path.stat().st_size))
            file.write(world.dice.randbytes(world.dice.randint(1, 5000)))


def chain_rolled_back(world: World):
    if copy := a_copy(world):
        world.roll_back(copy, "chain")


DAMAGES = {"none": (lambda world: None, 12), "journal rolled back": (journal_rolled_back, 2), "state rolled back": (state_rolled_back, 3),
           "catalog deleted": (catalog_deleted, 2), "catalog rolled back": (catalog_rolled_back, 1), "catalog garbled": (catalog_garbled, 1),
           "chain rolled back": (chain_rolled_back, 1)}


def choose(dice: random.Random, kinds: dict, possible) -> str:
    names = [name for name in kinds if possible(name)]
    return dice.choices(names, [kinds[name][1] for name in names])[0]


# ---- Rounds ----------------------------------------------------------------------------------------------------------

class Game:
    """The rounds of one world."""

    def __init__(self, world: World, mounts: bool, faketime: bool, counts: Counter):
        self.world, self.dice, self.counts = world, world.dice, counts
        self.mounts, self.faketime = mounts, faketime
        key = rescue.read_keyfile((world.folder / "recovery.key").read_bytes(), lambda: PASSPHRASE.encode())
        self.identity, self.anchor = rescue.XWing(key.secret), key.archive
        self.box = black_box.Box(list(world.sites.values()), key.archive, self.identity)
        # The newest snapshot that is committed, and those of later runs that failed: their heads may be at some sites.
        self.newest: dict[str, list[dict | None]] = {name: [None] for name in world.sources}
        self.tried: dict[str, list[dict]] = {name: [] for name in world.sources}           # every model that a run was started with
        self.owed: set[str] = set()         # datasets whose newest snapshot lacks shards, or its head, somewhere
        self.doing = "founding"

    def possible(self, kind: str) -> bool:
        return (self.mounts or not kind.startswith("full")) and (self.faketime or kind != "clock")

    def play(self):
        world, dice = self.world, self.dice
        name, other = dice.sample(sorted(world.sources), 2)
        hit, damage = choose(dice, HITS, self.possible), choose(dice, DAMAGES, self.possible)
        self.counts["then " + damage] += damage != "none"
        self.doing = f"{hit}; then {damage}"
        self.done: set[str] = set()         # datasets that were committed with all sites at hand, and not touched since
        if dice.random() < 0.4:
            world.copy_state()
        world.sources[name].change()
        model = self.begin(name)
        beside = self.start_beside(other) if dice.random() < 0.15 else None
        done = HITS[hit][0](world, name)
        if beside:
            self.end_beside(other, *beside)
        self.counts[hit] += 1
        self.counts[hit + ", and it told"] += done.happened or done.code != 0
        self.doing += f" ({done.last_words()})"
        self.note(name, model, done)
        self.restore(name, not any(word in hit for word in ("full: s", "site")))
        DAMAGES[damage][0](world)
        if dice.random() < 0.35:
            self.doing += f"; {other} first"
            world.sources[other].change()
            self.commit(other, damage)
        if dice.random() < 0.5:
            world.sources[name].change()
        self.commit(name, damage)
        self.look()

    def begin(self, name: str) -> dict:
        model = self.world.sources[name].snapshot()
        self.tried[name].append(model)
        return model

    def start_beside(self, other: str):
        """The other dataset at the same time: whatever happens to the first, this one must commit."""
        self.counts["beside"] += 1
        self.doing += f"; beside it {other}"
        self.world.sources[other].change()
        return self.begin(other), self.world.start_replicate(other)

    def end_beside(self, other: str, model: dict, process):
        done = process.end()
        full = "full" in self.doing or "fails" in self.doing or "away" in self.doing
        if not reported(done) and not full:
            raise Broken(f"the run beside it, which nobody hit, did not commit: {done.last_words()}")
        self.note(other, model, done)
        self.restore(other, not full)

    def commit(self, name: str, damage: str):
        """A run that must commit; after real damage it may refuse first, and must go on once its hint was followed."""
        world, model = self.world, self.begin(name)
        path = self.dice.choice([JOURNAL, CHAIN, CATALOG, STATE])
        done = world.replicate(name, fault=Fault(path))
        world.calls[path], world.seconds = done.calls, done.seconds
        for _ in range(3):
            if not reported(done) and damage != "none" and "catalog rebuild" in done.err:
                self.counts["refused, then catalog rebuild"] += 1
                self.follow_hint(done)
                done = world.replicate(name)
        if not reported(done):
            raise Broken(f"the next run of {name} did not commit: {done.last_words()}")
        self.note(name, model, done)
        self.done.add(name)
        said = json.loads(done.out)["snapshots"][0]
        if said["debt_shards"] or said["head_sites"] != len(world.sites):
            raise Broken(f"all sites are well, and the run of {name} left {said['debt_shards']} shards owed and its head at {said['head_sites']} sites")
        self.restore(name)

    def note(self, name: str, model: dict, done: Done):
        if reported(done):
            said = json.loads(done.out)["snapshots"][0]
            self.newest[name] = [model]
            self.world.ids[name] = said["dataset_id"]
            (self.owed.add if said["debt_shards"] or said["head_sites"] != len(self.world.sites) else self.owed.discard)(name)
        else:
            self.newest[name].append(model)

    def follow_hint(self, done: Done):
        """`catalog rebuild`, in the way that is asked for in turn."""
        rebuilt = done
        for _ in range(3):
            anew = ["--anew"] if "--anew" in rebuilt.err else []
            rebuilt = self.world.run("catalog", "rebuild", *anew, "--identity", "recovery.key")
            if rebuilt.code in (0, 3):
                return
        raise Broken(f"the hint was followed, and `catalog rebuild` failed: {rebuilt.last_words()}")

    def restore(self, name: str, whole: bool = True):
        """From any sites but as many as the parity; a snapshot that is reported as committed can't hide from them. When
        shards may be owed, from all."""
        world, whole = self.world, whole and name not in self.owed
        sites = self.dice.sample(sorted(world.sites), self.dice.choice([world.enough(), len(world.sites)]) if whole else len(world.sites))
        killed = self.dice.uniform(0.05, 0.5) if self.dice.random() < 0.15 else None
        self.counts["restore killed, and went on"] += killed is not None
        done, tree = world.restore(name, sites, killed)
        allowed = self.newest[name]
        if None in allowed and not tree and done.code in (1, 2):
            return
        wanted = [model for model in allowed if model is not None]
        if tree not in wanted:
            raise Broken(f"{name} from {','.join(sites)} is neither of the {len(wanted)} snapshots that it may be: {difference(wanted[-1], tree)} "
                         f"({done.last_words()})")
        codes = {0, 3} if len(allowed) == 1 else {0, 3, 6}
        if done.code not in codes:
            raise Broken(f"{name} from {','.join(sites)} came back whole, but with {done.last_words()}")
        if world.restores % 3 == 0 and len(allowed) == 1:
            self.rescue(name, sites, tree)

    def rescue(self, name: str, sites: list[str], tree: dict):
        archive = rescue.Archive([str(self.world.sites[site]) for site in sites], self.anchor, self.identity)
        options = argparse.Namespace(head=None, dataset=self.world.ids.get(name, name))
        snapshot, _ = rescue.choose(archive, options)
        found = black_box.contents(snapshot)
        if found != tree:
            raise Broken(f"rescue.py restores {name} otherwise: {difference(tree, found)}")

    def look(self):
        violations = self.box.look()
        for name in self.done:
            newest = rescue.newest(self.box.heads, bytes.fromhex(self.world.ids[name]))
            if len(newest) != 1:
                violations.append(f"{name} has {len(newest)} newest heads after a run that saw all sites: "
                                  + ", ".join(f"{h.hash.hex()[:16]} seq {h.seq} of {h.chain[1].hex()[:8]}" for h in newest))
        for head in self.box.heads:
            tree, name = self.box.contents(head), self.box.dataset_name(head)
            if tree not in self.tried[name]:
                violations.append(f"head {head.hex()[:16]} holds a tree of {name} that never was")
        if violations:
            raise Broken("black box: " + " | ".join(violations[:6]))


def reported(done: Done) -> bool:
    """The program says that there is a new committed snapshot."""
    return done.code in (0, 3, 6) and '"outcome": "committed"' in done.out


class Session:
    """All worlds of one call."""

    def __init__(self, options):
        self.options, self.counts, self.failures = options, Counter(), []
        self.folder = Path(tempfile.mkdtemp(prefix="exclave-kill-", dir=options.folder or None))
        self.mounts, self.faketime = can_mount(self.folder), FAKETIME.is_file()
        if not self.mounts:
            note("Skipped: full disks; no file system can be mounted here")
        if not self.faketime:
            note("Skipped: clocks ten years off; libfaketime isn't installed (Debian: faketime)")
        self.shim = Shim(self.folder)
        self.rounds = 0
        self.leftovers = 0

    def play(self) -> int:
        options, began, number = self.options, time.monotonic(), 0
        worlds = [options.world] if options.world is not None else None
        while self.rounds < options.rounds if worlds is None else worlds:
            self.world(number if worlds is None else worlds.pop())
            number += 1
        seconds = time.monotonic() - began
        note(f"{self.rounds} rounds in {seconds:.0f} s, {len(self.failures)} failed; seed {options.seed}")
        for kind in sorted(kind for kind, count in self.counts.items() if count and not kind.endswith(", and it told")):
            told = self.counts[kind + ", and it told"]
            note(f"  {self.counts[kind]:5} {kind}" + (f"; {told} changed how the run ended" if told else ""))
        note(f"  {self.leftovers} bytes of puts that were killed are left at the sites")
        if not self.failures:
            shutil.rmtree(self.folder)
        return 1 if self.failures else 0

    def world(self, number: int):
        """One world; a failure ends it, since what follows would stand on what is broken."""
        dice = random.Random(f"{self.options.seed}/{number}")
        folder, shape = self.folder / f"world-{number}", dice.choice(SHAPES)
        world = World(folder, dice, self.options.binary, self.shim, self.mounts, shape)
        game = Game(world, self.mounts, self.faketime, self.counts)
        for at in range(ROUNDS_A_WORLD):
            if self.options.world is None and self.rounds >= self.options.rounds:
                break
            self.rounds += 1
            try:
                game.play()
                if self.options.verbose:
                    note(f"world {number} round {at}: {game.doing}")
            except (Broken, rescue.Refused, rescue.Usage) as why:
                self.failed(world, number, at, game.doing, str(why))
                break
        self.leftovers += game.box.leftover_bytes
        world.close()

    def failed(self, world: World, number: int, at: int, doing: str, why: str):
        kept = self.folder / f"failed-world-{number}"
        world.keep(kept)
        self.failures.append(number)
        trouble(f"world {number} round {at} ({world.shape.code} at {world.shape.sites} sites): {doing}\n  {why}\n"
                f"  kept: {kept}\n  again: tools/kill_rounds.py --seed {self.options.seed} --world {number}")


def can_mount(folder: Path) -> bool:
    if not os.environ.get("KILL_ROUNDS_MOUNTS"):
        return False
    place = folder / "probe"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], capture_output=True).returncode:
        return False
    subprocess.run(["umount", place], check=True)
    return True


def in_a_namespace(arguments: list[str]):
    """Goes on in a mount namespace of its own, where the system allows that: what is mounted there nobody else sees."""
    if "KILL_ROUNDS_MOUNTS" in os.environ:
        return
    for way in (["--mount"], ["--mount", "--map-root-user"]):
        if subprocess.run(["unshare", *way, "true"], capture_output=True).returncode == 0:
            os.environ["KILL_ROUNDS_MOUNTS"] = "1"
            os.execvp("unshare", ["unshare", *way, sys.executable, *arguments])
    os.environ["KILL_ROUNDS_MOUNTS"] = ""


def program(given: Path | None) -> Path:
    """The binary to play with: the one that was named, else that of the profile ci."""
    root = Path(__file__).resolve().parent.parent
    binary = (given or Path(os.environ.get("CARGO_TARGET_DIR", root / "target")) / "ci" / "exclave").resolve()
    if not os.access(binary, os.X_OK):
        trouble(f"there is no program {binary}; build it: cargo build --profile ci --workspace --bins --tests")
        sys.exit(2)
    return binary


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), metavar="N")
    parser.add_argument("--world", type=int, metavar="N", help="play this world only, all its rounds")
    parser.add_argument("--binary", type=Path, metavar="FILE", help="the program; by default that of the profile ci")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where worlds are made; by default the system's temporary folder")
    parser.add_argument("--verbose", action="store_true", help="say what each round did")
    options = parser.parse_args()
    options.binary = program(options.binary)
    in_a_namespace([__file__, "--seed", str(options.seed), *(a for a in sys.argv[1:])])
    return Session(options).play()


if __name__ == "__main__":
    sys.exit(main())
