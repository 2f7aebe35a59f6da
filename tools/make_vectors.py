"""make_vectors.py: write the files of tests/vectors that aren't there yet, and check all of them.

    .venv/bin/python tools/make_vectors.py            # adds what is missing
    .venv/bin/python tools/make_vectors.py NAME ...   # writes these again

Files that are there are never touched otherwise: vectors are added, not changed. Keys and contents come from a seed;
ML-DSA signatures and HPKE encapsulations differ each time, so a file that is written again has other bytes of equal meaning.
Each group of vectors is a function below; the first line of each is the one that succeeds, and the others differ from it in one thing.
"""

import base64, copy, io, sys, zlib
from pathlib import Path

import zstandard
from blake3 import blake3

import charter_vectors
import collection_vectors
import forge
import kit_vectors
import log_vectors
import share_vectors
import tenant_vectors
import vector_runner
from forge import Raw, cbor, h, kdf, signed

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "vectors"
f = forge.Forge("vectors")
draw = f.draw
RUN, RUN_KEY, OTHER_RUN, OTHER_KEY = draw("run", 16), draw("run key", 32), draw("other run", 16), draw("other key", 32)
OTHER_ANCHOR = draw("other anchor", 32)
STRANGER, W0, W1 = forge.Signer(draw("stranger", 64)), f.writers[0], f.writers[1]
VECTORS: dict[str, str] = {}


def v(name: str, layer: str, expect: str, comment: str, body: bytes, output: bytes | None = None, **keys):
    """Remember one vector. Bytes become hex, lists become repeated lines; None is left out."""
    lines = [f"comment: {comment}", f"layer: {layer}", f"expect: {expect}"]
    for key, value in keys.items():
        for one in value if isinstance(value, list) else [] if value is None else [value]:
            lines.append(f"{key.replace('_', '-')}: {one.hex() if isinstance(one, bytes) else one}")
    if output is not None:
        lines.append(f"output: {h(output).hex()}")
    packed = zlib.compress(body, 9)
    if len(body) <= 256:
        encoding, data = "hex", body.hex()
    elif len(packed) < len(body) * 9 // 10:
        encoding, data = "zlib", base64.b64encode(packed).decode()
    else:
        encoding, data = "base64", base64.b64encode(body).decode()
    lines.append(f"encoding: {encoding}")
    folded = lines[:1] + ["\n ".join(fold(line)) for line in lines[1:]]
    assert name not in VECTORS, name
    VECTORS[name] = "\n".join(folded) + "\n\n" + "\n".join(fold(data)) + "\n"


def fold(line: str) -> list[str]:
    return [line[i:i + 76] for i in range(0, len(line), 76)]


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:] if at >= 0 else flip(data, len(data) + at)


def put(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new):]


def but(value: dict, **changes) -> dict:
    """The record with fields replaced (f3=...) or left out (f3=None)."""
    out = copy.deepcopy(value) | {int(k[1:]): x for k, x in changes.items()}
    return {k: x for k, x in out.items() if x is not None}


def a_context(k=1, payload=65536, run=RUN, ordinal=5, anchor=None, salt=None, label=b"public"):
    tag = kdf("exclave 2026 label tag v1", RUN_KEY + label, 16)
    return forge.context(anchor or f.anchor, run, ordinal, salt or draw("salt", 32), tag, k, payload)


# ---- Stripe context, stripe, directory, chunk, shard, code -------------------------------------------------------------

def contexts():
    good = a_context(4, 8 << 20)
    v("context-good", "context", "success", "4 x 8 MiB", good, good, anchor=f.anchor, run=RUN, ordinal=5)
    v("context-largest", "context", "success", "32 x 32 MiB is 2^30, the cap itself", put(good, 11, bytes([32]) + (1 << 25).to_bytes(4)))
    for name, expect, comment, bad in [
        ("short", "bad-length", "one byte too few", good[:-1]), ("long", "bad-length", "one byte too many", good + b"\0"),
        ("empty", "bad-length", "no bytes", b""), ("magic", "bad-magic", "the magic in lower case", put(good, 0, b"exclshrd")),
        ("version-0", "bad-version", "version 0", put(good, 8, b"\0")), ("version-2", "bad-version", "version 2", put(good, 8, b"\2")),
        ("suite", "bad-suite", "suite 2", put(good, 9, b"\2")), ("code", "bad-suite", "code 2", put(good, 10, b"\2")),
        ("k-0", "bad-geometry", "k is 0", put(good, 11, b"\0")), ("k-33", "bad-geometry", "k is 33", put(good, 11, b"\x21")),
        ("payload-0", "bad-geometry", "payload length 0", put(good, 12, bytes(4))),
        ("payload-odd", "bad-geometry", "payload length not a multiple of 65,536", put(good, 12, (8 << 20 | 1).to_bytes(4))),
        ("payload-small", "bad-geometry", "payload length 4,096", put(good, 12, (4096).to_bytes(4))),
        ("too-large", "bad-geometry", "k x P is above 2^30", put(good, 11, bytes([32]) + ((1 << 25) + 65536).to_bytes(4)))]:
        v(f"context-{name}", "context", expect, comment, bad)
    v("context-other-archive", "context", "wrong-archive", "a stripe of another archive", good, anchor=OTHER_ANCHOR)
    v("context-other-run", "context", "wrong-run", "a stripe of another run", good, anchor=f.anchor, run=OTHER_RUN)
    v("context-other-stripe", "context", "wrong-stripe", "another stripe of the run", good, anchor=f.anchor, run=RUN, ordinal=6)


def stripes():
    ctx, ctx2 = a_context(1), a_context(2)
    chunk = b"a chunk" * 100
    raw_id = blake3(chunk, key=f.dedup_key).digest()
    entry = forge.directory_entry(1, 0, 0, 700, 700, raw_id)
    plain, plain2 = (forge.plaintext(forge.capacity(k), chunk, entry) for k in (1, 2))
    (key, com), (key2, com2) = forge.stripe_keys(RUN_KEY, ctx), forge.stripe_keys(RUN_KEY, ctx2)
    sealed, sealed2 = forge.seal(key, plain), forge.seal(key2, plain2)
    good = dict(run_key=RUN_KEY, context=ctx, commitment=com)
    v("stripe-good", "stripe", "success", "one segment", sealed, plain, **good)
    v("stripe-good-2", "stripe", "success", "two segments", sealed2, plain2, run_key=RUN_KEY, context=ctx2, commitment=com2)
    v("stripe-commitment", "stripe", "bad-commitment", "the commitment has one bit flipped; the segments would open", sealed,
      run_key=RUN_KEY, context=ctx, commitment=flip(com, 31))
    zeros = bytes(65536)
    v("stripe-other-key", "stripe", "bad-commitment", "another run's key", zeros, run_key=OTHER_KEY, context=ctx, commitment=com)
    for name, other in [("ordinal", a_context(ordinal=6)), ("run", a_context(run=OTHER_RUN)), ("archive", a_context(anchor=OTHER_ANCHOR)),
                        ("salt", a_context(salt=draw("other salt", 32))), ("label", a_context(label=b"secret"))]:
        v(f"stripe-swap-{name}", "stripe", "bad-commitment", f"opened under a context with another {name}", zeros,
          run_key=RUN_KEY, context=other, commitment=com)
    v("stripe-swap-geometry", "stripe", "bad-commitment", "2 x 64 KiB opened as 1 x 128 KiB", bytes(131072), run_key=RUN_KEY,
      context=a_context(1, 131072), commitment=com2)
    v("stripe-ciphertext", "stripe", "bad-tag", "a bit of the ciphertext is flipped", flip(sealed, 40000), **good)
    v("stripe-tag", "stripe", "bad-tag", "a bit of the last tag is flipped", flip(sealed, -1), **good)
    v("stripe-not-final", "stripe", "bad-tag", "the only segment is sealed without the final flag", forge.seal(key, plain, final=-1), **good)
    good2 = dict(run_key=RUN_KEY, context=ctx2, commitment=com2)
    v("stripe-final-early", "stripe", "bad-tag", "the final flag is on the first of two segments", forge.seal(key2, plain2, final=0), **good2)
    v("stripe-order", "stripe", "bad-tag", "two segments stand in each other's place", sealed2[65536:] + sealed2[:65536], **good2)
    v("stripe-numbers", "stripe", "bad-tag", "segments are numbered from 1", forge.seal(key2, plain2, order=[1, 2]), **good2)
    v("stripe-short", "stripe", "bad-length", "a segment is missing", bytes(65536), **good2)
    v("stripe-long", "stripe", "bad-length", "a segment too many", bytes(131072), **good)
    v("stripe-byte-long", "stripe", "bad-length", "a byte too many", bytes(65537), **good)


