"""black_box.py: whether an archive's stores hold what FORMAT.md promises, whatever was done to its writer.

It knows FORMAT.md and nothing of the program; it reads the stores as folders with rescue.py's primitives, and keeps a
memory of what it saw, so that it can be asked again and again while an archive grows. With the identity it opens every
envelope: keys are compared, not names. Nobody but the writer may have put anything into these stores; so whatever is
there and doesn't verify is a violation, not a stranger's rubbish.

    box = Box(folders, anchor, identity)
    box.look()                  a list of violations, in words; empty when all is well
    box.contents(head)          the tree that a head leads to

What is checked, in FORMAT.md's sections
  - every object's name has a form of section 2, and its tag is that of its bytes; names once seen stay, with their bytes;
  - every charter follows the one before it, and nobody signed two of one version (8);
  - every signed record verifies; no two heads have one place in a chain, and each names the one before it (7, 11);
  - every head's run and all it refers to have their envelope, ledger parts and run table pages at a quorum of the sites;
  - every stripe that a head needs has as many verified shards as the head says, and never fewer than k;
  - every shard's header, trailer, and place in the code agree with the others of its stripe (5, 6);
  - every log leads from checkpoint to checkpoint, and names the heads of its chain in their order (21);
  - **no key twice**: one stripe key has sealed one stripe, one box key one plaintext, one HPKE encapsulation one run key,
    and no two runs share a run key. Two payloads under one name but for the attempt are different bytes under one key;
  - every stripe opens, and every head's manifest and chunks can be read (12).

The quorums are those of DESIGN.md section 6, since FORMAT.md leaves them to writers: max(n - k + b + 1, ceil((n + b + 1) / 2)).
"""

import functools, os, re, stat
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import rescue
from rescue import Refused, hash_of

NAME = re.compile(r"""charter/\d{8}\.(?P<charter>[0-9a-f]{16})
    | sites/[0-9a-f]{32}\.(?P<plate>[0-9a-f]{16})
    | runs/(?P<run>[0-9a-f]{32})/(?P<what>envelope|reuse|ledger|live|close)\.(?P<record>[0-9a-f]{16})
    | shards/(?P<shard_run>[0-9a-f]{32})/(?P<folder>\d{6})/(?P<ordinal>\d{10})\.(?P<index>\d{2})\.(?P<shard>[0-9a-f]{16})(\.(?P<attempt>[1-9]\d*))?
    | grants/(?P<grant>[0-9a-f]{16})
    | log/(?P<log>[0-9a-f]{64}/[0-9a-f]{32})/(checkpoint/\d{20}|tile/([0-7]|entries)/(x\d{3}/)*\d{3}(\.p/[1-9]\d{0,2})?)\.(?P<logged>[0-9a-f]{16})
    | (datasets/[0-9a-f]{32}|names)/\d{8}\.(?P<said>[0-9a-f]{16})
    | kit/\d{8}/(manifest|[a-z0-9][a-z0-9._-]{0,39}\.\d{3})\.(?P<kit>[0-9a-f]{16})
    | heads/(?P<writer>[0-9a-f]{64})/(?P<incarnation>[0-9a-f]{32})/(?P<seq>\d{20})\.(?P<head>[0-9a-f]{16})""", re.VERBOSE)
LEFTOVER = re.compile(r"~[0-9]+\.[0-9]+")     # section 2: no object's name has a ~


class Found(NamedTuple):
    """A shard object that was read and verified on its own word."""
    context: rescue.Context
    index: int
    commitment: bytes
    payload_hash: bytes


