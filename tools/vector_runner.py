"""vector_runner.py: evaluate one file of tests/vectors with rescue.py's own functions. The format is in tests/vectors/README.md.

Each function below is one layer of the README and does, in the same order, what the README says. An outcome is `success`,
a kind of rescue.KINDS, or `wrong-output` when the evaluation succeeds but the bytes it gives aren't those expected.
"""

import base64, itertools, re, zlib
from pathlib import Path

import rescue
from rescue import Refused, need


class Vector:
    def __init__(self, source: str):
        head, _, body = source.partition("\n\n")
        self.fields: dict[str, list[str]] = {}
        for line in re.sub(r"\n ", "", head).split("\n"):
            key, colon, value = line.partition(": ")
            assert colon, f"not a header line: {line!r}"
            self.fields.setdefault(key, []).append(value)
        self.used = {"comment", "expect", "layer", "output", "encoding"}
        data = "".join(body.split())
        encoding = self.text("encoding")
        self.body = {"hex": bytes.fromhex, "base64": base64.b64decode, "zlib": lambda d: zlib.decompress(base64.b64decode(d))}[encoding](data)

    def all(self, key: str) -> list[str]:
        self.used.add(key)
        return self.fields.get(key, [])

    def text(self, key: str) -> str | None:
        values = self.all(key)
        assert len(values) <= 1, f"{key} stands twice"
        return values[0] if values else None

    def hex(self, key: str) -> bytes | None:
        value = self.text(key)
        return None if value is None else bytes.fromhex(value)

    def number(self, key: str) -> int | None:
        value = self.text(key)
        return None if value is None else int(value)

    def writers(self) -> dict[bytes, bytes]:
        keys = [bytes.fromhex(v) for v in self.all("public-key")]
        return {rescue.hash_of(key): key for key in keys}

    def charters(self, recipients=None) -> dict[int, rescue.Charter]:
        """A charter of which only the writers and recipients are known."""
        return {self.number("charter-version") or 1: rescue.Charter(b"", self.writers(), recipients or {}, {})}


def same(found, expected, kind: str):
    need(expected is None or found == expected, kind, f"{found!r} where {expected!r} was expected")


def compare_context(v: Vector, found: rescue.Context):
    same(found.anchor, v.hex("anchor"), "wrong-archive")
    same(found.run, v.hex("run"), "wrong-run")
    same(found.ordinal, v.number("ordinal"), "wrong-stripe")


def context(v: Vector):
    compare_context(v, rescue.read_context(v.body))
    return v.body


def stripe(v: Vector):
    return rescue.open_stripe(v.hex("run-key"), rescue.read_context(v.hex("context")), v.hex("commitment"), v.body)


def directory(v: Vector):
    chunks = rescue.read_directory(v.body)
    return b"".join(c.id for c in chunks)


def chunk(v: Vector):
    return rescue.read_chunk(v.body, v.number("codec"), v.number("raw-length"), v.hex("chunk-id"), v.hex("dedup-key"))


def shard(v: Vector):
    if v.text("trust") == "ledger":
        return rescue.payload_of(v.body, v.number("payload-length"), v.hex("payload-hash"))
    found = rescue.read_shard(v.body)
    compare_context(v, found.context)
    same(found.index, v.number("index"), "wrong-index")
    same(found.commitment, v.hex("commitment"), "bad-commitment")
    same(rescue.hash_of(found.payload), v.hex("payload-hash"), "bad-hash")
    return found.payload


def code(v: Vector):
    k, n, present, hashes = v.number("k"), v.number("n"), v.text("present"), v.hex("hashes")
    size = len(v.body) // n
    shards = [v.body[i * size:(i + 1) * size] for i in range(n)]
    if present is not None:
        hashes = [hashes[i:i + 32] for i in range(0, 32 * n, 32)]
        return rescue.rebuild(k, hashes, {int(i): shards[int(i)] for i in present.split(",")})
    for subset in itertools.combinations(range(n), k):
        need(rescue.decode(k, {i: shards[i] for i in subset}) == shards[:k], "bad-parity", f"from shards {subset}")
    return b"".join(shards[:k])