def directories():
    size = 65520
    one, two = b"first chunk ", b"second chunk, longer "
    one_id, two_id = (blake3(x, key=f.dedup_key).digest() for x in (one, two))

    def both(a=None, b=None, stored=one + two, length=None, tail=b""):
        first = forge.directory_entry(*(a or (1, 0, 0, 12, 12, one_id)))
        second = forge.directory_entry(*(b or (2, 0, 12, 21, 21, two_id)))
        return forge.plaintext(size, stored, first + second + tail, length)
    v("directory-good", "directory", "success", "a data chunk and a page", both(), one_id + two_id)
    full = bytes(size - 52)
    v("directory-full", "directory", "success", "the chunk leaves no padding", forge.plaintext(size, full, forge.directory_entry(
        1, 0, 0, len(full), len(full), one_id)), one_id)
    v("directory-zstd", "directory", "success", "a codec 1 chunk of 4 MiB raw, the cap", both(a=(1, 1, 0, 12, 4 << 20, one_id)), one_id + two_id)
    for name, comment, bad in [
        ("empty", "no chunk at all", forge.plaintext(size, b"", b"")),
        ("length-47", "the length isn't a multiple of 48", both(length=47)),
        ("length-too-large", "the directory would begin before the plaintext", both(length=(size // 48 + 1) * 48)),
        ("length-huge", "the largest multiple of 48 in 4 bytes", both(length=4294967280)),
        ("first-offset", "the first chunk doesn't begin at 0", both(a=(1, 0, 1, 11, 11, one_id))),
        ("gap", "a gap between two chunks", both(b=(2, 0, 13, 20, 20, two_id))),
        ("overlap", "the second chunk begins within the first", both(b=(2, 0, 11, 22, 22, two_id))),
        ("order", "the entries stand in the wrong order", both(a=(2, 0, 12, 21, 21, two_id), b=(1, 0, 0, 12, 12, one_id))),
        ("into-directory", "a chunk reaches into the directory", both(b=(2, 0, 12, size - 111, size - 111, two_id))),
        ("past-end", "a chunk is longer than the plaintext", both(b=(2, 0, 12, 70000, 70000, two_id))),
        ("wraps", "offset and length overflow 32 bits", both(b=(2, 1, 12, 4294967295, 21, two_id))),
        ("kind-0", "kind 0", both(a=(0, 0, 0, 12, 12, one_id))), ("kind-3", "kind 3", both(a=(3, 0, 0, 12, 12, one_id))),
        ("codec-2", "codec 2", both(a=(1, 2, 0, 12, 12, one_id))),
        ("reserved", "a reserved byte isn't zero", both(a=(1, 0, 0, 12, 12, one_id, b"\0\1"))),
        ("stored-0", "a stored length of 0", both(a=(1, 1, 0, 0, 12, one_id), b=(2, 0, 0, 21, 21, two_id), stored=two)),
        ("raw-0", "a raw length of 0", both(a=(1, 1, 0, 12, 0, one_id))),
        ("raw-cap", "a raw length of 4 MiB and a byte", both(a=(1, 1, 0, 12, (4 << 20) + 1, one_id))),
        ("codec-0-differs", "stored as it is, but with another raw length", both(a=(1, 0, 0, 12, 13, one_id))),
        ("codec-1-equal", "compressed to its own length", both(a=(1, 1, 0, 12, 12, one_id)))]:
        v(f"directory-{name}", "directory", "bad-directory", comment, bad)
    v("directory-padding-first", "directory", "bad-padding", "the first byte of the padding isn't zero", put(both(), 33, b"\1"))
    v("directory-padding-last", "directory", "bad-padding", "the last byte of the padding isn't zero", put(both(), size - 101, b"\1"))


def chunks():
    raw = b"to be compressed, to be compressed " * 200
    raw_id = blake3(raw, key=f.dedup_key).digest()
    sizeless = zstandard.ZstdCompressor(write_content_size=False)
    frame, nameless = zstandard.ZstdCompressor().compress(raw), sizeless.compress(raw)
    bomb = sizeless.compress(bytes(64 << 20))
    declared = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    wide = io.BytesIO()
    params = zstandard.ZstdCompressionParameters(window_log=24, write_content_size=False)
    with zstandard.ZstdCompressor(compression_params=params).stream_writer(wide, closefd=False) as writer:
        writer.write(raw)
    checked = zstandard.ZstdCompressor(write_checksum=True).compress(raw)
    good = dict(codec=1, raw_length=len(raw), chunk_id=raw_id, dedup_key=f.dedup_key)
    plain = good | dict(codec=0)
    v("chunk-stored", "chunk", "success", "stored as it is", raw, raw, **plain)
    v("chunk-zstd", "chunk", "success", "a frame that declares its length", frame, raw, **good)
    v("chunk-zstd-unsized", "chunk", "success", "a frame that doesn't declare its length", nameless, raw, **good)
    v("chunk-zstd-checksum", "chunk", "success", "a frame with a checksum", checked, raw, **good)
    v("chunk-bit", "chunk", "bad-chunk-id", "a bit is flipped", flip(raw, 77), **plain)
    v("chunk-id", "chunk", "bad-chunk-id", "another chunk's id", raw, **plain | dict(chunk_id=flip(raw_id, 0)))
    v("chunk-plain-hash", "chunk", "bad-chunk-id", "the id is the BLAKE3 hash without the key", raw, **plain | dict(chunk_id=h(raw)))
    v("chunk-other-dataset", "chunk", "bad-chunk-id", "the dedup key of another dataset", raw, **plain | dict(dedup_key=OTHER_KEY))
    v("chunk-stored-long", "chunk", "bad-length", "stored as it is, but longer than the raw length", raw + b"x", **plain)
    v("chunk-zstd-larger", "chunk", "bad-length", "a frame as long as the raw chunk", frame, **good | dict(raw_length=len(frame)))
    for name, comment, data in [
        ("bomb", "64 MiB of zeros, length not declared", bomb), ("bomb-declared", "64 MiB of zeros, length declared", declared),
        ("long", "one byte more than the raw length", sizeless.compress(raw + b"x")),
        ("short", "one byte less than the raw length", sizeless.compress(raw[:-1])),
        ("lies", "the frame declares the raw length and holds one byte less", lying_frame(raw[:-1], len(raw))),
        ("trailing", "a byte after the frame", frame + b"\0"), ("two-frames", "two frames that together give the raw bytes",
         zstandard.ZstdCompressor().compress(raw[:100]) + zstandard.ZstdCompressor().compress(raw[100:])),
        ("skippable", "a skippable frame before the frame", b"\x50\x2a\x4d\x18\x01\0\0\0x" + frame),
        ("cut", "the frame is cut", frame[:-3]), ("not-zstd", "no frame at all", b"\0" * 50),
        ("checksum-wrong", "the frame's checksum is wrong", flip(checked, -1)),
        ("window", "a window of 16 MiB", wide.getvalue())]:
        v(f"chunk-zstd-{name}", "chunk", "bad-zstd", comment, data, **good)


def lying_frame(raw: bytes, declared: int) -> bytes:
    """The frame of `raw`, its header rewritten to declare another content size in two bytes (RFC 8878, 3.1.1.1)."""
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(raw)
    assert frame[4] == 0, "a header of magic, descriptor 0 and window descriptor"
    return frame[:4] + b"\x40" + frame[5:6] + (declared - 256).to_bytes(2, "little") + frame[6:]


def shards():
    ctx, ctx2 = a_context(2), a_context(2, 131072)
    com, payload, payload2 = draw("shard commitment", 32), bytes(65536), bytes(131072)
    good, good2 = forge.shard(ctx, 1, com, payload), forge.shard(ctx2, 0, com, payload2)
    known = dict(anchor=f.anchor, run=RUN, ordinal=5, index=1, commitment=com, payload_hash=h(payload))
    v("shard-good", "shard", "success", "data shard 1 of 2, one group", good, payload, **known)
    v("shard-good-parity", "shard", "success", "parity shard 31", forge.shard(ctx, 31, com, payload), payload, index=31)
    v("shard-good-2-groups", "shard", "success", "two groups, so the trailer holds chaining values", good2, payload2)
    odd = draw("three groups", 64) * 3072
    v("shard-good-3-groups", "shard", "success", "three groups: the left subtree has two", forge.shard(a_context(1, 196608), 0, com, odd), odd)
    for name, expect, comment, bad in [
        ("empty", "bad-length", "no bytes", b""), ("header-cut", "bad-length", "ends within the header", good[:151]),
        ("cut", "bad-length", "a byte is missing", good[:-1]), ("long", "bad-length", "a byte too many", good + b"\0"),
        ("no-trailer", "bad-length", "without the trailer", good[:-32]),
        ("payload-length", "bad-length", "the context says 128 KiB", put(good, 12, (131072).to_bytes(4))),
        ("magic", "bad-magic", "another magic", flip(good, 0)), ("version", "bad-version", "version 2", put(good, 8, b"\2")),
        ("index-32", "bad-geometry", "index 32", put(good, 116, b"\x20")), ("reserved", "bad-padding", "a reserved byte isn't zero", put(good, 119, b"\1")),
        ("trailer", "bad-trailer", "a bit of the trailer is flipped", flip(good, -1)),
        ("payload", "bad-trailer", "a bit of the payload is flipped", flip(good, 5000)),
        ("trailer-swapped", "bad-trailer", "two groups' chaining values stand in each other's place", good2[:-64] + good2[-32:] + good2[-64:-32]),
        ("trailer-hashes", "bad-trailer", "plain hashes of the groups instead of chaining values", good2[:-64] + 2 * h(bytes(65536))),
        ("trailer-one-group", "bad-trailer", "one group, but its chaining value instead of the root hash", good[:-32] + forge.chaining_value(payload, 0))]:
        v(f"shard-{name}", "shard", expect, comment, bad)
    for name, expect, comment, change in [
        ("other-archive", "wrong-archive", "a shard of another archive", dict(anchor=OTHER_ANCHOR)),
        ("other-run", "wrong-run", "a shard of another run", dict(run=OTHER_RUN)),
        ("other-stripe", "wrong-stripe", "a shard of another stripe", dict(ordinal=6)),
        ("other-index", "wrong-index", "another shard of the stripe", dict(index=0)),
        ("other-commitment", "bad-commitment", "another stripe commitment than the ledger's", dict(commitment=flip(com, 0))),
        ("other-payload", "bad-hash", "another payload than the ledger's", dict(payload_hash=h(b"other")))]:
        v(f"shard-{name}", "shard", expect, comment, good, **known | change)
    ledger = dict(trust="ledger", payload_length=65536, payload_hash=h(payload))
    v("shard-ledger-header", "shard", "success", "the header is destroyed; the ledger's hash is what counts", bytes(152) + good[152:], payload, **ledger)
    v("shard-ledger-payload", "shard", "bad-hash", "the payload has a bit flipped", flip(good, 5000), **ledger)
    v("shard-ledger-longer", "shard", "bad-length", "a byte after the trailer; the payload is whole", good + b"\0", **ledger)
    v("shard-ledger-no-trailer", "shard", "bad-length", "the trailer is missing; the payload is whole", good[:-32], **ledger)
    v("shard-ledger-cut", "shard", "bad-length", "the object ends within the payload", good[:60000], **ledger)


def codes():
    for k, n in [(1, 3), (2, 3), (2, 2), (3, 6), (4, 6), (5, 9), (2, 32), (31, 32)]:
        data = draw(f"code {k} {n}", 16 * k)
        v(f"code-{k}-of-{n}", "code", "success", f"every subset of {k} among {n} shards decodes", b"".join(forge.encode(data, k, n)), data, k=k, n=n)
    data = draw("code 16 32", 16 * 32)
    all32 = forge.encode(data[:16 * 16], 16, 32)
    hashes = b"".join(map(h, all32))
    v("code-16-of-32-parity", "code", "success", "from parity shards alone", b"".join(all32), data[:256], k=16, n=32, hashes=hashes,
      present=",".join(map(str, range(16, 32))))
    shards = forge.encode(draw("code 4 6", 64), 4, 6)
    wrong = shards[:5] + [flip(shards[5], 3)]
    v("code-parity", "code", "bad-parity", "parity shard 5 has a bit flipped", b"".join(wrong), k=4, n=6)
    other = shards[:4] + [shards[5], shards[5]]
    v("code-parity-other-row", "code", "bad-parity", "parity shard 4 follows another row", b"".join(other), k=4, n=6)
    good = dict(k=4, n=6, hashes=b"".join(map(h, shards)))
    v("code-rebuild", "code", "success", "data shards 1 and 3 are rebuilt", b"".join(shards), b"".join(shards[:4]), present="0,2,4,5", **good)
    v("code-rebuild-inconsistent", "code", "bad-parity", "every shard is the ledger's, but the writer's parity isn't the data's: a rebuilt shard isn't the ledger's",
      b"".join(wrong), k=4, n=6, hashes=b"".join(map(h, wrong)), present="0,1,2,5")
    v("code-rebuild-data", "code", "success", "the same ledger, read from its data shards", b"".join(wrong), b"".join(wrong[:4]), k=4, n=6,
      hashes=b"".join(map(h, wrong)), present="0,1,2,3")
    v("code-rebuild-hash", "code", "bad-hash", "a fetched shard isn't the ledger's", b"".join(wrong), present="0,1,2,5", **good)
    v("code-too-few", "code", "too-few-shards", "three shards of four", b"".join(shards), present="0,4,5", **good)


# ---- Records and signatures ------------------------------------------------------------------------------------------

def records():
    v("record-good", "record", "success", "every type that the format has", cbor({0: 1, 1: -5, 2: b"bytes", 3: "text", 24: [1, [], {}], 2**32: 2**64 - 1}))
    for name, comment, data in [
        ("empty", "no bytes", ""), ("int-long-8", "0 in two bytes", "1800"), ("int-long-16", "255 in three bytes", "1900ff"),
        ("int-long-32", "65,535 in five bytes", "1a0000ffff"), ("int-long-64", "2^32 - 1 in nine bytes", "1b00000000ffffffff"),
        ("length-long", "a byte string's length in its longer form", "580161"), ("negative-long", "-1 in two bytes", "3800"),
        ("array-long", "an array's length in its longer form", "980101"), ("map-long", "a map's length in its longer form", "b8010001"),
        ("bytes-indefinite", "a byte string of indefinite length", "5f4161ff"), ("text-indefinite", "a text of indefinite length", "7f6161ff"),
        ("array-indefinite", "an array of indefinite length", "9f01ff"), ("map-indefinite", "a map of indefinite length", "bf0001ff"),
        ("duplicate-key", "a key stands twice", "a2000100" + "01"), ("unordered-keys", "keys don't ascend", "a201010001"),
        ("text-key", "a key that is a text", "a1616101"), ("negative-key", "a key that is negative", "a12001"),
        ("trailing", "a byte after the item", "a1000100"), ("float-16", "a float of 16 bits", "f93c00"), ("float-64", "a float of 64 bits", "fb3ff0000000000000"),
        ("tag", "a tag", "c101"), ("null", "null", "f6"), ("true", "true", "f5"), ("simple", "a simple value", "e0"), ("reserved", "additional information 28", "1c"),
        ("reserved-wide", "additional information 28, and 16 bytes", "1c80" + 15 * "00"), ("break", "a break outside of an item", "ff"), ("cut-head", "ends within a number", "1901"), ("cut-bytes", "ends within a byte string", "450102"),
        ("cut-array", "ends within an array", "820101"[:4]), ("huge-bytes", "a byte string of 2^63 bytes", "5b8000000000000000"),
        ("huge-array", "an array of 2^32 items", "9b0000000100000000"), ("huge-map", "a map of 2^32 pairs", "bb0000000100000000"),
        ("utf8", "a text that isn't UTF-8", "62c328"), ("surrogate", "a text with a surrogate", "63eda080")]:
        v(f"record-{name}", "record", "not-canonical", comment, bytes.fromhex(data))
    v("record-deep", "record", "success", "nested 16 deep", b"\x81" * 16 + b"\x01")
    v("record-too-deep", "record", "not-canonical", "nested 17 deep", b"\x81" * 17 + b"\x01")
    v("record-very-deep", "record", "not-canonical", "nested a hundred thousand deep", b"\x81" * 100_000 + b"\x01")
    close = {0: 1, 1: f.anchor, 2: RUN, 3: f.incarnation}
    v("record-close", "record", "success", "a close", cbor(close), shape="close")
    for name, expect, comment, bad in [
        ("unknown-field", "bad-record", "a field 4", but(close, f4=1)), ("missing-field", "bad-record", "field 3 is missing", but(close, f3=None)),
        ("type", "bad-record", "the run is a text", but(close, f2="0123456789abcdef")), ("size", "bad-record", "the run has 15 bytes", but(close, f2=RUN[:15])),
        ("version-2", "bad-version", "version 2", but(close, f0=2)), ("version-0", "bad-version", "version 0", but(close, f0=0)),
        ("no-version", "bad-record", "no version", but(close, f0=None))]:
        v(f"record-close-{name}", "record", expect, comment, cbor(bad), shape="close")
    v("record-close-array", "record", "bad-record", "an array instead of a map", cbor([1, f.anchor, RUN, f.incarnation]), shape="close")
    v("record-plate", "record", "success", "a site plate", cbor({0: 1, 1: f.anchor, 2: f.site_ids[0]}), shape="plate")
    two = sorted([[OTHER_RUN, [0, 3, 1, 1]], [RUN, []]])
    v("record-reuse", "record", "success", "a reuse claim of two runs", cbor({0: 1, 1: f.anchor, 2: RUN, 3: two}), shape="reuse")
    v("record-reuse-order", "record", "bad-order", "a reuse claim whose runs descend", cbor({0: 1, 1: f.anchor, 2: RUN, 3: two[::-1]}), shape="reuse")
    v("record-reuse-4097", "record", "too-long", "a reuse claim of 4,097 runs",
      cbor({0: 1, 1: f.anchor, 2: RUN, 3: [[i.to_bytes(16), []] for i in range(4097)]}), shape="reuse")
    v("record-reuse-live-set", "record", "bad-live-set", "a reuse claim whose live set ends in a gap", cbor({0: 1, 1: f.anchor, 2: RUN, 3: [[OTHER_RUN, [0, 3, 1]]]}), shape="reuse")


def signatures():
    kind, body = "exclave close v1", cbor({0: 1, 1: f.anchor, 2: RUN, 3: f.incarnation})
    key_id, ed, ml = W0.sign(kind, body)
    other = W1.sign(kind, body)
    keys = dict(type=kind, public_key=[W0.public])
    both = dict(type=kind, public_key=[W0.public, W1.public])
    v("signed-good", "signed", "success", "one signer", signed(kind, body, W0), body, **keys)

    def made(*parts, version=1, record=body):
        return cbor([version, record, list(parts)])
    order = 2**252 + 27742317777372353535851937790883648493
    high = ed[:32] + (int.from_bytes(ed[32:], "little") + order).to_bytes(32, "little")
    for name, expect, comment, data, known in [
        ("none", "missing-signature", "the list of signatures is empty", made(), keys),
        ("no-ml-dsa", "missing-signature", "the ML-DSA-65 signature is missing", made([key_id, ed]), keys),
        ("empty-ml-dsa", "missing-signature", "the ML-DSA-65 signature is empty", made([key_id, ed, b""]), keys),
        ("empty-ed25519", "missing-signature", "the Ed25519 signature is empty", made([key_id, b"", ml]), keys),
        ("short-ml-dsa", "bad-record", "the ML-DSA-65 signature has 3,308 bytes", made([key_id, ed, ml[:-1]]), keys),
        ("long-ed25519", "bad-record", "the Ed25519 signature has 65 bytes", made([key_id, ed + b"\0", ml]), keys),
        ("four-parts", "bad-record", "a signature of four parts", made([key_id, ed, ml, b"x"]), keys),
        ("ed25519", "bad-signature", "a bit of the Ed25519 signature is flipped", made([key_id, flip(ed, 40), ml]), keys),
        ("ml-dsa", "bad-signature", "a bit of the ML-DSA-65 signature is flipped", made([key_id, ed, flip(ml, 100)]), keys),
        ("ed25519-other", "bad-signature", "the Ed25519 half is another signer's", made([key_id, other[1], ml]), keys),
        ("ml-dsa-other", "bad-signature", "the ML-DSA-65 half is another signer's", made([key_id, ed, other[2]]), keys),
        ("high-s", "bad-signature", "S of the Ed25519 signature is not reduced", made([key_id, high, ml]), keys),
        ("key-id", "bad-signature", "another signer's key id on the signature", made([other[0], ed, ml]), both),
        ("stranger", "unknown-signer", "a good signature of a key that isn't known", made(STRANGER.sign(kind, body)), keys),
        ("two", "bad-record", "two good signatures where one belongs", signed(kind, body, W0, W1), both),
        ("twice", "bad-order", "the same signature twice", made([key_id, ed, ml], [key_id, ed, ml]), keys),
        ("type", "bad-signature", "signed as an exclave head v1", signed("exclave head v1", body, W0), keys),
        ("type-longer", "bad-signature", "signed as an exclave close v11", signed("exclave close v11", body, W0), keys),
        ("body", "bad-signature", "the record was changed after it was signed", made([key_id, ed, ml], record=flip(body, 10)), keys),
        ("version", "bad-version", "version 2 of the signed object", made([key_id, ed, ml], version=2), keys),
        ("map", "bad-record", "a map instead of an array", cbor({0: 1, 1: body, 2: [[key_id, ed, ml]]}), keys),
        ("record-text", "bad-record", "the record is a text", cbor([1, "record", [[key_id, ed, ml]]]), keys),
        ("signatures-map", "bad-record", "the signatures are a map", cbor([1, body, {0: [key_id, ed, ml]}]), keys),
        ("signature-map", "bad-record", "a signature that is a map", made({0: key_id, 1: ed, 2: ml}), keys),
        ("signature-number", "bad-record", "a number where the Ed25519 signature belongs", made([key_id, 5, ml]), keys),
        ("extra", "bad-record", "a fourth element", cbor([1, body, [[key_id, ed, ml]], 0]), keys),
        ("trailing", "not-canonical", "a byte after the object", made([key_id, ed, ml]) + b"\0", keys),
        ("long-form", "not-canonical", "the record's length in a longer form", cbor([1, Raw(b"\x59" + len(body).to_bytes(2) + body), [[key_id, ed, ml]]]), keys)]:
        v(f"signed-{name}", "signed", expect, comment, data, **known)
    message = body   # signed without the type string
    v("signed-no-type", "signed", "bad-signature", "both signatures are over the record alone", made([key_id, W0.ed.sign(message), W0.ml.sign(message)]), **keys)
    v("signed-no-separator", "signed", "bad-signature", "the zero byte between type and record is missing",
      made([key_id, W0.ed.sign(kind.encode() + body), W0.ml.sign(kind.encode() + body)]), **keys)
    v("signed-context", "signed", "bad-signature", "ML-DSA-65 with a context that isn't empty",
      made([key_id, ed, W0.ml.sign(kind.encode() + b"\0" + body, b"exclave")]), **keys)
    point = b"\1" + bytes(31)
    weak = point + W0.public[32:]
    v("signed-small-order", "signed", "bad-signature", "the Ed25519 key and R are the neutral point and S is 0: lax verifiers accept any message",
      made([h(weak), point + bytes(32), ml]), type=kind, public_key=[weak])
    loose = (2**255 - 18).to_bytes(32, "little")        # y = 1, written as p + 1
    weak2 = loose + W0.public[32:]
    v("signed-non-canonical-key", "signed", "bad-signature", "the same with the key's y written as p + 1",
      made([h(weak2), point + bytes(32), ml]), type=kind, public_key=[weak2])


def charters():
    value, kind = f.charter_value(), "exclave charter v1"

    def made(value, *signers):
        return signed(kind, cbor(value), *(signers or f.roots))
    good = made(value)
    v("charter-good", "charter", "success", "two roots of two", good, f.anchor, anchor=f.anchor)
    v("charter-anchor", "charter", "wrong-archive", "a good charter, but of another archive", good, anchor=OTHER_ANCHOR)
    v("charter-threshold", "charter", "missing-signature", "one signature of two", made(value, f.roots[0]), anchor=f.anchor)
    three = but(value, f4=[1, value[4][1]])
    v("charter-one-of-two", "charter", "success", "one signature, threshold 1", made(three, f.roots[1]))
    v("charter-stranger", "charter", "unknown-signer", "a third signature by a key that isn't a root", made(value, *f.roots, STRANGER), anchor=f.anchor)
    parts = sorted(s.sign(kind, cbor(value)) for s in f.roots)
    v("charter-signature-order", "charter", "bad-order", "the signatures stand in descending order", cbor([1, cbor(value), parts[::-1]]), anchor=f.anchor)
    v("charter-signature", "charter", "bad-signature", "one of two root signatures is damaged", cbor([1, cbor(value), [parts[0], [parts[1][0], parts[1][1], flip(parts[1][2], 9)]]]), anchor=f.anchor)
    cls = value[8][0]

    def klass(**change):
        names = ["id", "code", "k", "parity", "losses", "liars", "payload", "read", "set"]
        return but(value, f8=[[change.get(n, x) for n, x in zip(names, cls)]])
    sets, other_class = value[6], [cls[0] - 1, *cls[1:8], value[6][0][0] - 1]
    other_set = [value[6][0][0] - 1, *value[6][0][1:]]
    unsorted = but(value, f6=sets + [other_set], f7=value[7][::-1], f8=value[8] + [other_class])
    v("charter-unsorted", "charter", "success", "sets, sites and classes stand in descending order", made(unsorted))
    for name, expect, comment, bad in [
        ("set-twice", "bad-record", "two sets of one id, with other epochs", but(value, f6=sets + [[sets[0][0], sets[0][1] + 1, sets[0][2]]])),
        ("site-twice", "bad-record", "a site stands twice", but(value, f7=value[7] + value[7][:1])),
        ("class-twice", "bad-record", "a class stands twice", but(value, f8=[cls, cls])),
        ("recipient-twice", "bad-record", "a recipient stands twice in a set", but(value, f6=[[*sets[0][:2], sets[0][2][:1] * 2]])),
        ("class-set", "bad-record", "a class names a set that isn't there", klass(set=sets[0][0] + 1)),
        ("class-2-32", "bad-record", "a class of id 2^32", klass(id=2**32)), ("code-256", "bad-record", "code 256", klass(code=256)),
        ("writer-no-classes", "bad-record", "a writer without classes", but(value, f5=[[W0.public, []]])),
        ("site-name-41", "bad-record", "a site's name of 41 letters", but(value, f7=[{0: f.site_ids[0], 1: "s" * 41, 2: 0, 3: 0}])),
        ("site-no-reach", "bad-record", "an empty list of legal reach", but(value, f7=[{0: f.site_ids[0], 1: "site", 2: 0, 3: 0, 7: []}])),
        ("version-2", "bad-version", "charter version 2", but(value, f1=2)), ("record-version", "bad-version", "record version 2", but(value, f0=2)),
        ("previous", "bad-record", "version 1 names a predecessor", but(value, f2=OTHER_ANCHOR)),
        ("threshold-0", "bad-record", "a threshold of 0", but(value, f4=[0, value[4][1]])),
        ("threshold-3", "bad-record", "a threshold of 3 with 2 roots", but(value, f4=[3, value[4][1]])),
        ("no-writers", "bad-record", "no writers", but(value, f5=[])), ("writer-short", "bad-record", "a writer's key is a byte short", but(value, f5=[[W0.public[:-1], [7]]])),
        ("writer-twice", "bad-record", "a writer stands twice", but(value, f5=[[W0.public, [7]], [W0.public, [7]]])),
        ("root-twice", "bad-record", "a root stands twice", but(value, f4=[1, [f.roots[0].public, f.roots[0].public]])),
        ("k-0", "bad-geometry", "k is 0", klass(k=0)), ("n-33", "bad-geometry", "k + parity is 33", klass(k=16, parity=17)),
        ("liars", "bad-geometry", "as many liars as k", klass(k=2, parity=6, liars=2)), ("losses", "bad-geometry", "k + f + b is above n", klass(losses=2)),
        ("payload", "bad-geometry", "a payload length of 1,000", klass(payload=1000)), ("code", "bad-suite", "code 2", klass(code=2)),
        ("site-name", "bad-record", "a site's name in upper case", but(value, f7=[{0: f.site_ids[0], 1: "Site", 2: 0, 3: 0}])),
        ("site-array", "bad-record", "a site that is an array", but(value, f7=[[f.site_ids[0], "site", 0, 0]])),
        ("hosting", "bad-record", "hosting class 5", but(value, f7=[{0: f.site_ids[0], 1: "site", 2: 5, 3: 0}])),
        ("null", "not-canonical", "an optional text is null", but(value, f7=[{0: f.site_ids[0], 1: "site", 2: 0, 3: 0, 4: Raw(b"\xf6")}])),
        ("recipients-33", "too-long", "33 recipients in a set", but(value, f6=[[3, 1, [bytes([i]) * 1216 for i in range(33)]]]))]:
        signers = [f.roots[0]] if name in ("root-twice",) else []
        v(f"charter-{name}", "charter", expect, comment, made(bad, *signers))


def envelopes():
    value, kind = f.envelope_value(RUN, RUN_KEY, "public"), "exclave envelope v1"
    r0, r1 = f.recipients
    s0, s1 = value[10]
    foreign = forge.Recipient(draw("foreign recipient", 32))
    known = dict(anchor=f.anchor, run=RUN, public_key=[W0.public], recipient_set="3,1", recipients=",".join(r.id.hex() for r in f.recipients),
                 run_commitment=value[8], identity=r0.seed)

    def case(name, expect, comment, change=None, sign=W0, output=None, **keys):
        v(f"envelope-{name}", "envelope", expect, comment, signed(kind, cbor(but(value, **(change or {}))), sign), output, **known | keys)
    case("good", "success", "two recipients, the first one's key", output=RUN_KEY)
    case("good-second", "success", "the second one's key", output=RUN_KEY, identity=r1.seed)
    extra = foreign.stanza(f.anchor, RUN, value[8], RUN_KEY)
    case("stanza-missing", "bad-stanzas", "the second stanza is missing", dict(f10=[s0]))
    case("stanza-extra", "bad-stanzas", "a third stanza, for a stranger", dict(f10=sorted([s0, s1, extra])))
    case("stanza-foreign", "bad-stanzas", "a stranger's stanza in place of the second", dict(f10=sorted([s0, extra])))
    case("stanza-order", "bad-stanzas", "the stanzas descend", dict(f10=[s1, s0]))
    case("stanza-twice", "bad-stanzas", "the first stanza stands twice", dict(f10=[s0, s0, s1]))
    case("stanzas-none", "bad-record", "no stanzas", dict(f10=[]))
    case("not-for-us", "not-a-recipient", "an identity that isn't in the set", identity=foreign.seed)
    case("ml-kem", "bad-tag", "a bit of the ML-KEM-768 ciphertext is flipped: implicit rejection gives another secret", dict(f10=[[s0[0], flip(s0[1], 500), s0[2]], s1]))
    case("x25519", "bad-tag", "a bit of the X25519 part is flipped", dict(f10=[[s0[0], flip(s0[1], 1100), s0[2]], s1]))
    case("x25519-zero", "bad-tag", "the X25519 part is zero", dict(f10=[[s0[0], s0[1][:1088] + bytes(32), s0[2]], s1]))
    case("ciphertext", "bad-tag", "a bit of the wrapped key is flipped", dict(f10=[[s0[0], s0[1], flip(s0[2], 0)], s1]))
    case("enc-short", "bad-record", "an enc of 1,119 bytes", dict(f10=[[s0[0], s0[1][:-1], s0[2]], s1]))
    case("enc-long", "bad-record", "an enc of 1,121 bytes", dict(f10=[[s0[0], s0[1] + b"\0", s0[2]], s1]))
    case("ciphertext-short", "bad-record", "a wrapped key of 47 bytes", dict(f10=[[s0[0], s0[1], s0[2][:-1]], s1]))
    wrong = [r.stanza(f.anchor, RUN, value[8], OTHER_KEY) for r in f.recipients]
    case("other-key", "bad-commitment", "the stanzas open, but not to the key that is committed to", dict(f10=wrong))
    case("other-key-label", "bad-commitment", "the same, with a label under that other key: only the run commitment tells",
         dict(f10=wrong, f9=forge.label_box(OTHER_KEY, draw("ls", 32), b"public")))
    other = [r.stanza(f.anchor, OTHER_RUN, value[8], RUN_KEY) for r in f.recipients]
    case("stanza-other-run", "bad-tag", "the stanzas were made for another run", dict(f10=other))
    other = [r.stanza(OTHER_ANCHOR, RUN, value[8], RUN_KEY) for r in f.recipients]
    case("stanza-other-archive", "bad-tag", "the stanzas were made for another archive", dict(f10=other))
    case("stanza-swapped", "bad-tag", "each recipient has the other's stanza", dict(f10=[[s0[0], *s1[1:]], [s1[0], *s0[1:]]]))
    case("run-table", "bad-commitment", "the run table commits to another key", run_commitment=draw("c", 32))
    case("other-archive", "wrong-archive", "an envelope of another archive", anchor=OTHER_ANCHOR)
    case("other-run", "wrong-run", "an envelope of another run", run=OTHER_RUN)
    case("charter-version", "wrong-charter", "charter version 2", dict(f5=2))
    case("set", "wrong-charter", "a recipient set that isn't there", dict(f6=4))
    case("epoch", "wrong-charter", "another crypto epoch", dict(f7=2))
    case("later-charter", "success", "charter version 2, which is the one that is known", dict(f5=2), output=RUN_KEY, charter_version=2)
    case("earlier-charter", "wrong-charter", "charter version 1, where version 2 is known", charter_version=2)
    case("stranger", "unknown-signer", "signed by a key that isn't a writer", sign=STRANGER)
    case("unknown-field", "bad-record", "a field 12", dict(f12=0))
    case("version", "bad-version", "version 2", dict(f0=2))
    label = value[9]
    case("label-commitment", "bad-commitment", "the label's box commits to another key", dict(f9=flip(label, 40)))
    case("label-salt", "bad-commitment", "the label's salt is changed", dict(f9=flip(label, 0)))
    case("label-tag", "bad-tag", "a bit of the label's ciphertext is flipped", dict(f9=flip(label, 100)))
    case("label-empty", "bad-length", "an empty label box", dict(f9=b""))
    case("label-purpose", "bad-commitment", "the label is sealed as a head", dict(f9=forge.box(RUN_KEY, 2, draw("ls", 32), bytes(256))))

    def box(plain):
        return dict(f9=forge.box(RUN_KEY, 1, draw("ls", 32), plain))
    case("label-none", "success", "a label of no letters", box(bytes(256)), output=RUN_KEY)
    case("label-padding", "bad-padding", "the label's padding isn't zero", box(b"\0\6public" + bytes(247) + b"\1"))
    case("label-long", "bad-length", "a label longer than its box", box(b"\0\xffpublic".ljust(256, b"\0")))
    case("label-box-255", "bad-length", "255 bytes in the box", box(b"\0\6public".ljust(255, b"\0")))
    case("label-utf8", "bad-record", "a label that isn't UTF-8", box(b"\0\2\xc3\x28".ljust(256, b"\0")))
    v("envelope-too-long", "envelope", "too-long", "an object of 48 KiB and a byte", bytes(48 * 1024 + 1), **known)


# ---- Ledger, head, runs, manifest, key files ---------------------------------------------------------------------------

def ledgers():
    def line(ordinal, n=3, **more):
        return [a_context(2, ordinal=ordinal, **more), draw(f"lc {ordinal}", 32), [draw(f"lh {ordinal} {i}", 32) for i in range(n)]]
    value = {0: 1, 1: f.anchor, 2: RUN, 3: 0, 4: [[0, f.site_ids], [6, f.site_ids[::-1]]], 5: [line(5), line(6), line(9)]}
    known = dict(anchor=f.anchor, run=RUN)
    v("ledger-good", "ledger", "success", "three stripes, two layouts", cbor(value), **known)
    many = [[a_context(2, ordinal=i), bytes(32), [bytes(32)] * 2] for i in range(4097)]
    v("ledger-4096", "ledger", "success", "4,096 stripes", cbor(but(value, f4=[[0, f.site_ids[:2]]], f5=many[:4096])), **known)
    v("ledger-widened", "ledger", "success", "from stripe 6 on there is one more shard and one more site",
      cbor(but(value, f4=[[0, f.site_ids[:2]], [6, f.site_ids]], f5=[line(5, n=2), line(6), line(9)])), **known)
    short = line(5)
    for name, expect, comment, bad in [
        ("4097", "too-long", "4,097 stripes", but(value, f5=many)), ("no-stripes", "bad-record", "no stripes", but(value, f5=[])),
        ("no-layouts", "bad-record", "no layouts", but(value, f4=[])),
        ("order", "bad-order", "stripes descend", but(value, f5=[line(6), line(5)])), ("twice", "bad-order", "a stripe stands twice", but(value, f5=[line(5), line(5)])),
        ("layout-order", "bad-order", "layouts descend", but(value, f4=[[6, f.site_ids], [0, f.site_ids]])),
        ("layout-descends", "bad-order", "layouts descend, and all begin before the first stripe", but(value, f4=[[3, f.site_ids], [0, f.site_ids]])),
        ("layout-late", "bad-order", "the first layout begins after the first stripe", but(value, f4=[[6, f.site_ids]])),
        ("field-archive", "wrong-archive", "field 1 is another archive, the contexts are right", but(value, f1=OTHER_ANCHOR)),
        ("field-run", "wrong-run", "field 2 is another run, the contexts are right", but(value, f2=OTHER_RUN)),
        ("sites-few", "bad-geometry", "three shards on two sites", but(value, f4=[[0, f.site_ids], [6, f.site_ids[:2]]])),
        ("sites-many", "bad-geometry", "two shards on three sites", but(value, f5=[line(5), line(6, n=2)])),
        ("part-2-32", "bad-record", "part 2^32", but(value, f3=2**32)),
        ("sites-33", "bad-geometry", "a layout of 33 sites", but(value, f4=[[0, [bytes(15) + bytes([i]) for i in range(33)]]])),
        ("context-archive", "wrong-archive", "a stripe of another archive", but(value, f5=[line(5, anchor=OTHER_ANCHOR)])),
        ("context-run", "wrong-run", "a stripe of another run", but(value, f5=[line(5, run=OTHER_RUN)])),
        ("hashes-few", "bad-geometry", "fewer hashes than k", but(value, f5=[line(5, n=1)])), ("hashes-33", "bad-geometry", "33 hashes", but(value, f5=[line(5, n=33)])),
        ("context-short", "bad-record", "a context of 115 bytes", but(value, f5=[[short[0][:-1], *short[1:]]])),
        ("context-magic", "bad-magic", "a context without its magic", but(value, f5=[[flip(short[0], 0), *short[1:]]])),
        ("commitment-short", "bad-record", "a commitment of 31 bytes", but(value, f5=[[short[0], short[1][:-1], short[2]]])),
        ("unknown-field", "bad-record", "a field 6", but(value, f6=0)), ("version", "bad-version", "version 2", but(value, f0=2))]:
        v(f"ledger-{name}", "ledger", expect, comment, cbor(bad), **known)
    v("ledger-other-archive", "ledger", "wrong-archive", "a ledger of another archive", cbor(value), anchor=OTHER_ANCHOR, run=RUN)
    v("ledger-other-run", "ledger", "wrong-run", "a ledger of another run", cbor(value), anchor=f.anchor, run=OTHER_RUN)
    v("ledger-too-long", "ledger", "too-long", "16 MiB and a byte", bytes((16 << 20) + 1), **known)
    v("ledger-trailing", "ledger", "not-canonical", "a byte after the record", cbor(value) + b"\0", **known)


def a_run():
    run = forge.Run(f, "vectors")
    run.id, run.key = RUN, RUN_KEY
    return run


def heads():
    kind, run = "exclave head v1", a_run()
    root = [RUN, 0, 0, 100, 300, 1, draw("root id", 32)]
    sealed = forge.sealed_value(f, root, 1, 1_750_000_000, [1, 2, 3, 4, 5, 6, 7])
    page = draw("a page's hash", 32)
    value = forge.head_value(f, run, 1, draw("previous", 32), [b"page"], sealed)
    value = but(value, f13=[page])
    known = dict(anchor=f.anchor, public_key=[W0.public, W1.public])

    def case(name, expect, comment, change=None, sign=W0, output=None, **keys):
        v(f"head-{name}", "head", expect, comment, signed(kind, cbor(but(value, **(change or {}))), sign), output, **known | keys)

    def box(plain=None, purpose=2, **changes):
        record = cbor(but(sealed, **changes))
        plain = (len(record).to_bytes(4) + record).ljust(1024 - 80, b"\0") if plain is None else plain
        return dict(f14=forge.box(RUN_KEY, purpose, draw("hs", 32), plain))
    tips = sorted(draw(f"tip {i}", 32) for i in range(65))
    v("head-good", "head", "success", "signature and public part", signed(kind, cbor(value), W0), h(cbor(value)), **known)
    case("good-sealed", "success", "with the sealed part", output=f.secret, run_key=RUN_KEY)
    case("first", "success", "seq 0 without a previous head", dict(f5=0, f6=None))
    case("tips-64", "success", "64 tips", dict(f7=tips[:64]))
    case("tips-65", "too-long", "65 tips", dict(f7=tips))
    case("tips-order", "bad-order", "the tips descend", dict(f7=tips[:2][::-1]))
    case("tips-twice", "bad-order", "a tip stands twice", dict(f7=[tips[0], tips[0]]))
    case("first-previous", "bad-record", "seq 0 with a previous head", dict(f5=0))
    case("no-previous", "bad-record", "seq 1 without a previous head", dict(f6=None))
    case("other-archive", "wrong-archive", "a head of another archive", anchor=OTHER_ANCHOR)
    case("other-writer", "unknown-signer", "signed by another writer than the one it names", sign=W1)
    case("stranger", "unknown-signer", "signed by a key that isn't a writer", dict(f3=STRANGER.id), sign=STRANGER)
    case("charter-version", "wrong-charter", "charter version 2", dict(f8=2))
    case("later-charter", "success", "charter version 2, which is the one that is known", dict(f8=2), charter_version=2)
    case("earlier-charter", "wrong-charter", "charter version 1, where version 2 is known", charter_version=2)
    case("state", "bad-record", "state 2", dict(f10=2))
    case("no-pages", "bad-record", "no run table", dict(f13=[]))
    case("pages-16", "success", "16 pages of the run table", dict(f13=[draw(f"page {i}", 32) for i in range(16)]))
    case("pages-17", "too-long", "17 pages of the run table", dict(f13=[draw(f"page {i}", 32) for i in range(17)]))
    case("no-sealed", "bad-length", "an empty sealed part, which nobody opens", dict(f14=b""))
    case("verified-256", "bad-record", "256 verified shards", dict(f9=256))
    case("unknown-field", "bad-record", "a field 15", dict(f15=0))
    case("unknown-field-16", "bad-record", "a field 16", dict(f16=[0]))
    case("tripwires", "success", "all tripwires", dict(f15=[0, 1, 2, 3, 4, 5]))
    case("tripwires-none", "bad-record", "a list of tripwires without one", dict(f15=[]))
    case("tripwires-unknown", "bad-record", "tripwire 6", dict(f15=[0, 6]))
    case("tripwires-order", "bad-order", "tripwires descend", dict(f15=[3, 0]))
    case("tripwires-twice", "bad-order", "a tripwire stands twice", dict(f15=[3, 3]))
    case("version", "bad-version", "version 2", dict(f0=2))
    case("sealed-length", "bad-length", "a sealed part of 1,023 bytes", dict(f14=value[14][:-1]))
    case("sealed-empty", "bad-length", "an empty sealed part", dict(f14=b""), run_key=RUN_KEY)
    v("head-type", "head", "bad-signature", "signed as an exclave envelope v1", signed("exclave envelope v1", cbor(value), W0), **known)
    v("head-too-long", "head", "too-long", "an object of 16 KiB and a byte", bytes(16 * 1024 + 1), **known)
    with_key = dict(run_key=RUN_KEY)
    case("other-key", "bad-commitment", "another run key", run_key=OTHER_KEY)
    case("box-commitment", "bad-commitment", "a bit of the box's commitment is flipped", dict(f14=flip(value[14], 32)), **with_key)
    case("box-tag", "bad-tag", "a bit of the box's ciphertext is flipped", dict(f14=flip(value[14], 200)), **with_key)
    case("box-purpose", "bad-commitment", "sealed with the label's purpose", box(purpose=1), **with_key)
    record = cbor(sealed)
    case("box-padding", "bad-padding", "the padding isn't zero", box((len(record).to_bytes(4) + record).ljust(943, b"\0") + b"\1"), **with_key)
    case("box-length", "bad-length", "the sealed record is longer than the box", box((941).to_bytes(4) + bytes(940)), **with_key)
    case("box-length-huge", "bad-length", "a length of 2^32 - 1", box(b"\xff" * 4 + bytes(940)), **with_key)
    case("box-length-short", "bad-padding", "the length cuts the record, so its end counts as padding", box(((len(record) - 1).to_bytes(4) + record).ljust(944, b"\0")), **with_key)
    case("sealed-trailing", "not-canonical", "a byte after the sealed record", box(((len(record) + 1).to_bytes(4) + record).ljust(944, b"\0")), **with_key)
    case("sealed-version", "bad-version", "version 2 of the sealed record", box(f0=2), **with_key)
    case("sealed-unknown", "bad-record", "a field 12 in the sealed record", box(f12=0), **with_key)
    case("sealed-secret", "bad-record", "a dataset secret of 31 bytes", box(f10=f.secret[:31]), **with_key)
    case("sealed-level", "too-long", "a manifest of nine levels", box(f8=8), **with_key)
    case("sealed-level-8", "success", "a manifest of eight levels", box(f8=7), output=f.secret, **with_key)
    case("sealed-time", "bad-record", "a time of 2^63", box(f3=2**63), **with_key)
    case("sealed-time-first", "success", "a time of -2^63", box(f3=-2**63), output=f.secret, **with_key)
    case("sealed-time-before", "bad-record", "a time of -2^63 - 1", box(f3=-2**63 - 1), **with_key)
    case("sealed-name", "bad-record", "a name that is a byte string", box(f1=b"registers"), **with_key)
    case("sealed-source", "bad-record", "source 4", box(f5=4), **with_key)
    case("sealed-root-codec", "bad-record", "codec 2 in the root's reference", box(f9=[*root[:5], 2, root[6]]), **with_key)
    case("sealed-root-raw", "bad-length", "a root page above 4 MiB", box(f9=[*root[:4], (4 << 20) + 1, 1, root[6]]), **with_key)
    case("sealed-root-stored", "bad-length", "a root page stored in as many bytes as it has", box(f9=[*root[:3], 300, 300, 1, root[6]]), **with_key)


def chains():
    kind, run = "exclave head v1", a_run()
    sealed = forge.sealed_value(f, [RUN, 0, 0, 100, 300, 1, bytes(32)], 0, 1_750_000_000, [0] * 7)

    def made(seq, previous=None, writer=0, tips=(), dataset=None, debt=0):
        value = forge.head_value(f, run, seq, previous, [b"page"], sealed, writer) | {7: sorted(tips), 11: debt}
        value = value | ({2: dataset} if dataset else {})
        body = cbor(value)
        return h(body), signed(kind, body, f.writers[writer]), body
    first = made(0)
    second = made(1, first[0])
    third = made(2, second[0])
    known = dict(anchor=f.anchor, public_key=[W0.public, W1.public], dataset=f.dataset)

    def case(name, expect, comment, heads, newest=None):
        v(f"chain-{name}", "chain", expect, comment, cbor([one[1] for one in heads]), newest and b"".join(sorted(n[0] for n in newest)), **known)
    case("line", "success", "three heads in a line, in no order: the last is the newest", [third, first, second], [third])
    other = made(0, writer=1)
    case("two-writers", "success", "two writers who haven't seen each other: two are the newest", [first, second, other], [second, other])
    merged = made(0, writer=1, tips=[second[0]])
    case("tip", "success", "a writer who has seen the other's chain is the newest alone", [first, second, merged], [merged])
    case("gap", "success", "the middle head is lost: the higher seq is the newer", [first, third], [third])
    elsewhere = made(1, first[0], dataset=draw("other dataset", 16))
    case("other-dataset", "success", "a later head of another dataset doesn't make this one old", [first, elsewhere], [first])
    later = made(2, elsewhere[0])
    case("through-other-dataset", "success", "the links lead through a head of another dataset", [first, elsewhere, later], [later])
    astray = made(2, other[0])
    case("foreign-previous", "success", "field 6 names another chain's head: still the higher seq of the chain is the newer", [first, second, astray, other], [astray])
    below, above = made(0), made(2, draw("a head that reached no site", 32), dataset=draw("other dataset", 16))
    anew = made(0, writer=1, tips=[above[0]])
    case("lost-predecessor", "success", "a tip whose predecessor is lost: the next lower place of that chain is an ancestor too", [below, above, anew], [anew])
    case("fork", "fork", "two heads of seq 1 with different records", [first, second, made(1, first[0], debt=1)])
    case("signed-twice", "success", "one record with two different signatures isn't a fork", [first, second, (second[0], signed(kind, second[2], W0))], [second])


def run_tables():
    def line(i, live=None):
        return [draw("runs", 15) + bytes([i]), draw(f"rc {i}", 32), [0, 3] if live is None else live, [draw(f"part {i}", 32)]]

    def page(lines, anchor=f.anchor, **more):
        return cbor({0: 1, 1: anchor, 2: lines} | more.get("extra", {}))
    known = dict(anchor=f.anchor)

    def case(name, expect, comment, *pages, output=None):
        v(f"runs-{name}", "runs", expect, comment, cbor(list(pages)), output, **known)
    case("good", "success", "two runs", page([line(1), line(2)]), output=line(1)[0] + line(2)[0])
    case("two-pages", "success", "two pages", page([line(1)]), page([line(2)]))
    case("live-sets", "success", "live sets: empty; from 0; with gaps; up to 2^32 - 1", page([line(1, []), line(2, [0, 1]), line(3, [5, 1, 1, 1]), line(4, [2**32 - 1, 1])]))
    case("order", "bad-order", "runs descend", page([line(2), line(1)]))
    case("twice", "bad-order", "a run stands in two pages", page([line(1)]), page([line(1)]))
    case("page-order", "bad-order", "the pages are in the wrong order", page([line(2)]), page([line(1)]))
    case("live-odd", "bad-live-set", "a live set that ends in a gap", page([line(1, [0, 3, 2])]))
    case("live-one", "bad-live-set", "a live set of one number", page([line(1, [3])]))
    case("live-count-0", "bad-live-set", "a count of 0", page([line(1, [3, 0])]))
    case("live-gap-0", "bad-live-set", "a gap of 0", page([line(1, [3, 1, 0, 1])]))
    case("live-overflow", "bad-live-set", "ordinals above 2^32 - 1", page([line(1, [2**32 - 1, 2])]))
    case("live-huge", "bad-live-set", "a count of 2^64 - 1", page([line(1, [0, 2**64 - 1])]))
    case("live-negative", "bad-record", "a negative number in a live set", page([line(1, [-1, 1])]))
    case("other-archive", "wrong-archive", "a page of another archive", page([line(1)], OTHER_ANCHOR))
    case("no-runs", "bad-record", "a page without runs", page([]))
    case("all-ordinals", "success", "a live set of all 2^32 ordinals", page([line(1, [0, 2**32])]))
    case("live-pair-overflow", "bad-live-set", "numbers whose sum is 2^64 and more", page([line(1, [2**64 - 1, 2**64 - 1])]))
    case("nothing-live", "success", "a run that nothing is needed of, without ledger parts", page([line(1, [])[:3] + [[]], line(2)]))
    case("no-parts", "bad-record", "a run with live stripes and without ledger parts", page([line(1)[:3] + [[]]]))
    case("unknown-field", "bad-record", "a field 3", page([line(1)], extra={3: 0}))
    small = [[bytes(14) + i.to_bytes(2), bytes(32), [0, 1], [bytes(32)]] for i in range(4097)]
    whole = [page(small[i:i + 256]) for i in range(0, 4097, 256)]
    case("4096", "success", "4,096 runs in 16 pages", *whole[:16])
    case("4097", "too-long", "4,097 runs in 17 pages", *whole)
    case("too-long", "too-long", "a page of 16 MiB and a byte", bytes((16 << 20) + 1))
    case("257", "too-long", "257 runs in a page", page([[bytes(14) + i.to_bytes(2), bytes(32), [0, 1], [bytes(32)]] for i in range(257)]))


def manifests():
    other = [OTHER_RUN, RUN]
    known = dict(level=0, live=f"{RUN.hex()}=2,3,1,1;{OTHER_RUN.hex()}=0,1")
    entry = forge.entry
    an_id = draw("manifest id", 32)

    def ref(ordinal=3, run=1, raw=100, offset=0, stored=None, codec=0):
        return [run, ordinal, offset, raw if stored is None else stored, raw, codec, an_id]

    def file(path=b"file", size=100, extents=None, **more):
        return entry(path, 0, 0o644, _10=size, _14=extents or [[0, 100, [ref()]]], **more)

    def page(items, level=0, runs=other, **extra):
        return cbor({0: 1, 1: level, 2: runs, 3: items} | {int(k[1:]): x for k, x in extra.items()})
    folder = entry(b"", 1, 0o755)
    everything = [folder, entry(b"a", 1, 0o700), file(b"a/b", _7=b"owner", _8=b"group", _9=[[b"user.a", b""], [b"user.b", b"x"]]),
                  entry(b"a-", 2, 0o777, _11=b"/anywhere"), entry(b"dev", 6, 0o600, _12=8 << 32 | 1), entry(b"fifo", 3, 0o600),
                  file(b"link", _13=b"a/b"), file(b"split", 300, [[0, 100, [ref(2, raw=60), ref(4, raw=40)]], [200, 100, [ref(6)]]]),
                  entry(b"z", 0, 0, _10=5), entry(b"zz", 0, 0, _10=200, _15=[ref()])]
    v("manifest-good", "manifest", "success", "every type of entry", page(everything), page(everything), **known)
    index = page([[b"", ref()], [b"m", ref(6)]], 1)
    v("manifest-index", "manifest", "success", "a page of level 1", index, index, **known | dict(level=1, first=b""))
    extents = page([[0, 100, [ref()]], [100, 100, [ref(raw=50), ref(raw=50)]]], 255)
    v("manifest-extents", "manifest", "success", "a page of extents", extents, extents, **known | dict(level=255))
    v("manifest-index-first", "manifest", "bad-order", "the page doesn't begin with the path its parent gives", index, **known | dict(level=1, first=b"a"))
    long, chain = b"c" * 255, b"/".join([b"d" * 255] * 16)
    v("manifest-path-longest", "manifest", "success", "a component of 255 bytes and a path of 4,095", page(sorted([entry(long, 1, 0), entry(chain, 1, 0)], key=lambda e: e[0])), **known)

    def case(name, expect, comment, *items, **keys):
        v(f"manifest-{name}", "manifest", expect, comment, page(list(items)), **known | keys)
    for name, path in [("dot-dot", b"a/../b"), ("dot-dot-first", b"../b"), ("dot-dot-alone", b".."), ("dot", b"a/./b"), ("absolute", b"/etc/passwd"),
                       ("nul", b"a\0b"), ("empty-component", b"a//b"), ("trailing-slash", b"a/"), ("slash", b"/")]:
        case(f"path-{name}", "bad-path", f"a path with {name.replace('-', ' ')}", file(path))
    case("path-root-file", "bad-path", "the root is a file", file(b""))
    case("path-component", "too-long", "a component of 256 bytes", file(b"c" * 256))
    case("path-long", "too-long", "a path of 4,097 bytes", file(chain + b"/x/"[:2]))
    case("path-text", "bad-record", "a path that is a text", {**file(), 0: "file"})
    case("order", "bad-order", "paths descend", file(b"b"), file(b"a"))
    case("order-twice", "bad-order", "a path stands twice", file(b"a"), file(b"a"))
    case("order-bytes", "bad-order", "in byte order of the whole path, not component by component", entry(b"a", 1, 0), file(b"a-"), file(b"a/b"))
    case("live-below", "outside-live-set", "the ordinal before the live ones", file(extents=[[0, 100, [ref(1)]]]))
    case("live-gap", "outside-live-set", "an ordinal in the gap", file(extents=[[0, 100, [ref(5)]]]))
    case("live-above", "outside-live-set", "the ordinal after the live ones", file(extents=[[0, 100, [ref(7)]]]))
    case("live-other-run", "outside-live-set", "an ordinal that is live in another run only", file(extents=[[0, 100, [ref(3, run=0)]]]))
    case("live-no-run", "outside-live-set", "a run that isn't in the run table", file(), live=f"{OTHER_RUN.hex()}=0,9")
    case("live-extents-page", "outside-live-set", "a page of extents outside the live set", entry(b"f", 0, 0, _10=100, _15=[ref(1)]))
    v("manifest-live-index", "manifest", "outside-live-set", "a child page outside the live set", page([[b"", ref(1)]], 1), **known | dict(level=1))
    v("manifest-live-extents", "manifest", "outside-live-set", "an extent of an extents page outside the live set", page([[0, 100, [ref(1)]]], 255), **known | dict(level=255))
    case("run-position", "bad-record", "a position past the end of the page's runs", file(extents=[[0, 100, [ref(run=2)]]]))
    for name, comment, one in [("codec-0", "stored as it is, in another length", ref(stored=99)), ("codec-1", "compressed to its own length", ref(codec=1)),
                               ("stored-0", "stored in no bytes", ref(stored=0, codec=1))]:
        case(f"ref-{name}", "bad-length", comment, file(extents=[[0, 100, [one]]]))
    case("ref-raw-0", "bad-length", "a chunk of no bytes", file(extents=[[0, 100, [ref(), ref(raw=0, stored=0)]]]))
    case("ref-raw-cap", "bad-length", "a chunk of 4 MiB and a byte", file(size=5 << 20, extents=[[0, (4 << 20) + 1, [ref(raw=(4 << 20) + 1, stored=5, codec=1)]]]))
    case("ref-codec-2", "bad-record", "codec 2", file(extents=[[0, 100, [ref(codec=2)]]]))
    for name, comment, size, ext in [
        ("overlap", "two extents overlap", 300, [[0, 100, [ref()]], [99, 100, [ref()]]]), ("order", "extents descend", 300, [[100, 100, [ref()]], [0, 100, [ref()]]]),
        ("past-end", "an extent ends after the size", 99, [[0, 100, [ref()]]]), ("sum-low", "the chunks are a byte short of the extent", 300, [[0, 101, [ref()]]]),
        ("sum-high", "the chunks are a byte longer than the extent", 300, [[0, 99, [ref()]]]), ("wraps", "offset and length overflow 64 bits", 300, [[2**64 - 50, 100, [ref()]]])]:
        case(f"extents-{name}", "bad-extents", comment, file(size=size, extents=ext))
    case("extents-empty", "bad-record", "an extent without chunks", file(extents=[[0, 100, []]]))
    case("extents-none", "bad-record", "an empty list of extents", {**file(), 14: []})
    case("extents-both", "bad-record", "extents and pages of extents", file(_15=[ref()]))
    case("no-size", "bad-record", "a file without a size", entry(b"f", 0, 0))
    case("directory-size", "bad-record", "a directory with a size", entry(b"d", 1, 0, _10=1))
    case("link-no-target", "bad-record", "a symbolic link without a target", entry(b"l", 2, 0))
    case("link-target-nul", "bad-path", "a symbolic link's target with a NUL", entry(b"l", 2, 0, _11=b"a\0b"))
    case("link-target-empty", "bad-path", "a symbolic link's target of no bytes", entry(b"l", 2, 0, _11=b""))
    case("link-target-longest", "success", "a symbolic link's target of 4,096 bytes", entry(b"l", 2, 0, _11=b"t" * 4096))
    case("link-target-long", "too-long", "a symbolic link's target of 4,097 bytes", entry(b"l", 2, 0, _11=b"t" * 4097))
    case("entry-array", "bad-record", "an entry that is an array", [b"f", 0, 0])
    case("link-extents", "bad-record", "a symbolic link with extents", entry(b"l", 2, 0, _11=b"x", _14=[[0, 100, [ref()]]]))
    case("device-no-number", "bad-record", "a device without its number", entry(b"d", 5, 0))
    case("group-dot-dot", "bad-path", "a link group that leaves the target", file(b"link", _13=b"../first"))
    case("group-later", "bad-order", "a link group named after a later path", file(b"a", _13=b"b"))
    case("type-7", "bad-record", "type 7", entry(b"f", 7, 0))
    case("mode", "bad-record", "a mode with a thirteenth bit", entry(b"d", 1, 0o10000))
    case("owner-2-32", "bad-record", "an owner of 2^32", {**entry(b"d", 1, 0), 3: 2**32})
    case("ordinal-2-32", "bad-record", "an ordinal of 2^32", file(extents=[[0, 100, [ref(2**32)]]]))
    v("manifest-runs-twice", "manifest", "success", "a run stands twice in field 2", page([file()], runs=[*other, RUN]), **known)
    case("nanoseconds", "bad-record", "1,000,000,000 nanoseconds", {**entry(b"d", 1, 0), 6: 10**9})
    case("xattr-order", "bad-order", "extended attributes descend", file(_9=[[b"user.b", b""], [b"user.a", b""]]))
    case("xattr-long", "too-long", "extended attributes of more than 64 KiB", file(_9=[[b"user.a", bytes(65536)]]))
    case("unknown-field", "bad-record", "a field 16", file(_16=0))
    case("empty", "bad-record", "a page without items")
    v("manifest-level", "manifest", "bad-level", "a page of level 0 where level 1 belongs", page([folder]), **known | dict(level=1))
    v("manifest-level-higher", "manifest", "bad-level", "a page of level 1 where level 0 belongs", index, **known)
    v("manifest-version", "manifest", "bad-version", "version 2", page([folder], _0=2), **known)
    v("manifest-float", "manifest", "not-canonical", "a time that is a float", page([{**folder, 5: Raw(b"\xf9\x3c\x00")}]), **known)
    v("manifest-too-long", "manifest", "too-long", "a page of 4 MiB and a byte", bytes((4 << 20) + 1), **known)


def key_files():
    r, root = f.recipients[0], f.roots[0]
    salt = draw("key file salt", 16)
    good = forge.keyfile("recovery", r.public, r.seed, b"correct horse", salt, f.anchor)
    secret = f'format = "exclave key file v1"\nkind = "writer"\npublic = "{W0.public.hex()}"\nsecret = "{W0.seed.hex()}"\n'.encode()
    known = dict(passphrase=b"correct horse")
    v("keyfile-recovery", "keyfile", "success", "a recovery key with its archive", good, r.seed, **known)
    v("keyfile-root", "keyfile", "success", "a root key without an archive", forge.keyfile("root", root.public, root.seed, b"correct horse", salt), root.seed, **known)
    v("keyfile-writer", "keyfile", "success", "a writer's key that isn't sealed", secret, W0.seed, **known)
    v("keyfile-lanes", "keyfile", "success", "four lanes, two passes", forge.keyfile("recovery", r.public, r.seed, b"correct horse", salt, memory=256, passes=2, lanes=4), r.seed, **known)
    text = good.decode()

    def edit(a, b, source=text):
        assert source.count(a) >= 1, a
        return source.replace(a, b, 1).encode()
    v("keyfile-passphrase", "keyfile", "bad-passphrase", "another passphrase", good, passphrase=b"Correct horse")
    v("keyfile-newline", "keyfile", "bad-passphrase", "a line feed after the passphrase counts", good, passphrase=b"correct horse\n")
    as_root = forge.keyfile("root", W0.public, W0.seed, b"correct horse", salt).decode()
    v("keyfile-kind-swapped", "keyfile", "bad-passphrase", "sealed as a root key, called a writer's", edit('kind = "root"', 'kind = "writer"', as_root), **known)
    v("keyfile-ciphertext", "keyfile", "bad-passphrase", "the last digit of the ciphertext is changed", text[:-3].encode() + (b"0" if text[-3] != "0" else b"1") + text[-2:].encode(), **known)
    v("keyfile-kind-unknown", "keyfile", "bad-keyfile", "a root's key called an administrator's", edit('kind = "root"', 'kind = "admin"', as_root), **known)
    v("keyfile-too-long", "keyfile", "too-long", "a good key file and a comment of 64 KiB", good + b"#" * 65536, **known)
    v("keyfile-memory", "keyfile", "too-costly", "1,048,577 KiB", edit("memory_kib = 64", "memory_kib = 1048577"), **known)
    v("keyfile-memory-2-40", "keyfile", "too-costly", "2^40 KiB", edit("memory_kib = 64", f"memory_kib = {2**40}"), **known)
    v("keyfile-memory-2-63", "keyfile", "bad-keyfile", "2^63 KiB, which is no integer of TOML", edit("memory_kib = 64", f"memory_kib = {2**63}"), **known)
    v("keyfile-passes", "keyfile", "too-costly", "17 passes", edit("passes = 1", "passes = 17"), **known)
    v("keyfile-lanes-17", "keyfile", "too-costly", "17 lanes", edit("lanes = 1", "lanes = 17", edit("memory_kib = 64", "memory_kib = 1024").decode()), **known)
    other = forge.keyfile("recovery", f.recipients[1].public, r.seed, b"correct horse", salt)
    v("keyfile-public", "keyfile", "wrong-key", "the public key of another secret", other, **known)
    v("keyfile-public-writer", "keyfile", "wrong-key", "a writer's key with another's public key", edit(W0.public.hex(), W1.public.hex(), secret.decode()), **known)
    for name, comment, data in [
        ("format", "another format", edit("file v1", "file v2")), ("kind", "an unknown kind", edit('"recovery"', '"drill"')), ("not-toml", "not TOML", b"exclave key\n"),
        ("not-utf8", "not UTF-8", b"\xff" + good), ("public-short", "a public key that is a byte short", edit(r.public.hex(), r.public.hex()[2:])),
        ("upper-case", "hex in upper case", edit(r.public.hex(), r.public.hex().upper())), ("unknown-key", "an unknown key", b'extra = "x"\n' + good),
        ("kdf", "another kdf", edit("argon2id", "argon2i")), ("no-salt", "no salt", edit(f'salt = "{salt.hex()}"\n', "")),
        ("memory-text", "a memory that is a text", edit("memory_kib = 64", 'memory_kib = "64"')), ("passes-0", "no passes", edit("passes = 1", "passes = 0")),
        ("memory-low", "less than 8 KiB a lane", edit("lanes = 1", "lanes = 9")),
        ("recovery-open", "a recovery key that isn't sealed", f'format = "exclave key file v1"\nkind = "recovery"\npublic = "{r.public.hex()}"\nsecret = "{r.seed.hex()}"\n'.encode()),
        ("both", "a secret and a sealed secret", edit("[sealed]", f'secret = "{r.seed.hex()}"\n[sealed]')), ("neither", "no secret at all", text.split("[sealed]")[0].encode())]:
        v(f"keyfile-{name}", "keyfile", "bad-keyfile", comment, data, **known)


def main(names: list[str]) -> int:
    for group in (contexts, stripes, directories, chunks, shards, codes, records, signatures, charters, envelopes, ledgers, heads, chains,
                  run_tables, manifests, key_files):
        group()
    share_vectors.share_sets(v, f)
    charter_vectors.vectors(sys.modules[__name__])
    kit_vectors.vectors(sys.modules[__name__])
    log_vectors.vectors(sys.modules[__name__])
    collection_vectors.vectors(sys.modules[__name__])
    tenant_vectors.vectors(sys.modules[__name__])
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, source in VECTORS.items():
        path = FOLDER / f"{name}.vec"
        if name in names or not path.exists():
            path.write_text(source, "ascii")
    wrong = 0
    for path in sorted(FOLDER.glob("*.vec")):
        outcome, expected = vector_runner.run(path)
        if outcome != expected:
            wrong += 1
            print(f"{path.name}: {outcome}, expected {expected}")
    print(f"{len(list(FOLDER.glob('*.vec')))} vectors, {wrong} with another outcome than expected")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