class Box:
    def __init__(self, folders: list[Path], anchor: bytes, identity: rescue.XWing):
        self.folders, self.anchor, self.identity = [Path(f) for f in folders], anchor, identity
        self.violations: list[str] = []
        self.seen: dict[tuple[int, str], tuple] = {}          # (site, name): what stat says
        self.digests: dict[str, bytes] = {}                   # name: hash of the bytes, the same at every site
        self.records: dict[str, bytes] = {}                   # name: bytes of whatever isn't a shard
        self.holders: dict[str, set[int]] = defaultdict(set)  # name: sites
        self.shards: dict[str, Found] = {}                    # name
        self.heads: dict[bytes, rescue.Head] = {}
        self.head_names: dict[bytes, str] = {}
        self.run_keys: dict[bytes, bytes] = {}
        self.opened: dict[tuple, str | None] = {}             # stripes that were opened
        self.trees: dict[bytes, dict] = {}
        self.leftover_bytes = 0

    def look(self) -> list[str]:
        """What is wrong that wasn't said before."""
        self.violations = []
        self.leftover_bytes = 0
        fresh = self.scan()
        self.read_charters(fresh)
        self.read_heads(fresh)
        self.read_envelopes()
        self.check_logs()
        self.check_chains()
        self.check_stripes()
        self.check_boxes()
        for head in self.heads.values():
            self.check_head(head)
        return self.violations

    def wrong(self, message: str):
        self.violations.append(message)

    # What lies there

    def scan(self) -> list[str]:
        """Every object at every site; the names that are new."""
        fresh, now = [], set()
        for site, folder in enumerate(self.folders):
            root = folder / self.anchor.hex()[:32]
            for here, _, files in os.walk(root):
                for file in files:
                    path = os.path.join(here, file)
                    if LEFTOVER.fullmatch(file):
                        self.leftover_bytes += os.stat(path).st_size
                        continue
                    name = os.path.relpath(path, root)
                    now.add((site, name))
                    info = os.stat(path)
                    what = (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
                    if self.seen.get((site, name)) != what:
                        self.seen[site, name] = what
                        if self.read_object(site, name, path, info):
                            fresh.append(name)
                            self.holders[name].add(site)
        for site, name in self.seen.keys() - now:
            self.wrong(f"{name} is gone from {self.folders[site]}")
            self.holders[name].discard(site)
            del self.seen[site, name]
        return fresh

    def read_object(self, site: int, name: str, path: str, info: os.stat_result) -> bool:
        form = NAME.fullmatch(name)
        if not form or not stat.S_ISREG(info.st_mode):
            self.wrong(f"{path} has no name of section 2")
            return False
        data = Path(path).read_bytes()
        digest = hash_of(data)
        if self.digests.setdefault(name, digest) != digest:
            self.wrong(f"{name} has other bytes at {self.folders[site]} than were seen elsewhere or before")
            return False
        if form["shard"]:
            return name in self.shards or self.read_shard(name, form, data)
        tag = next(t for t in (form["charter"], form["plate"], form["record"], form["head"], form["grant"], form["said"], form["kit"], form["logged"]) if t)
        if tag != digest.hex()[:16]:
            self.wrong(f"{name} has a tag that isn't its bytes'")
            return False
        self.records[name] = data
        return True

    def read_shard(self, name: str, form: re.Match, data: bytes) -> bool:
        try:
            shard = rescue.read_shard(data)
        except Refused as why:
            self.wrong(f"{name}: {why}")
            return False
        payload_hash, context = hash_of(shard.payload), shard.context
        if (form["shard_run"], int(form["ordinal"]), int(form["index"]), form["shard"], int(form["folder"])) != \
                (context.run.hex(), context.ordinal, shard.index, payload_hash.hex()[:16], context.ordinal // 4096):
            self.wrong(f"{name} isn't the name of what it holds: stripe {context.ordinal} of {context.run.hex()}, shard {shard.index}")
            return False
        if context.anchor != self.anchor:
            self.wrong(f"{name} belongs to another archive")
            return False
        self.shards[name] = Found(context, shard.index, shard.commitment, payload_hash)
        return True

    def named(self, pattern: str):
        return sorted(name for name in self.records if re.fullmatch(pattern, name))

    # Records

    @property
    def charters(self) -> rescue.Charters:
        return self.history(tuple(self.named(r"charter/.*")))

    @functools.lru_cache(maxsize=2)
    def history(self, names: tuple[str, ...]) -> rescue.Charters:
        return rescue.read_history([(name, self.records[name]) for name in names], self.anchor)

    def read_charters(self, fresh: list[str]):
        """Each is one version of one history, and no other lies beside it."""
        if not any(name.startswith("charter/") for name in fresh):
            return
        for name, why in self.charters.refused:
            self.wrong(f"{name}: {why}")
        if self.charters.fork:
            self.wrong(f"CHARTER FORK: {len(self.charters.fork)} versions {self.charters.newest.value[1] + 1}")

    def read_heads(self, fresh: list[str]):
        charters = self.charters.by_number
        for name in fresh:
            if not name.startswith("heads/"):
                continue
            try:
                head = rescue.read_head(self.records[name], self.anchor, charters)
            except Refused as why:
                self.wrong(f"{name}: {why}")
                continue
            place = NAME.fullmatch(name)
            if (bytes.fromhex(place["writer"]), bytes.fromhex(place["incarnation"])) != head.chain or int(place["seq"]) != head.seq:
                self.wrong(f"{name} isn't the place of what it holds")
            self.heads[head.hash] = head
            self.head_names.setdefault(head.hash, name)

    def read_envelopes(self):
        charters = self.charters.by_number
        for name in self.named(r"runs/.*/envelope\..*"):
            run = bytes.fromhex(name.split("/")[1])
            try:
                found = rescue.read_envelope(self.records[name], self.anchor, run, charters, None, self.identity)
                rescue.check_class(charters[found.value[5]], found.value, found.signer)
            except Refused as why:
                self.wrong(f"{name}: {why}")
                continue
            if self.run_keys.setdefault(run, found.run_key) != found.run_key:
                self.wrong(f"run {run.hex()} has two run keys")
        for name in self.named("grants/.*"):
            try:
                rescue.read_grant(self.records[name], self.anchor, charters)
            except Refused as why:
                self.wrong(f"{name}: {why}")
        for name in self.named("(datasets|names)/.*"):
            try:
                if name.startswith("names/"):
                    value, _ = rescue.read_companion(self.records[name], self.anchor, self.charters)
                    place = f"names/{value[2]:08}."
                else:
                    value, _, _ = rescue.read_registration(self.records[name], self.anchor, self.charters)
                    place = f"datasets/{value[2].hex()}/{value[3]:08}."
                if not name.startswith(place):
                    self.wrong(f"{name} isn't the place of what it holds")
            except Refused as why:
                self.wrong(f"{name}: {why}")
        if len(set(self.run_keys.values())) != len(self.run_keys):
            self.wrong("two runs share a run key")
        for name in self.named(r"runs/.*/(reuse|close)\..*"):
            kind, shape = ("exclave reuse v1", rescue.REUSE) if "/reuse." in name else ("exclave close v1", rescue.CLOSE)
            try:
                body, _ = rescue.open_signed(self.records[name], rescue.RECORD_CAP, kind, rescue.all_writers(charters))
                value = rescue.record(body, shape)
                if value[1] != self.anchor or value[2].hex() != name.split("/")[1]:
                    self.wrong(f"{name} belongs elsewhere")
            except Refused as why:
                self.wrong(f"{name}: {why}")

    def check_logs(self):
        """Every checkpoint is signed, leads to the next, and what is logged as a head is one, in its place."""
        charters = self.charters.by_number
        keys = {key: public for charter in charters.values() for key, public in charter.everyone.items()}
        objects = defaultdict(list)
        for name in self.named(r"log/.*"):
            _, key, life, rest = name.split("/", 3)
            objects[bytes.fromhex(key), bytes.fromhex(life)].append((rest, self.records[name]))
        for (key, life), found in objects.items():
            if key not in keys:
                self.wrong(f"a log of key {key.hex()}, which no charter names")
                continue
            log = rescue.LogView(key, life, keys[key], self.anchor, found)
            for finding in log.refused + log.findings:
                self.wrong(f"log {key.hex()}/{life.hex()}: {finding}")
            logged = [named for kind, named in map(rescue.read_log_entry, log.entries) if kind == 1]
            chain = {h.seq: h.hash for h in self.heads.values() if h.chain == (key, life)}
            for seq, named in enumerate(logged):
                if chain.get(seq) != named:
                    self.wrong(f"log {key.hex()}/{life.hex()} names {named.hex()} as head {seq}, and the sites show another or none")

    def check_chains(self):
        for a, b in rescue.find_forks(self.heads):
            self.wrong(f"FORK: two heads of seq {a.seq} in chain {a.chain[1].hex()}: {a.hash.hex()} and {b.hash.hex()}")
        places = {(h.chain, h.seq): h for h in self.heads.values()}
        for head in self.heads.values():
            before = places.get((head.chain, head.seq - 1))
            if before and head.value.get(6) != before.hash:
                self.wrong(f"head {head.hash.hex()} of seq {head.seq} names another head before it than {before.hash.hex()}")

    def gaps(self) -> int:
        """Places of chains without a head although a later one is there."""
        tops: dict = {}
        for head in self.heads.values():
            tops[head.chain] = max(tops.get(head.chain, 0), head.seq)
        return sum(tops.values()) + len(tops) - len({(h.chain, h.seq) for h in self.heads.values()})

    # Stripes and keys

    def check_stripes(self):
        """One stripe key, one stripe; what lies there is one codeword, and opens."""
        stripes: dict[bytes, dict[int, dict[bytes, str]]] = defaultdict(lambda: defaultdict(dict))
        for name, shard in self.shards.items():
            run_key = self.run_keys.get(shard.context.run)
            if run_key is None:
                if self.once(("no envelope", shard.context.run)):
                    self.wrong(f"run {shard.context.run.hex()} has shards and no envelope at any site")
                continue
            derived = rescue.kdf("exclave 2026 stripe key v1", run_key + shard.context.raw, 64)
            if derived[32:] != shard.commitment and self.once(("commitment", name)):
                self.wrong(f"{name} is committed to another key")
            key = derived[:32]
            before = self.opened.setdefault(("context", key), shard.context.raw)
            if before != shard.context.raw and self.once(("one key", key)):
                self.wrong(f"one stripe key for two contexts: {before.hex()} and {shard.context.raw.hex()}")
            stripes[key][shard.index].setdefault(shard.payload_hash, name)
        for key, by_index in stripes.items():
            for index, payloads in by_index.items():
                if len(payloads) > 1 and self.once(("twice", key, index)):
                    self.wrong(f"KEY AND NONCE TWICE: shard {index} has {len(payloads)} payloads under one stripe key: {sorted(payloads.values())}")
            self.open_stripe({index: next(iter(payloads.values())) for index, payloads in by_index.items()})

    def once(self, what) -> bool:
        if what in self.opened:
            return False
        self.opened[what] = None
        return True

    def open_stripe(self, names: dict[int, str]):
        """Every shard that lies there is recomputed from k of them, and the stripe is opened; once for each set of shards."""
        if not self.once(("stripe", *sorted(names.values()))):
            return
        shard = self.shards[next(iter(names.values()))]
        context, k = shard.context, shard.context.k
        if len(names) < k:
            return      # of a run that died; what heads need is counted by check_head
        payloads = {index: self.payload(name, context.payload) for index, name in names.items()}
        data = rescue.decode(k, payloads)
        for index, payload in payloads.items():
            row = rescue.code_rows([index], k)[0]
            if (data[index] if index < k else rescue.combine(row, data)) != payload:
                self.wrong(f"{names[index]} isn't of one codeword with the other shards of its stripe")
                return
        try:
            plain = rescue.open_stripe(self.run_keys[context.run], context, shard.commitment, b"".join(data))
            rescue.read_directory(plain)
        except Refused as why:
            self.wrong(f"stripe {context.ordinal} of run {context.run.hex()} doesn't open: {why}")

    def payload(self, name: str, size: int) -> bytes:
        site = min(self.holders[name])
        return (self.folders[site] / self.anchor.hex()[:32] / name).read_bytes()[152:152 + size]

    def check_boxes(self):
        """Labels and sealed heads: a box key seals one plaintext. Stanzas: an encapsulation is used once."""
        boxes: dict[tuple, bytes] = {}
        encapsulations: dict[bytes, str] = {}
        for name in self.named(r"runs/.*/envelope\..*"):
            value = rescue.record(rescue.split_signed(self.records[name], rescue.ENVELOPE_CAP)[0], rescue.ENVELOPE)
            self.one_box(boxes, value[2], 1, value[9])
            for _, enc, _ in value[10]:
                if encapsulations.setdefault(enc, name) != name:
                    self.wrong(f"one HPKE encapsulation in {name} and {encapsulations[enc]}")
        for head in self.heads.values():
            self.one_box(boxes, head.value[12], 2, head.value[14])

    def one_box(self, boxes: dict, run: bytes, purpose: int, box: bytes):
        if run not in self.run_keys:
            return
        key = rescue.kdf("exclave 2026 box v1", self.run_keys[run] + bytes([purpose]) + box[:32], 64)[:32]
        if boxes.setdefault((key,), box) != box:
            self.wrong(f"KEY AND NONCE TWICE: two boxes of purpose {purpose} in run {run.hex()} under one box key")

    # What a head promises

    def quorum(self, envelope: dict) -> tuple[int, int]:
        """(sites of a layout, sites that hold what a committed head needs) of the run's class."""
        _, _, k, parity, _, liars, _, _, _ = next(c for c in self.charters.by_number[envelope[5]].value[8] if c[0] == envelope[4])
        n = k + parity
        return n, max(n - k + liars + 1, -(-(n + liars + 1) // 2))

    def check_head(self, head: rescue.Head):
        if not self.once(("head", head.hash)):
            return
        name = f"head {head.hash.hex()[:16]} (seq {head.seq})"
        try:
            archive = self.archive()
            snapshot = rescue.Snapshot(archive, head)
            _, q = self.quorum(archive.run_keys[head.value[12]].value)
            for digest in head.value[13]:
                self.lies_at(q, f"runs/.*/live.{digest.hex()[:16]}", f"{name}: run table page")
            for run, entry in snapshot.runs.items():
                snapshot.envelope(run)
                self.lies_at(q, f"runs/{run.hex()}/envelope\\..*", f"{name}: envelope of run {run.hex()}")
                for digest in entry.parts:
                    self.lies_at(q, f"runs/{run.hex()}/ledger.{digest.hex()[:16]}", f"{name}: ledger part of run {run.hex()}")
                self.check_live(name, head, snapshot, run, entry)
            self.trees[head.hash] = contents(snapshot)
        except Refused as why:
            self.wrong(f"{name}: {why}")

    def check_live(self, name: str, head: rescue.Head, snapshot: rescue.Snapshot, run: bytes, entry: rescue.RunEntry):
        """Each stripe that the head needs is in a ledger part, with as many good shards as the head says."""
        ledger = snapshot.ledger(run)
        for ordinal in (o for span in entry.live.spans for o in span):
            stripe = ledger.get(ordinal)
            if stripe is None:
                self.wrong(f"{name}: stripe {ordinal} of run {run.hex()} is live, and in no ledger part that the head names")
                continue
            good = sum(self.has_shard(stripe, index, digest) for index, digest in enumerate(stripe.hashes))
            if good < max(stripe.context.k, head.value[9]):
                self.wrong(f"{name}: stripe {ordinal} of run {run.hex()} has {good} good shards; k is {stripe.context.k}, the head says {head.value[9]}")

    def has_shard(self, stripe: rescue.Stripe, index: int, digest: bytes) -> bool:
        context = stripe.context
        wanted = f"shards/{context.run.hex()}/{context.ordinal // 4096:06}/{context.ordinal:010}.{index:02}.{digest.hex()[:16]}"
        found = self.shards.get(wanted) or next((s for n, s in self.shards.items() if n.startswith(wanted + ".")), None)
        return found is not None and (found.context.raw, found.index, found.commitment, found.payload_hash) == (context.raw, index, stripe.commitment, digest)

    def lies_at(self, q: int, pattern: str, what: str):
        """At q sites with the same bytes; which of several that have a right name doesn't matter."""
        most = max((len(self.holders[name]) for name in self.named(pattern)), default=0)
        if most < q:
            self.wrong(f"{what} lies at {most} sites, {q} are a quorum")

    def archive(self) -> rescue.Archive:
        return rescue.Archive([str(f) for f in self.folders], self.anchor, self.identity)

    def contents(self, head: bytes) -> dict[str, tuple]:
        """Path to (kind, mode, time, content), as kill_world.tree_of gives it; {} when the head doesn't lead to a tree."""
        return self.trees.get(head, {})

    def dataset_name(self, head: bytes) -> str:
        return rescue.Snapshot(self.archive(), self.heads[head]).sealed[1]


def contents(snapshot: rescue.Snapshot) -> dict[str, tuple]:
    """The tree of a snapshot, every chunk read and checked."""
    lost, found = [], {}
    for entry in snapshot.entries(lost):
        if not entry[0]:
            continue
        path, when = os.fsdecode(entry[0]), entry[5] * 10**9 + entry[6]
        if entry[1] == rescue.FILE:
            found[path] = ("file", entry[2], when, file_hash(snapshot, entry))
        elif entry[1] == rescue.DIRECTORY:
            found[path] = ("folder", entry[2], when, "")
        elif entry[1] == rescue.SYMLINK:
            found[path] = ("link", 0, when, os.fsdecode(entry[11]))
    for what, why in lost:
        raise Refused(why.kind, f"{what}: {why.message}")
    return found


def file_hash(snapshot: rescue.Snapshot, entry: dict) -> str:
    hasher, at = rescue.blake3(), 0
    for offset, _, refs in snapshot.extents(entry):
        hasher.update(bytes(offset - at))
        at = offset
        for ref in refs:
            data = snapshot.chunk(ref)
            hasher.update(data)
            at += len(data)
    hasher.update(bytes(entry[10] - at))
    return hasher.hexdigest()