def record(v: Vector):
    shape = v.text("shape")
    if shape is None:
        rescue.cbor(v.body)
    else:
        need(len(v.body) <= rescue.RECORD_CAP, "too-long", "a record")
        value = rescue.record(v.body, {"plate": rescue.PLATE, "reuse": rescue.REUSE, "close": rescue.CLOSE}[shape])
        if shape == "reuse":
            for _, live in value[3]:
                rescue.LiveSet(live)
            need(len(value[3]) <= 4096, "too-long", f"{len(value[3])} runs")
            rescue.ascending((run for run, _ in value[3]), "claimed runs")
    return v.body


def logproof(v: Vector):
    return rescue.read_log_proof(v.body, v.hex("anchor"), v.writers())[1]


def logconsistency(v: Vector):
    old, old_root, new, new_root, hashes = rescue.cbor(v.body)
    rescue.check_consistency(old, old_root, new, new_root, hashes)
    return new_root


def signed(v: Vector):
    return rescue.open_signed(v.body, rescue.RECORD_CAP, v.text("type"), v.writers())[0]


def charter(v: Vector):
    return rescue.read_charter(v.body, v.hex("anchor")).hash


def history(objects: list[bytes], anchor: bytes) -> rescue.Charters:
    """Every object has its place in it."""
    for data in objects:
        rescue.split_signed(data, rescue.RECORD_CAP)
    found = rescue.read_history([("", data) for data in objects], anchor)
    need(not found.fork, "fork", "two versions of one number")
    for _, why in found.refused:
        raise why
    return found


def charters(v: Vector):
    return history(rescue.cbor(v.body), v.hex("anchor")).newest.hash


def charterfile(v: Vector):
    objects, plates = rescue.read_charter_file(v.body)
    for data in objects + plates:
        rescue.split_signed(data, rescue.RECORD_CAP)
    return b"".join(objects)


def obeyed(v: Vector):
    objects, data = rescue.cbor(v.body)
    found, anchor = history(objects, v.hex("anchor")).by_number, v.hex("anchor")
    envelope = rescue.read_envelope(data, anchor, v.hex("run"), found, None, rescue.XWing(v.hex("identity")))
    rescue.check_class(found[envelope.value[5]], envelope.value, envelope.signer)
    return envelope.run_key


def grant(v: Vector):
    objects, data = rescue.cbor(v.body)
    anchor, run, identity = v.hex("anchor"), v.hex("run"), rescue.XWing(v.hex("identity"))
    value = rescue.read_grant(data, anchor, history(objects, anchor).by_number)
    need(rescue.hash_of(value[3]) == identity.id, "not-a-recipient", "a grant to somebody else")
    given = next((line for line in value[5] if line[0] == run), None)
    need(given, "not-found", "the run isn't given")
    _, commitment, enc, ciphertext = given
    run_key = identity.unseal(enc, ciphertext, rescue.wrapping_info(b"exclave grant v1", anchor, run, identity.id, commitment))
    need(rescue.kdf("exclave 2026 run commitment v1", run_key) == commitment, "bad-commitment", "another run key")
    return run_key


def collection(v: Vector):
    objects, data = rescue.cbor(v.body)
    anchor = v.hex("anchor")
    return rescue.read_collection(v.text("layer"), data, anchor, history(objects, anchor))[1]


def kit(v: Vector):
    objects, data = rescue.cbor(v.body)
    return rescue.read_kit(data, v.hex("anchor"), history(objects, v.hex("anchor")))[1]


def dataset(v: Vector):
    objects, records = rescue.cbor(v.body)
    charters = history(objects, v.hex("anchor"))
    number, held = rescue.registered([rescue.read_registration(data, v.hex("anchor"), charters) for data in records], charters)
    return number.to_bytes(4) + bytes(held)


def names(v: Vector):
    objects, data = rescue.cbor(v.body)
    value, _ = rescue.read_companion(data, v.hex("anchor"), history(objects, v.hex("anchor")))
    return rescue.open_companion(value, rescue.XWing(v.hex("identity"))).encode()


def logins(v: Vector):
    objects, data = rescue.cbor(v.body)
    newest = history(objects, v.hex("anchor")).newest
    value = rescue.read_sealed_logins(data, v.hex("anchor"), v.number("kit"), newest)
    return rescue.open_logins(value, rescue.XWing(v.hex("identity"))).encode()


def revoked(v: Vector):
    objects, heads = rescue.cbor(v.body)
    found, anchor = history(objects, v.hex("anchor")), v.hex("anchor")
    heads = [rescue.read_head(data, anchor, found.by_number) for data in heads]
    counting, _, missing = rescue.void_revoked(found.newest, {h.hash: h for h in heads})
    need(not missing, "not-found", "the head of a pin")
    need(not rescue.find_forks(counting), "fork", "two heads of one seq")
    return b"".join(sorted(counting))


def envelope(v: Vector):
    set_id, epoch = map(int, v.text("recipient-set").split(","))
    recipients = {(set_id, epoch): [bytes.fromhex(r) for r in v.text("recipients").split(",")]}
    identity = rescue.XWing(v.hex("identity"))
    return rescue.read_envelope(v.body, v.hex("anchor"), v.hex("run"), v.charters(recipients), v.hex("run-commitment"), identity).run_key


def ledger(v: Vector):
    rescue.read_ledger(v.body, v.hex("anchor"), v.hex("run"))
    return v.body


def head(v: Vector):
    found, run_key = rescue.read_head(v.body, v.hex("anchor"), v.charters()), v.hex("run-key")
    return found.hash if run_key is None else rescue.read_sealed_head(run_key, found.value[14])[10]


def chain(v: Vector):
    heads = [rescue.read_head(data, v.hex("anchor"), v.charters()) for data in rescue.cbor(v.body)]
    heads = {h.hash: h for h in heads}
    need(not rescue.find_forks(heads), "fork", "two heads of one seq")
    return b"".join(sorted(h.hash for h in rescue.newest(heads, v.hex("dataset"))))


def runs(v: Vector):
    table = rescue.read_runs(rescue.cbor(v.body), v.hex("anchor"))
    return b"".join(table)


def manifest(v: Vector):
    live = {}
    for item in filter(None, (v.text("live") or "").split(";")):
        run, _, numbers = item.partition("=")
        live[bytes.fromhex(run)] = rescue.LiveSet([int(x) for x in numbers.split(",")])
    items = rescue.read_page(v.body, v.number("level"), live)
    same(items[0][0], v.hex("first"), "bad-order")
    return v.body


def keyfile(v: Vector):
    passphrase = v.hex("passphrase")
    return rescue.read_keyfile(v.body, lambda: passphrase).secret


def shareset(v: Vector):
    rescue.read_share_set(v.body)
    return v.body


def sharetext(v: Vector):
    return rescue.read_share_text(v.body.decode("utf-8", "replace"))


def wrappedshare(v: Vector):
    return rescue.open_wrapped_share(v.body, rescue.XWing(v.hex("ceremony")))


def combine(v: Vector):
    share_set = rescue.read_share_set(v.hex("share-set"))
    texts = rescue.cbor(v.body)
    rescue.array(rescue.text, 0)(texts)
    shares = [rescue.read_share_text(text) for text in texts]
    good, findings = rescue.check_shares(share_set, shares)
    for why in findings:
        raise why
    return rescue.combine_shares(share_set, good)


LAYERS = {f.__name__: f for f in (context, stripe, directory, chunk, shard, code, record, signed, charter, charters,
                                  charterfile, obeyed, grant, kit, logins, dataset, names, revoked, envelope, ledger,
                                  head, chain, runs, manifest, keyfile, shareset, sharetext, wrappedshare,
                                  combine, logproof, logconsistency)}
LAYERS |= dict.fromkeys(("mark", "sweep", "hold"), collection)


def run(path: Path) -> tuple[str, str]:
    """(outcome, what the file expects)"""
    v = Vector(path.read_text("ascii"))
    expected = v.text("expect")
    assert expected == "success" or expected in rescue.KINDS, f"unknown kind {expected}"
    try:
        given = LAYERS[v.text("layer")](v)
        wanted = v.hex("output")
        outcome = "success" if wanted in (None, rescue.hash_of(given)) else "wrong-output"
    except Refused as why:
        outcome = why.kind
    unused = v.fields.keys() - v.used
    assert not unused or outcome != "success", f"header lines that nothing reads: {unused}"
    return outcome, expected
