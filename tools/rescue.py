#!/usr/bin/env python3
"""rescue.py: restore an Exclave archive with nothing but this file, FORMAT.md's facts and a key.

This is the independent decoder. It shares no code with the engine and was written from FORMAT.md alone; the numbers in
brackets below, as in [section 9], are FORMAT.md's. It is meant to be read. If it no longer runs, write it again.

What you need
  - Python 3.11 or later, and from PyPI: cryptography (50 or later), blake3, zstandard.
  - As many of the sites' stores as you can get, each copied or mounted as a folder: DIR/<archive>/charter/..., and so on.
  - A recovery key file [section 13], its passphrase, and the anchor of the archive when the key file doesn't hold it;
    or enough of the shares that it was split into [section 17], as files, words or digits, and the share set.

How a restore goes [section 14]; each step refuses what the one before doesn't vouch for
  1. The charter: version 1 is the record whose BLAKE3 hash is the anchor; later versions follow it by signatures and the
     law of succession [section 8]. Each names the writers and the recipients of its time, and the newest whom to disbelieve.
  2. The heads: one signed record per snapshot. A head counts when a writer of the charter that it obeys signed it, twice
     over, and no revocation voids it.
  3. The newest head of a dataset: its run table (by hash), its run's envelope; our key opens the envelope and gives the
     run key; the run key opens the head's sealed part: the name, the times, the dataset secret, the manifest's root.
  4. The ledgers (by hash): for each stripe its context and the hash of each of its n shards.
  5. The manifest, from its root: a tree of pages that are themselves chunks in stripes. For each chunk: is its stripe
     in the head's live set? Take any k shards whose hash is the ledger's, solve for the missing data shards, check
     those too, derive the stripe's key, compare the commitment, open, cut, decompress, check the chunk's id.
  6. Files, directories and links are written beneath the target and nowhere else.

Whatever fails ends in Refused(kind, message), with a kind from KINDS. Damage in one stripe costs what lies in that
stripe: the rest is restored, the lost paths are listed and the exit code is 4.
Exit codes: 0 done, 1 failed (a disk that is full, say), 2 usage, 3 done with findings, 4 something is lost, 5 refused,
6 an older snapshot was taken, 130 interrupted.
"""

import argparse, base64, binascii, datetime, errno, fnmatch, getpass, hashlib, hmac, json, os, re, stat, sys, unicodedata
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

try:
    import tomllib

    import zstandard
    from blake3 import blake3
    from cryptography.exceptions import InvalidSignature, InvalidTag
    from cryptography.hazmat.primitives import hpke
    from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa, mlkem, x25519
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
except ImportError as error:
    print(f"rescue: {error}. Needed are Python 3.11 or later, and by pip: cryptography (50 or later), blake3, zstandard;"
          f" this is Python {sys.version.split()[0]}, {sys.executable}", file=sys.stderr)
    sys.exit(2)

KINDS = {
    "bad-magic": "bytes that aren't a stripe context or shard at all",
    "bad-version": "a version of a record, context or signed object that this format doesn't define",
    "bad-suite": "a suite or code number that this format doesn't define",
    "bad-geometry": "k, n, an index or a payload length that the format forbids",
    "bad-length": "a length that doesn't fit what it describes",
    "too-long": "above a cap of section 15",
    "not-canonical": "not exactly one item of deterministic CBOR",
    "bad-record": "good CBOR, but a field is missing, unknown, of the wrong type or out of its range",
    "bad-order": "what must ascend doesn't, or stands there twice",
    "missing-signature": "fewer signatures than the record needs, or half of one",
    "unknown-signer": "signed by a key that may not sign this record",
    "bad-signature": "a signature that doesn't verify",
    "wrong-archive": "belongs to another archive",
    "wrong-run": "belongs to another run, or to a run of another dataset",
    "wrong-stripe": "belongs to another stripe of the run",
    "wrong-index": "another shard of the stripe",
    "wrong-charter": "refers to a charter version, recipient set or epoch that isn't there",
    "broken-chain": "a charter that names another charter as the version before it",
    "bad-succession": "a charter that changes what its predecessor doesn't let it change",
    "bad-retention": "a class that keeps less than the floors, or a number above its cap",
    "loosens": "less is demanded for a dataset than its class, or the record before, demands; or it left its class",
    "bad-stanzas": "an envelope's stanzas aren't exactly the recipients of its set, in order",
    "not-a-recipient": "no stanza of the envelope is for this identity",
    "bad-commitment": "the key, or the label, isn't the one that was committed to",
    "bad-tag": "authenticated decryption failed",
    "bad-hash": "bytes that aren't those their hash names",
    "bad-trailer": "a shard's trailer doesn't lead to the hash of its payload",
    "bad-parity": "a data shard rebuilt from shards that are the ledger's isn't the ledger's",
    "bad-padding": "a byte that must be zero isn't",
    "bad-directory": "a stripe's directory breaks a rule of section 4",
    "bad-zstd": "not one zstd frame of exactly the raw length within the window",
    "bad-chunk-id": "a chunk's bytes don't have its id",
    "bad-live-set": "not the written form of a set of ordinals",
    "outside-live-set": "a reference to a stripe that the head doesn't vouch for",
    "bad-path": "a path that isn't relative and plain, or leaves the target",
    "bad-level": "a manifest page of another level than its reference says",
    "bad-extents": "extents that overlap, leave the file, don't add up or differ within a link group",
    "ledger-conflict": "two ledger parts describe one stripe differently",
    "fork": "two valid heads of one writer, incarnation and seq with different records, or two valid charters of one version",
    "bad-keyfile": "not a key file of section 13, or a wrapped share of section 17",
    "too-costly": "a key file that asks for more work than the caps allow",
    "bad-passphrase": "the passphrase doesn't open the key file",
    "wrong-key": "a public key that doesn't belong to the secret",
    "not-found": "no site has an object with the name or hash that is needed",
    "too-few-shards": "fewer than k good shards of a stripe are left",
    "bad-threshold": "thresholds, counts or a place that fit no share set",
    "bad-custodian": "a body that may not hold a share",
    "bad-word": "a word that isn't in the list, or a group that isn't five digits up to 65,535",
    "bad-check": "a line of a share whose check doesn't fit",
    "foreign-share": "a share of another set",
    "old-share": "a share of an earlier split",
    "new-share": "a share of a later split than the set",
    "wrong-share": "a share with a place or thresholds that the set doesn't give it",
    "altered-share": "not the share that was given to this custodian",
    "repeated-share": "a share that was given before",
    "too-few-shares": "fewer good shares than the thresholds ask for",
}
KIB, MIB, GROUP, SEGMENT, TAG = 1024, 1 << 20, 65536, 65520, 16
CHUNK_CAP, STRIPE_CAP, HEAD_CAP, ENVELOPE_CAP, RECORD_CAP = 4 * MIB, 1 << 30, 16 * KIB, 48 * KIB, 16 * MIB
CHARTER_FILE_CAP = 4 * RECORD_CAP
KIT_CAP, LOGINS_CAP, PIECE = 256 * KIB, 512 * KIB, 8 * MIB


class Refused(Exception):
    """What was read is damaged, forged, missing or not for us. `kind` is a key of KINDS, the message is for people."""

    def __init__(self, kind: str, message: str):
        assert kind in KINDS, kind
        super().__init__(f"{kind}: {message}")
        self.kind, self.message = kind, message


class Usage(Exception):
    """The command can't be carried out as it was given."""


class Failed(Exception):
    """This machine doesn't do what is needed; nothing is wrong with the archive."""


def need(condition, kind: str, message: str):
    if not condition:
        raise Refused(kind, message)


# ---- Section 1: primitives -----------------------------------------------------------------------------------------

def kdf(context: str, material: bytes, length: int = 32) -> bytes:
    return blake3(material, derive_key_context=context).digest(length=length)


def hash_of(data: bytes) -> bytes:
    return blake3(data).digest()


def aes_open(key: bytes, nonce: bytes, data: bytes, what: str, aad: bytes = b"") -> bytes:
    try:
        return AESGCM(key).decrypt(nonce, data, aad)
    except InvalidTag:
        raise Refused("bad-tag", f"{what} was changed, or this isn't its key") from None


def open_box(run_key: bytes, purpose: int, box: bytes) -> bytes:
    """A box is salt (32) || commitment (32) || ciphertext and tag."""
    need(len(box) >= 64 + TAG, "bad-length", f"a box of {len(box)} bytes")
    derived = kdf("exclave 2026 box v1", run_key + bytes([purpose]) + box[:32], 64)
    need(hmac.compare_digest(derived[32:], box[32:64]), "bad-commitment", "the box is committed to another key")
    return aes_open(derived[:32], bytes(12), box[64:], "a box")


def unpad(plain: bytes, width: int, what: str) -> bytes:
    """length (`width` bytes) || content || zeros."""
    length = int.from_bytes(plain[:width])
    need(len(plain) >= width and length <= len(plain) - width, "bad-length", f"{what} is longer than its box")
    need(not any(plain[width + length:]), "bad-padding", f"{what} is not padded with zeros")
    return plain[width:width + length]


# The points of small order have one of these y coordinates. Strict Ed25519 refuses them, and any y of p or above.
ED25519_P = 2**255 - 19
ED25519_Y8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD83D3D706A17C7
SMALL_ORDER_Y = {0, 1, ED25519_P - 1, ED25519_Y8, ED25519_P - ED25519_Y8}


def good_point(point: bytes) -> bool:
    y = int.from_bytes(point, "little") & (2**255 - 1)
    return y < ED25519_P and y not in SMALL_ORDER_Y


def verify_pair(public: bytes, message: bytes, ed: bytes, ml: bytes):
    """Ed25519, strict, and ML-DSA-65 with the empty context; both must hold. `public` is both keys, 32 + 1,952 bytes."""
    try:
        need(good_point(public[:32]) and good_point(ed[:32]), "bad-signature", "Ed25519 with a point of small order")
        ed25519.Ed25519PublicKey.from_public_bytes(public[:32]).verify(ed, message)
        mldsa.MLDSA65PublicKey.from_public_bytes(public[32:]).verify(ml, message)
    except (InvalidSignature, ValueError):
        raise Refused("bad-signature", f"the signature of key {hash_of(public).hex()} doesn't verify") from None


class XWing:
    """A recovery identity. The 32 byte seed is expanded with SHAKE-256 to ML-KEM-768's seed (64) || X25519's secret (32).

    `cryptography` calls the KEM (0x647A) MLKEM768_X25519. tests build it by hand from its parts and compare.
    """
    SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)

    def __init__(self, seed: bytes):
        expanded = hashlib.shake_256(seed).digest(96)
        self.kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        self.dh = x25519.X25519PrivateKey.from_private_bytes(expanded[64:])
        self.public = self.kem.public_key().public_bytes_raw() + self.dh.public_key().public_bytes_raw()
        self.id = hash_of(self.public)

    def unseal(self, enc: bytes, ciphertext: bytes, info: bytes) -> bytes:
        key = hpke.MLKEM768X25519PrivateKey(self.kem, self.dh)
        try:
            return self.SUITE.decrypt(enc + ciphertext, key, info=info)
        except (InvalidTag, ValueError):
            raise Refused("bad-tag", "the stanza was changed, or sealed under another info") from None


# ---- Section 7 and 16: records, their shapes, signatures -------------------------------------------------------------

MAX_DEPTH = 16


def cbor(data: bytes):
    """Read exactly one item of deterministic CBOR: integers, byte strings, texts, arrays, maps with unsigned keys."""
    value, end = cbor_item(data, 0, 0)
    need(end == len(data), "not-canonical", f"{len(data) - end} bytes after the item")
    return value


def cbor_item(data: bytes, at: int, depth: int):
    need(at < len(data), "not-canonical", "the bytes end within an item")
    need(depth <= MAX_DEPTH, "not-canonical", f"nested deeper than {MAX_DEPTH}")
    major, number, at = data[at] >> 5, data[at] & 31, at + 1
    need(major < 6, "not-canonical", "a tag, float or simple value")
    need(number < 28, "not-canonical", "an indefinite or reserved length")
    if number >= 24:
        width = 1 << (number - 24)
        need(at + width <= len(data), "not-canonical", "the bytes end within a number")
        number, at = int.from_bytes(data[at:at + width]), at + width
        least = 24 if width == 1 else 1 << (4 * width)
        need(number >= least, "not-canonical", f"{number} isn't written in its shortest form")
    if major == 0:
        return number, at
    if major == 1:
        return -1 - number, at
    need(number <= len(data) - at, "not-canonical", f"a length of {number} where {len(data) - at} bytes remain")
    if major == 2:
        return data[at:at + number], at + number
    if major == 3:
        try:
            return data[at:at + number].decode("utf-8"), at + number
        except UnicodeDecodeError:
            raise Refused("not-canonical", "a text that isn't UTF-8") from None
    if major == 4:
        items = []
        for _ in range(number):
            item, at = cbor_item(data, at, depth + 1)
            items.append(item)
        return items, at
    fields, last = {}, -1
    for _ in range(number):
        need(at < len(data) and data[at] >> 5 == 0, "not-canonical", "a map key that isn't an unsigned integer")
        key, at = cbor_item(data, at, depth + 1)
        need(key > last, "not-canonical", "map keys don't ascend")
        fields[key], at = cbor_item(data, at, depth + 1)
        last = key
    return fields, at


# A shape is a function that refuses a value. Together they spell the CDDL of section 16.

def uint(most: int = 2**64 - 1):
    return lambda v: need(type(v) is int and 0 <= v <= most, "bad-record", f"expected a number up to {most}")


def sint(v):
    need(type(v) is int and -2**63 <= v < 2**63, "bad-record", "expected a 64 bit number")


def text(v):
    need(type(v) is str, "bad-record", "expected a text")


def bstr(size: int | None = None):
    return lambda v: need(type(v) is bytes and size in (None, len(v)), "bad-record", f"expected {size or 'some'} bytes")


def array(item, least: int = 1):
    def check(v):
        need(type(v) is list and len(v) >= least, "bad-record", f"expected an array of at least {least}")
        for x in v:
            item(x)
    return check


def row(*items):
    def check(v):
        need(type(v) is list and len(v) == len(items), "bad-record", f"expected an array of {len(items)}")
        for x, item in zip(v, items):
            item(x)
    return check


def table(fields: dict, optional=()):
    def check(v):
        need(type(v) is dict, "bad-record", "expected a map")
        for key in v:
            need(key in fields, "bad-record", f"unknown field {key}")
        for key, item in fields.items():
            need(key in v or key in optional, "bad-record", f"field {key} is missing")
            if key in v:
                item(v[key])
    return check


U8, U32, U64, ID16, ID32, KEY = uint(2**8 - 1), uint(2**32 - 1), uint(), bstr(16), bstr(32), bstr(1984)
LIVE, REF = array(U64, 0), row(U32, U32, U32, U32, U32, uint(1), ID32)
SITE = table({0: ID16, 1: text, 2: uint(4), 3: uint(3), 4: text, 5: text, 6: text, 7: array(text), 8: text}, range(4, 9))
CLASS = row(U32, U8, U8, U8, U8, U8, U32, uint(1), U32)
CHARTER = table({0: U64, 1: U32, 2: ID32, 3: sint, 4: row(U32, array(KEY)), 5: array(row(KEY, array(U32))),
                 6: array(row(U32, U32, array(bstr(1216)))), 7: array(SITE), 8: array(CLASS), 9: ID16,
                 10: array(row(uint(6), KEY, array(U32, 0))), 11: array(row(uint(1), U32, array(KEY))),
                 12: array(row(ID32, uint(1), array(row(ID16, U64, ID32), 0))), 13: array(lambda v: SHARE_SET(v)),
                 14: table({0: U32, 1: U32, 2: text, 3: uint(1), 4: U32,
                            5: array(table({0: text, 1: text, 2: ID32, 3: bstr(1312)}, [3]))}),
                 15: array(row(*[U32] * 10)),
                 16: array(U32), 17: array(array(ID32)), 18: array(U32)},
                [2, 10, 11, 12, 13, 14, 15, 16, 17, 18])
PLATE = table({0: U64, 1: ID32, 2: ID16})
ENVELOPE = table({0: U64, 1: ID32, 2: ID16, 3: ID16, 4: U32, 5: U32, 6: U32, 7: U32, 8: ID32, 9: bstr(),
                  10: array(row(ID32, bstr(1120), bstr(48))), 11: ID16})
GRANT = table({0: U64, 1: ID32, 2: U32, 3: bstr(1216), 4: array(ID32), 5: array(row(ID16, ID32, bstr(1120), bstr(48))),
               6: sint, 7: sint}, [7])
KIT = table({0: U64, 1: ID32, 2: U32, 3: U32, 4: ID32, 5: sint, 6: text, 7: array(row(text, uint(3))),
             8: array(row(text, uint(1), U64, ID32, array(ID32)))})
LOG_ENTRY = table({0: U64, 1: U8, 2: ID32})
SEALED_LOGINS = table({0: U64, 1: ID32, 2: U32, 3: ID32, 4: array(row(ID32, bstr(1120), bstr(48))), 5: bstr()})
STRIPES = row(ID16, LIVE)
MARK = table({0: U64, 1: ID32, 2: U32, 3: sint, 4: array(STRIPES, 0), 5: array(ID32, 0), 6: array(row(ID32, sint), 0)})
SWEEP = table({0: U64, 1: ID32, 2: U32, 3: ID32, 4: sint, 5: sint, 6: array(STRIPES), 7: array(ID32, 0)})
HOLD = table({0: U64, 1: ID32, 2: U32, 3: lambda v: SCOPE(v), 4: sint, 5: text, 6: ID32}, [6])
REGISTRATION = table({0: U64, 1: ID32, 2: ID16, 3: U32, 4: ID32, 5: U32, 6: U32, 7: sint, 8: U8, 9: U8, 10: uint(1)}, [4, 8, 9, 10])
COMPANION = table({0: U64, 1: ID32, 2: U32, 3: ID32, 4: U32, 5: ID32, 6: sint, 7: ID32, 8: array(row(ID32, bstr(1120), bstr(48))), 9: bstr()}, [3])
REUSE = table({0: U64, 1: ID32, 2: ID16, 3: array(row(ID16, LIVE), 0)})
CLOSE = table({0: U64, 1: ID32, 2: ID16, 3: ID16})
LEDGER = table({0: U64, 1: ID32, 2: ID16, 3: U32, 4: array(row(U32, array(ID16))),
                5: array(row(bstr(116), ID32, array(ID32)))})
HEAD = table({0: U64, 1: ID32, 2: ID16, 3: ID32, 4: ID16, 5: U64, 6: ID32, 7: array(ID32, 0), 8: U32, 9: U8, 10: uint(1), 11: U64,
              12: ID16, 13: array(ID32), 14: bstr(), 15: array(uint(5))}, [6, 15])
RUNS_PAGE = table({0: U64, 1: ID32, 2: array(row(ID16, ID32, LIVE, array(ID32, 0)))})
SEALED_HEAD = table({0: U64, 1: text, 2: text, 3: sint, 4: sint, 5: uint(3), 6: ID32, 7: row(U64, U64, U64, U64, U64, U64, U64), 8: U8,
                     9: row(ID16, U32, U32, U32, U32, uint(1), ID32), 10: ID32, 11: text})
EXTENT = row(U64, U64, array(REF))
ENTRY = table({0: bstr(), 1: uint(6), 2: uint(0o7777), 3: U32, 4: U32, 5: sint, 6: uint(999_999_999), 7: bstr(), 8: bstr(),
               9: array(row(bstr(), bstr())), 10: uint(2**63 - 1), 11: bstr(), 12: U64, 13: bstr(), 14: array(EXTENT),
               15: array(REF)}, range(7, 16))
PAGE = table({0: U64, 1: U8, 2: array(ID16, 0), 3: array(lambda v: None)})


def record(data: bytes, shape) -> dict:
    """The encoding first, as a whole; then the version; then the fields."""
    value = cbor(data)
    need(type(value) is dict and type(value.get(0)) is int, "bad-record", "not a record")
    need(value[0] == 1, "bad-version", f"version {value[0]} of a record")
    shape(value)
    return value


def ascending(values, what: str):
    values = list(values)
    need(all(a < b for a, b in zip(values, values[1:])), "bad-order", f"{what} don't ascend")


def split_signed(data: bytes, cap: int):
    """A signed object is [1, record bytes, [+ [key id, Ed25519 signature, ML-DSA-65 signature]]]."""
    need(len(data) <= cap, "too-long", f"{len(data)} bytes, the cap is {cap}")
    value = cbor(data)
    need(type(value) is list and len(value) == 3 and type(value[0]) is int, "bad-record", "not a signed object")
    need(value[0] == 1, "bad-version", f"version {value[0]} of a signed object")
    _, body, signatures = value
    need(type(body) is bytes and type(signatures) is list, "bad-record", "not a signed object")
    need(signatures, "missing-signature", "not signed")
    for one in signatures:
        need(type(one) is list and all(type(part) is bytes for part in one), "bad-record", "not a signature")
        need(len(one) >= 3 and all(one), "missing-signature", "one of the two signatures is missing")
        row(ID32, bstr(64), bstr(3309))(one)
    ascending((one[0] for one in signatures), "key ids of signatures")
    return body, signatures


def verify_signatures(kind: str, body: bytes, signatures, keys: dict):
    for key_id, ed, ml in signatures:
        need(key_id in keys, "unknown-signer", f"{key_id.hex()} may not sign an {kind!r}")
        verify_pair(keys[key_id], kind.encode() + b"\0" + body, ed, ml)


def open_signed(data: bytes, cap: int, kind: str, keys: dict):
    """The record bytes and the signer's key id, of a record that carries exactly one signature."""
    body, signatures = split_signed(data, cap)
    need(len(signatures) == 1, "bad-record", f"{len(signatures)} signatures where one belongs")
    verify_signatures(kind, body, signatures, keys)
    return body, signatures[0][0]


# ---- Section 3 to 6: stripe context, stripe, shard, code -------------------------------------------------------------

class Context(NamedTuple):
    raw: bytes
    k: int
    payload: int
    anchor: bytes
    run: bytes
    ordinal: int
    salt: bytes
    label_tag: bytes


def read_context(raw: bytes) -> Context:
    need(len(raw) == 116, "bad-length", f"a context of {len(raw)} bytes")
    need(raw[:8] == b"EXCLSHRD", "bad-magic", "not a stripe context")
    need(raw[8] == 1, "bad-version", f"context version {raw[8]}")
    need(raw[9] == 1 and raw[10] == 1, "bad-suite", f"suite {raw[9]}, code {raw[10]}")
    k, payload = raw[11], int.from_bytes(raw[12:16])
    check_geometry(k, payload)
    return Context(raw, k, payload, raw[16:48], raw[48:64], int.from_bytes(raw[64:68]), raw[68:100], raw[100:])


def check_geometry(k: int, payload: int):
    need(1 <= k <= 32, "bad-geometry", f"k is {k}")
    need(payload >= GROUP and payload % GROUP == 0 and k * payload <= STRIPE_CAP, "bad-geometry", f"payload of {payload} bytes")


def open_stripe(run_key: bytes, context: Context, commitment: bytes, sealed) -> bytes:
    """Sealed stripe to plaintext. The commitment is compared before anything is opened."""
    need(len(sealed) == context.k * context.payload, "bad-length", f"a sealed stripe of {len(sealed)} bytes")
    derived = kdf("exclave 2026 stripe key v1", run_key + context.raw, 64)
    need(hmac.compare_digest(derived[32:], commitment), "bad-commitment", "the stripe is committed to another key or context")
    sealed, segments, plain = memoryview(sealed), len(sealed) // GROUP, []
    for s in range(segments):
        nonce = bytes(7) + s.to_bytes(4) + bytes([s == segments - 1])
        plain.append(aes_open(derived[:32], nonce, bytes(sealed[s * GROUP:(s + 1) * GROUP]), f"segment {s}"))
    return b"".join(plain)


class Chunk(NamedTuple):
    kind: int
    codec: int
    offset: int
    stored: int
    raw: int
    id: bytes


def check_chunk_lengths(codec: int, stored: int, raw: int, kind: str):
    need(1 <= raw <= CHUNK_CAP and stored >= 1, kind, f"a chunk of {raw} bytes, stored in {stored}")
    need(stored == raw if codec == 0 else stored < raw, kind, f"codec {codec}, {raw} bytes stored in {stored}")


def read_directory(plain: bytes) -> list[Chunk]:
    end = len(plain) - 4
    size = int.from_bytes(plain[end:])
    need(size % 48 == 0 and 48 <= size <= end, "bad-directory", f"a directory of {size} bytes")
    start, at, chunks = end - size, 0, []
    for e in range(start, end, 48):
        kind, codec, zero = plain[e], plain[e + 1], plain[e + 2:e + 4]
        offset, stored, raw = (int.from_bytes(plain[e + i:e + i + 4]) for i in (4, 8, 12))
        need(kind in (1, 2) and codec in (0, 1) and zero == b"\0\0", "bad-directory", f"kind {kind}, codec {codec}, {zero.hex()}")
        check_chunk_lengths(codec, stored, raw, "bad-directory")
        need(offset == at and stored <= start - at, "bad-directory", f"a chunk of {stored} bytes at {offset}, expected at {at}")
        at += stored
        chunks.append(Chunk(kind, codec, offset, stored, raw, plain[e + 16:e + 48]))
    need(not any(plain[at:start]), "bad-padding", "the bytes between the chunks and the directory aren't zero")
    return chunks


def read_chunk(stored: bytes, codec: int, raw: int, chunk_id: bytes, dedup_key: bytes | None) -> bytes:
    """Stored bytes to raw bytes. Without the dedup key (forensics only) the id stays unchecked."""
    check_chunk_lengths(codec, len(stored), raw, "bad-length")
    data = stored if codec == 0 else unzstd(stored, raw)
    if dedup_key is not None:
        need(hmac.compare_digest(blake3(data, key=dedup_key).digest(), chunk_id), "bad-chunk-id", f"chunk {chunk_id.hex()}")
    return data


def unzstd(stored: bytes, raw: int) -> bytes:
    """The frame's own header is believed only where it says `raw`, so never more than `raw` bytes are allocated."""
    try:
        frame = zstandard.get_frame_parameters(stored)
        need(frame.content_size in (raw, zstandard.CONTENTSIZE_UNKNOWN), "bad-zstd", "the frame is of another length")
        need(frame.window_size <= 8 * MIB, "bad-zstd", f"a window of {frame.window_size} bytes")
        data = zstandard.ZstdDecompressor().decompress(stored, max_output_size=raw, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Refused("bad-zstd", str(error)) from None
    need(len(data) == raw, "bad-zstd", f"{len(data)} bytes instead of {raw}")
    return data


class Shard(NamedTuple):
    context: Context
    index: int
    commitment: bytes
    payload: bytes


def read_shard_header(data: bytes) -> tuple[Context, int, bytes]:
    need(len(data) >= 152, "bad-length", f"a shard of {len(data)} bytes")
    context = read_context(data[:116])
    need(data[116] < 32, "bad-geometry", f"shard index {data[116]}")
    need(data[117:120] == bytes(3), "bad-padding", "the header isn't padded with zeros")
    return context, data[116], data[120:152]


def shard_size(payload: int) -> int:
    """Header, payload, 32 bytes for each 64 KiB of it."""
    return 152 + payload + payload // 2048


def payload_of(data: bytes, size: int, digest: bytes) -> bytes:
    """The payload of a shard object by the ledger's word; header and trailer aren't looked at."""
    need(len(data) == shard_size(size), "bad-length", f"a shard of {len(data)} bytes")
    payload = data[152:152 + size]
    need(hash_of(payload) == digest, "bad-hash", "the payload isn't the ledger's")
    return payload


def read_shard(data: bytes) -> Shard:
    """A whole shard object on its own word: what recovery without ledgers has to go by."""
    context, index, commitment = read_shard_header(data)
    size = context.payload
    need(len(data) == shard_size(size), "bad-length", f"a shard of {len(data)} bytes")
    payload = data[152:152 + size]
    need(trailer_root(data[152 + size:]) == hash_of(payload), "bad-trailer", "the trailer isn't the payload's")
    return Shard(context, index, commitment, payload)


def trailer_root(trailer: bytes) -> bytes:
    """Merge the groups' chaining values to the payload's hash as BLAKE3 merges subtrees (BLAKE3 paper, 2.1 and 2.5)."""
    values = [trailer[i:i + 32] for i in range(0, len(trailer), 32)]

    def merge(part, root):
        if len(part) == 1:
            return part[0]
        left = 1 << ((len(part) - 1).bit_length() - 1)
        return blake3_parent(merge(part[:left], 0), merge(part[left:], 0), root)
    return merge(values, 8)


BLAKE3_IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)


def blake3_parent(left: bytes, right: bytes, root: int) -> bytes:
    """Two chaining values to their parent's. The flags are PARENT (4) and, at the top, ROOT (8)."""
    return blake3_compress(BLAKE3_IV, left + right, 0, 64, 4 | root)


def blake3_compress(cv, block: bytes, counter: int, length: int, flags: int) -> bytes:
    m = [int.from_bytes(block[i:i + 4], "little") for i in range(0, 64, 4)]
    v = [*cv, *BLAKE3_IV[:4], counter & 0xFFFFFFFF, counter >> 32, length, flags]

    def g(a, b, c, d, x, y):
        for word, r1, r2 in ((x, 16, 12), (y, 8, 7)):
            v[a] = (v[a] + v[b] + word) & 0xFFFFFFFF
            v[d] = (v[d] ^ v[a]) >> r1 | ((v[d] ^ v[a]) << (32 - r1)) & 0xFFFFFFFF
            v[c] = (v[c] + v[d]) & 0xFFFFFFFF
            v[b] = (v[b] ^ v[c]) >> r2 | ((v[b] ^ v[c]) << (32 - r2)) & 0xFFFFFFFF
    for _ in range(7):
        for i in range(4):
            g(i, 4 + i, 8 + i, 12 + i, m[2 * i], m[2 * i + 1])
        for i in range(4):
            g(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, m[8 + 2 * i], m[9 + 2 * i])
        m = [m[i] for i in (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)]
    return b"".join((v[i] ^ v[i + 8]).to_bytes(4, "little") for i in range(8))


# GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1. EXP is doubled so that a sum of two logarithms needs no reduction.
EXP, LOG, _x = [0] * 510, [0] * 256, 1
for _i in range(255):
    EXP[_i] = EXP[_i + 255] = _x
    LOG[_x] = _i
    _x = _x << 1 ^ (0x11D if _x & 0x80 else 0)


def gf_mul(a: int, b: int) -> int:
    return EXP[LOG[a] + LOG[b]] if a and b else 0


def gf_dot(coefficients, columns) -> int:
    total = 0
    for c, x in zip(coefficients, columns):
        total ^= gf_mul(c, x)
    return total


def gf_invert(matrix):
    """Gauss-Jordan. The matrices of this code are always invertible."""
    k = len(matrix)
    m = [list(r) + [int(i == j) for j in range(k)] for i, r in enumerate(matrix)]
    for c in range(k):
        pivot = next(r for r in range(c, k) if m[r][c])
        m[c], m[pivot] = m[pivot], m[c]
        inverse = EXP[255 - LOG[m[c][c]]]
        m[c] = [gf_mul(inverse, x) for x in m[c]]
        for r in range(k):
            if r != c and m[r][c]:
                m[r] = [x ^ gf_mul(m[r][c], y) for x, y in zip(m[r], m[c])]
    return [r[k:] for r in m]


def code_rows(indices, k: int):
    """Rows of M = V x T^-1 [section 6], one for each index."""
    def vandermonde(r):
        return [int(c == 0) if r == 0 else EXP[LOG[r] * c % 255] for c in range(k)]
    top = list(zip(*gf_invert([vandermonde(r) for r in range(k)])))
    return [[gf_dot(vandermonde(i), column) for column in top] for i in indices]


def combine(coefficients, blocks) -> bytes:
    """The sum of coefficient x block. translate() multiplies a whole block, big integers add it."""
    total, size = 0, len(blocks[0])
    for c, block in zip(coefficients, blocks):
        if c:
            total ^= int.from_bytes(block.translate(bytes(gf_mul(c, x) for x in range(256))))
    return total.to_bytes(size)


def decode(k: int, shards: dict[int, bytes]) -> list[bytes]:
    """The k data shards, from any k shards by index."""
    chosen = sorted(shards)[:k]
    need(len(chosen) == k, "too-few-shards", f"{len(shards)} of {k}")
    if chosen == list(range(k)):
        return [shards[i] for i in chosen]
    solve = gf_invert(code_rows(chosen, k))
    return [shards[j] if j in shards else combine(solve[j], [shards[i] for i in chosen]) for j in range(k)]


def rebuild(k: int, hashes: list[bytes | None], shards: dict[int, bytes]) -> bytes:
    """The sealed stripe, from shards and the ledger's hashes. Fetched and rebuilt data shards are all checked.

    A hash is None only when there is no ledger (see from_headers).
    """
    for i, payload in shards.items():
        need(i < len(hashes) and hash_of(payload) == hashes[i], "bad-hash", f"shard {i} isn't the ledger's")
    data = decode(k, shards)
    for j in range(k):
        need(j in shards or hashes[j] in (None, hash_of(data[j])), "bad-parity", f"data shard {j}, rebuilt, isn't the ledger's")
    return b"".join(data)


# ---- Section 13: key files -----------------------------------------------------------------------------------------

class KeyFile(NamedTuple):
    kind: str
    public: bytes
    archive: bytes | None
    secret: bytes


def read_keyfile(data: bytes, passphrase) -> KeyFile:
    """`passphrase` is a function that gives the passphrase's bytes; it is called only for a sealed key."""
    need(len(data) <= 64 * KIB, "too-long", f"a key file of {len(data)} bytes")
    try:
        top = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Refused("bad-keyfile", str(error)) from None
    need(top.get("format") == "exclave key file v1", "bad-keyfile", "not an exclave key file v1")
    kind, sealed = top.get("kind"), top.get("sealed")
    need(kind in ("recovery", "root", "writer", "share", "ceremony"), "bad-keyfile", f"kind {kind!r}")
    need(top.keys() <= {"format", "kind", "public", "archive", "sealed", "secret"}, "bad-keyfile", "unknown key")
    need(("secret" in top) != ("sealed" in top), "bad-keyfile", "either a secret or a sealed secret belongs in it")
    need(kind == "writer" or sealed is not None, "bad-keyfile", f"a {kind} key that isn't sealed")
    public = unhex(top, "public", {"recovery": 1216, "ceremony": 1216, "share": 48}.get(kind, 1984))
    archive = unhex(top, "archive", 32) if "archive" in top else None
    size = 64 if kind in ("root", "writer") else 32
    if kind == "share":
        try:
            check_header(public)
        except Refused as why:
            raise Refused("bad-keyfile", why.message) from None
    if sealed is None:
        secret = unhex(top, "secret", size)
    else:
        secret = unseal_secret(sealed, kind, size, passphrase)
    need(public_of(kind, secret, public) == public, "wrong-key", "the public key doesn't belong to the secret")
    return KeyFile(kind, public, archive, secret)


def unhex(fields: dict, name: str, size: int) -> bytes:
    value = fields.get(name)
    good = type(value) is str and re.fullmatch(r"[0-9a-f]*", value) and len(value) == 2 * size
    need(good, "bad-keyfile", f"{name} must be {size} bytes in lowercase hex")
    return bytes.fromhex(value)


def unseal_secret(sealed, kind: str, size: int, passphrase) -> bytes:
    names = {"kdf", "memory_kib", "passes", "lanes", "salt", "ciphertext"}
    need(type(sealed) is dict and sealed.keys() == names and sealed["kdf"] == "argon2id", "bad-keyfile", "the sealed part")
    memory, passes, lanes = (sealed[name] for name in ("memory_kib", "passes", "lanes"))
    need(all(type(x) is int and 1 <= x < 2**63 for x in (memory, passes, lanes)), "bad-keyfile", "costs must be whole numbers")
    need(memory <= 1 << 20 and passes <= 16 and lanes <= 16, "too-costly", f"{memory} KiB, {passes} passes, {lanes} lanes")
    need(memory >= 8 * lanes, "bad-keyfile", "Argon2 needs 8 KiB a lane")
    salt, ciphertext = unhex(sealed, "salt", 16), unhex(sealed, "ciphertext", size + TAG)
    key = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory).derive(passphrase())
    try:
        return AESGCM(key).decrypt(bytes(12), ciphertext, b"exclave key file v1\0" + kind.encode())
    except InvalidTag:
        raise Refused("bad-passphrase", "the passphrase doesn't open this key file") from None


def public_of(kind: str, secret: bytes, public: bytes) -> bytes:
    if kind in ("recovery", "ceremony"):
        return XWing(secret).public
    if kind == "share":
        return public[:16] + share_commitment(public[:16] + secret)
    ed = ed25519.Ed25519PrivateKey.from_private_bytes(secret[:32]).public_key().public_bytes_raw()
    return ed + mldsa.MLDSA65PrivateKey.from_seed_bytes(secret[32:]).public_key().public_bytes_raw()


# ---- Section 17: shares ----------------------------------------------------------------------------------------------

SHARE_SET = table({0: U64, 1: bstr(8), 2: U32, 3: ID32, 4: U8, 5: array(row(text, U8, ID32, array(row(text, uint(4), ID32))))})
SHARE, SHARE_SET_CAP, PLACES = 48, 64 * KIB, 16
WORDS_IN_A_LINE, GROUPS_IN_A_LINE, LINES_OF_WORDS, LINES_OF_DIGITS = 6, 5, 7, 6


def read_share_set(data: bytes) -> dict:
    need(len(data) <= SHARE_SET_CAP, "too-long", f"a share set of {len(data)} bytes")
    value = record(data, SHARE_SET)
    check_share_set(value)
    return value


def check_share_set(value: dict):
    groups = value[5]
    for many in (groups, *(custodians for _, _, _, custodians in groups)):
        need(len(many) <= PLACES, "too-long", f"{len(many)} groups or custodians")
    least = 1 if len(groups) == 1 else 2
    need(least <= value[4] <= len(groups), "bad-threshold", f"{value[4]} of {len(groups)} groups")
    for name, threshold, _, custodians in groups:
        need(2 <= threshold <= len(custodians), "bad-threshold", f"{threshold} of {len(custodians)} {name}")
    names = [group[0] for group in groups]
    people = [custodian for group in groups for custodian in group[3]]
    for name in names + [custodian[0] for custodian in people]:
        control = any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name)
        need(1 <= len(name.encode()) <= 80 and not control, "bad-record", f"the name {name!r}")
    need(len(set(names)) == len(names), "bad-record", "two groups have one name")
    need(len({custodian[0] for custodian in people}) == len(people), "bad-record", "two custodians have one name")
    for name, body, _ in people:
        need(body < 3, "bad-custodian", f"{name} is a hyperscale or non-allied body")


def check_header(share: bytes):
    """The first 16 bytes of a share."""
    need(share[0] == 1, "bad-version", f"version {share[0]} of a share")
    (needed, groups), (group, x), (threshold, custodians) = ((byte >> 4, byte & 15) for byte in share[13:16])
    # All but the group's position are written less one.
    good = needed <= groups and (groups == 0 or needed > 0) and group <= groups and 1 <= threshold <= custodians and x <= custodians
    need(good, "bad-threshold", "thresholds or a place that fit no share set")


def share_commitment(share: bytes) -> bytes:
    return kdf("exclave 2026 share commitment v1", share)


def place_of(share: bytes) -> tuple[int, int]:
    """Position of the group, from 0, and x, from 1."""
    return share[14] >> 4, (share[14] & 15) + 1


def words_check(line: int, values) -> int:
    """Digits of a polynomial in GF(2^11) modulo x^11 + x^2 + 1, at x: the line's number, the words, zero."""
    total = line
    for value in (*values, 0):
        total = (total << 1 & 0x7FF) ^ (0x005 if total >> 10 else 0) ^ value
    return total


def digits_check(line: int, values) -> int:
    """The same with numbers in base 3 modulo the prime 65,537."""
    total = line
    for value in (*values, 0):
        total = (total * 3 + value) % 65537
    return total


def read_share_text(source: str) -> bytes:
    """Words or digits; how lines are broken means nothing."""
    source = source.strip()
    need(source, "bad-length", "an empty share")
    if source[0] in "0123456789":
        source = "".join(source.split())
        parts = [source[at:at + 5] for at in range(0, len(source), 5)]
        width, lines, bits, check = GROUPS_IN_A_LINE, LINES_OF_DIGITS, 16, digits_check
    else:
        parts = source.split()
        width, lines, bits, check = WORDS_IN_A_LINE, LINES_OF_WORDS, 11, words_check
    number = 0
    for line in range(1, max(lines, -(-len(parts) // width)) + 1):
        ours = parts[(line - 1) * width:line * width]
        need(line <= lines, "bad-length", "the share is complete, and more follows")
        need(ours, "bad-length", f"the share ends after {line - 1} lines")
        need(len(ours) == width, "bad-length", f"line {line}: it has {len(ours)} words or groups instead of {width}")
        values = [read_part(part, line, at + 1, width, bits) for at, part in enumerate(ours)]
        need(check(line, values[:-1]) == values[-1], "bad-check", f"line {line}: a word or group is wrong, or two changed places")
        for value in values[:-1]:
            number = number << bits | value
    surplus = lines * (width - 1) * bits - SHARE * 8
    need(number & ((1 << surplus) - 1) == 0, "bad-padding", "the last line doesn't end as a share does")
    share = (number >> surplus).to_bytes(SHARE)
    check_header(share)
    return share


def read_part(part: str, line: int, at: int, width: int, bits: int) -> int:
    if bits == 16:
        good = re.fullmatch("[0-9]{5}", part) and int(part) <= (65536 if at == width else 65535)
        need(good, "bad-word", f"line {line}, group {at}: a group is five digits, at most 65535")
        return int(part)
    for value, word in enumerate(word_list()):
        if part.lower() in (word, word[:4] if len(part) == 4 else word):
            return value
    raise Refused("bad-word", f"line {line}, word {at}: not a word of the list")


def open_wrapped_share(data: bytes, ceremony: XWing) -> bytes:
    """A share that came by wire."""
    try:
        top = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Refused("bad-keyfile", str(error)) from None
    known = len(data) <= 64 * KIB and top.keys() == {"format", "to", "enc", "ciphertext"} and top["format"] == "exclave wrapped share v1"
    need(known, "bad-keyfile", "not an exclave wrapped share v1")
    to, enc, ciphertext = unhex(top, "to", 32), unhex(top, "enc", 1120), unhex(top, "ciphertext", SHARE + TAG)
    need(to == ceremony.id, "not-a-recipient", f"wrapped for key {to.hex()}")
    info = b"".join(len(field).to_bytes(2) + field for field in (b"exclave share v1", to))
    share = ceremony.unseal(enc, ciphertext, info)
    check_header(share)
    return share


def word_list() -> list[str]:
    words = WORDS.split()
    digest = hashlib.sha256("".join(word + "\n" for word in words).encode()).hexdigest()
    if digest != "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda":
        raise Failed("the word list in this file was changed")
    return words


def check_shares(share_set: dict, shares: list[bytes]) -> tuple[list[bytes], list[Refused]]:
    """The good shares, and what is wrong with the others: each is looked at alone, and none is tried out."""
    good, findings = [], []
    for share in shares:
        try:
            check_share(share_set, share, good)
            good.append(share)
        except Refused as why:
            findings.append(why)
    return good, findings


def check_share(share_set: dict, share: bytes, before: list[bytes]):
    (group, x), groups, epoch = place_of(share), share_set[5], int.from_bytes(share[9:13])
    need(share[1:9] == share_set[1], "foreign-share", f"share {x} of group {group + 1} of another set, {share[1:9].hex()}")
    there = group < len(groups) and x <= len(groups[group][3])
    whose = f"the share of {groups[group][3][x - 1][0]}" if there else f"share {x} of group {group + 1}"
    need(epoch >= share_set[2], "old-share", f"{whose}: of epoch {epoch}, the key was split anew in epoch {share_set[2]}")
    need(epoch <= share_set[2], "new-share", f"{whose}: of epoch {epoch}, the set is only of epoch {share_set[2]}")
    need(there and share[:16] == header_of(share_set, group, x), "wrong-share", f"{whose}: other thresholds, or no such place")
    fits = hmac.compare_digest(share_commitment(share), groups[group][3][x - 1][2])
    need(fits, "altered-share", f"{whose}: not the share that was given out")
    need(share[14] not in [other[14] for other in before], "repeated-share", f"{whose}: given before")


def header_of(share_set: dict, group: int, x: int) -> bytes:
    _, threshold, _, custodians = share_set[5][group]
    return (b"\1" + share_set[1] + share_set[2].to_bytes(4)
            + bytes([share_set[4] - 1 << 4 | len(share_set[5]) - 1, group << 4 | x - 1, threshold - 1 << 4 | len(custodians) - 1]))


def aes_field_mul(a: int, b: int) -> int:
    """GF(2^8) modulo 0x11B, the field of AES; the erasure code has another."""
    product = 0
    for bit in range(8):
        product ^= (b >> bit & 1) * a
        a = a << 1 ^ (0x11B if a >> 7 else 0)
    return product


def interpolate(points: list[tuple[int, bytes]]) -> bytes:
    """The value at 0 of the polynomial through the points, byte by byte."""
    secret = bytes(32)
    for i, (x, value) in enumerate(points):
        weight = 1
        for j, (other, _) in enumerate(points):
            if i != j:
                inverse = next(b for b in range(256) if aes_field_mul(b, other ^ x) == 1)
                weight = aes_field_mul(weight, aes_field_mul(other, inverse))
        secret = bytes(a ^ aes_field_mul(weight, b) for a, b in zip(secret, value))
    return secret


def combine_shares(share_set: dict, good: list[bytes]) -> bytes:
    """The recovery key's seed, from shares that were checked."""
    secrets, lacks = [], []
    for at, (name, threshold, commitment, _) in enumerate(share_set[5]):
        ours = sorted((place_of(share)[1], share) for share in good if place_of(share)[0] == at)
        lacks.append(f"{name}: {len(ours)} of the {threshold} needed")
        if len(ours) >= threshold and len(secrets) < share_set[4]:
            secret = interpolate([(x, share[16:]) for x, share in ours[:threshold]])
            found = kdf("exclave 2026 group commitment v1", ours[0][1][:14] + bytes([at]) + secret)
            secrets.append((at + 1, secret, hmac.compare_digest(found, commitment), name))
    need(len(secrets) == share_set[4], "too-few-shares", f"{share_set[4]} of {len(lacks)} groups are needed; " + "; ".join(lacks))
    for _, _, fits, name in secrets:
        need(fits, "bad-commitment", f"the shares of {name} don't give what the set commits to")
    seed = secrets[0][1] if len(share_set[5]) == 1 else interpolate([(x, secret) for x, secret, _, _ in secrets])
    found = XWing(seed).id
    need(found == share_set[3], "wrong-key", f"the shares give recipient {found.hex()}, not {share_set[3].hex()}")
    return seed


# ---- Section 14, step 1: the charter [section 8] ---------------------------------------------------------------------

ADMINISTRATOR, RESTORER, COMPROMISED = 0, 1, 1


class Charter(NamedTuple):
    """One version."""
    hash: bytes                                   # of its record; version 1's is the anchor
    writers: dict[bytes, bytes]                   # key id: public key
    recipients: dict[tuple[int, int], list[bytes]]  # (set id, crypto epoch): recipient ids, ascending
    value: dict

    @property
    def roots(self) -> dict[bytes, bytes]:
        return {hash_of(key): key for key in self.value[4][1]}

    @property
    def restorers(self) -> dict[bytes, bytes]:
        return {hash_of(key): key for role, key, _ in self.value.get(10, []) if role == RESTORER}

    @property
    def everyone(self) -> dict[bytes, bytes]:
        """Every signing key of this version, whatever its role."""
        authorities = [key for _, _, keys in self.value.get(11, []) for key in keys]
        keys = self.value[4][1] + [w[0] for w in self.value[5]] + [m[1] for m in self.value.get(10, [])] + authorities
        return {hash_of(key): key for key in keys}

    @property
    def administrators(self) -> dict[bytes, tuple[bytes, list[int]]]:
        """Key id: public key, classes."""
        return {hash_of(key): (key, classes) for role, key, classes in self.value.get(10, []) if role == ADMINISTRATOR}

    @property
    def classes(self) -> dict[int, list]:
        return {line[0]: line for line in self.value[8]}

    @property
    def revoked(self) -> dict[bytes, tuple[int, list]]:
        """Key id: reason, pins."""
        return {key: (reason, pins) for key, reason, pins in self.value.get(12, [])}


def charter_of(body: bytes) -> Charter:
    """What a charter must be, looked at alone."""
    value = record(body, CHARTER)
    need(value[1] >= 1, "bad-version", "charter versions begin with 1")
    need(value[1] > 1 or 2 not in value, "bad-record", "charter version 1 has no predecessor")
    need(value[1] == 1 or 2 in value, "bad-version", f"charter version {value[1]} doesn't name the version before it")
    authorities, members = value.get(11, []), value.get(10, [])
    for threshold, keys, what in (*((*value[4], "roots"),), *((t, keys, "an authority") for _, t, keys in authorities)):
        need(1 <= threshold <= len(keys), "bad-record", f"a threshold of {threshold} among {len(keys)} keys of {what}")
    for _, code, k, parity, losses, liars, payload, _, _ in value[8]:
        need(code == 1, "bad-suite", f"code {code}")
        check_geometry(k, payload)
        need(k + parity <= 32 and k + losses + liars <= k + parity and liars < k, "bad-geometry", f"class with {k}+{parity}")
    for names, what in (([s[0] for s in value[6]], "sets"), ([s[0] for s in value[7]], "sites"), ([s[1] for s in value[7]], "sites' names"),
                        ([c[0] for c in value[8]], "classes"), ([a[0] for a in authorities], "authorities"),
                        *((s[2], "recipients of one set") for s in value[6])):
        need(len(set(names)) == len(names), "bad-record", f"two {what} of one id")
    for site in value[7]:
        need(re.fullmatch(r"[a-z0-9-]{1,40}", site[1]), "bad-record", "a site's name")
    need({c[8] for c in value[8]} <= {s[0] for s in value[6]}, "bad-record", "a class without its recipient set")
    need(all(len(s[2]) <= 32 for s in value[6]), "too-long", "more than 32 recipients in a set")
    keys = value[4][1] + [w[0] for w in value[5]] + [m[1] for m in members] + [key for a in authorities for key in a[2]]
    need(len(set(keys)) == len(keys), "bad-record", "a key has two roles, or one twice")
    for role, _, classes in members:
        need((role == ADMINISTRATOR) == bool(classes), "bad-record", f"a member of role {role} with {len(classes)} classes")
        need(len(set(classes)) == len(classes), "bad-record", "a class stands twice with a member")
    revocations = value.get(12, [])
    ascending((r[0] for r in revocations), "revoked keys")
    for _, _, pins in revocations:
        ascending((pin[0] for pin in pins), "incarnations of pins")
    witnesses = check_witnesses(value[14], keys) if 14 in value else set()
    need(not ({hash_of(key) for key in keys} | witnesses) & {r[0] for r in revocations}, "bad-record", "a revoked key still has a role")
    sets = {(s[0], s[1]): sorted(hash_of(key) for key in s[2]) for s in value[6]}
    share_sets = value.get(13, [])
    for share_set in share_sets:
        need(share_set[0] == 1, "bad-record", f"version {share_set[0]} of a share set")
        check_share_set(share_set)
        need(any(share_set[3] in ids for ids in sets.values()), "bad-record", "a share set of a key that is no recipient's")
    for field, what in ((1, "a share set"), (3, "the split of a recovery key")):
        need(len({share_set[field] for share_set in share_sets}) == len(share_sets), "bad-record", f"{what} stands twice")
    ascending((rules[0] for rules in value.get(15, [])), "classes with retention")
    for rules in value.get(15, []):
        cls, last, verified, age = rules[:4]
        need(last >= 3 and verified >= 1 and age >= 7 and max(rules[1:]) <= 1_000_000, "bad-retention", f"retention of class {cls}")
        need(cls in {c[0] for c in value[8]}, "bad-record", f"retention of class {cls}, which isn't there")
    ascending(value.get(16, []), "classes that demand registration")
    ascending(value.get(18, []), "versions of the format")
    need({c[0] for c in value[8]} >= set(value.get(16, [])), "bad-record", "a class that isn't there demands registration")
    need(0 not in value.get(18, []), "bad-record", "version 0 of the format")
    trusted = [key for group in value.get(17, []) for key in group]
    need(len(set(trusted)) == len(trusted), "bad-record", "a key stands twice in the trust groups")
    return Charter(hash_of(body), {hash_of(w[0]): w[0] for w in value[5]}, sets, value)


def check_witnesses(policy: dict, keys: list[bytes]) -> set[bytes]:
    """Field 14 [sections 8, 22]. The witnesses' key ids."""
    quorum, nations, home, home_counts, age, witnesses = (policy[field] for field in range(6))
    need(len(witnesses) <= 32, "too-long", "more than 32 witnesses")
    for nation in (home, *(w[1] for w in witnesses)):
        need(re.fullmatch("[A-Z]{2}", nation), "bad-record", "a nation that isn't two capital letters")
    for witness in witnesses:
        need(re.fullmatch("[!-*,-~]{1,255}", witness[0]), "bad-record", "a witness's name")
    need(3600 <= age <= 31_622_400, "bad-record", f"a greatest age of {age} s")
    classical, lattice = [w[2] for w in witnesses] + [key[:32] for key in keys], [w[3] for w in witnesses if 3 in w]
    for what, values in ("name of a witness", [w[0] for w in witnesses]), ("Ed25519 key", classical), ("ML-DSA-44 key", lattice):
        need(len(set(values)) == len(values), "bad-record", f"an {what} stands twice")
    counting = [w[1] for w in witnesses if 3 in w and (home_counts or w[1] != home)]
    need(1 <= nations <= quorum <= len(counting) and nations <= len(set(counting)), "bad-threshold",
         f"{quorum} witnesses in {nations} nations of {counting}")
    return {hash_of(w[2] + w.get(3, b"")) for w in witnesses}


def read_charter(data: bytes, anchor: bytes | None) -> Charter:
    """Version 1: its hash is the anchor, and its own roots signed it."""
    body, signatures = split_signed(data, RECORD_CAP)
    need(anchor is None or hash_of(body) == anchor, "wrong-archive", "not the charter that the anchor names")
    charter = charter_of(body)
    need(charter.value[1] == 1, "bad-version", f"charter version {charter.value[1]}")
    verify_signatures("exclave charter v1", body, signatures, charter.roots)
    enough_roots(charter, [s[0] for s in signatures])
    return charter


def enough_roots(charter: Charter, signers: list[bytes]):
    signed, threshold = len(charter.roots.keys() & set(signers)), charter.value[4][0]
    need(signed >= threshold, "missing-signature", f"{signed} of {threshold} signatures by roots of version {charter.value[1]}")


class Charters:
    """The versions that were found, from 1 on. History ends before a fork."""

    def __init__(self, first: Charter):
        self.versions = [first]
        self.fork: list[bytes] = []                       # hashes of the records that dispute the next place
        self.refused: list[tuple[str, Refused]] = []      # what was found and follows nothing

    @property
    def newest(self) -> Charter:
        return self.versions[-1]

    @property
    def by_number(self) -> dict[int, Charter]:
        return {charter.value[1]: charter for charter in self.versions}


def proposed_charter(data: bytes, history: Charters) -> tuple[Charter, list[bytes]]:
    """What may follow the newest version, and which roots of the two have signed it so far."""
    body, signatures = split_signed(data, RECORD_CAP)
    charter = charter_of(body)
    check_succession(charter, history)
    verify_signatures("exclave charter v1", body, signatures, history.newest.roots | charter.roots)
    return charter, [s[0] for s in signatures]


def read_next_charter(data: bytes, history: Charters) -> Charter:
    charter, signers = proposed_charter(data, history)
    enough_roots(history.newest, signers)
    enough_roots(charter, signers)
    return charter


def check_succession(new: Charter, history: Charters):
    """The law of succession: what the next version may change."""
    old, number = history.newest, history.newest.value[1]
    need(new.value[1] == number + 1, "bad-version", f"charter version {new.value[1]} doesn't follow version {number}")
    need(new.value[2] == old.hash, "broken-chain", f"it follows another version {number} than {old.hash.hex()}")

    def law(condition, message: str):
        need(condition, "bad-succession", message)
    for before, after, role in ((old.roots, new.roots, "root"), (old.writers, new.writers, "writer")):
        for key in before.keys() - after.keys():
            law(key in new.revoked, f"{role} {key.hex()} is gone, and not revoked")
    for key in old.revoked:
        law(key in new.revoked, f"the revocation of {key.hex()} was taken back")
    classes = {c[0]: c for c in new.value[8]}
    for c in old.value[8]:
        law(c[0] in classes, f"class {c[0]} is gone")
        kept = [(x[1], x[2], x[3], x[6], x[8]) for x in (c, classes[c[0]])]
        law(kept[0] == kept[1], f"class {c[0]} has another code, payload length or recipient set")
    epochs, sets = {s[0]: s[1] for s in old.value[6]}, {s[0]: s for s in new.value[6]}
    for name, epoch, keys in old.value[6]:
        law(name in sets, f"recipient set {name} is gone")
        law(sets[name][1] >= epoch, f"the crypto epoch of recipient set {name} fell")
        law(sets[name][1] > epoch or set(keys) <= set(sets[name][2]), f"a recipient left set {name} within its crypto epoch")
    stolen = {key for key, (reason, _) in new.revoked.items() if reason == COMPROMISED}
    for key in stolen - {key for key, (reason, _) in old.revoked.items() if reason == COMPROMISED}:
        for name in {c[8] for c in old.value[8] if c[0] in last_classes(key, history)}:
            law(sets[name][1] > epochs[name], f"writer {key.hex()} was compromised, and the crypto epoch of set {name} stays")


def last_classes(key: bytes, history: Charters) -> list[int]:
    """The classes of a writer, in the last version that had it as one."""
    for charter in reversed(history.versions):
        if key in charter.writers:
            return next(classes for public, classes in charter.value[5] if hash_of(public) == key)
    return []


def read_history(objects: list[tuple[str, bytes]], anchor: bytes) -> Charters:
    """Whatever (name, object) pairs show together: from the anchor on, as far as nobody disputes it."""
    first, why = None, Refused("not-found", "no charter at any site")
    for _, data in objects:
        try:
            first = read_charter(data, anchor)
            break
        except Refused as error:
            if error.kind != "wrong-archive" or why.kind == "not-found":
                why = error
    if first is None:
        raise why
    history = Charters(first)
    while True:
        found = {}
        for _, data in objects:
            try:
                charter = read_next_charter(data, history)
                found[charter.hash] = charter
            except Refused:
                pass
        if len(found) != 1:
            history.fork = sorted(found)
            break
        history.versions += found.values()
    known = {charter.hash for charter in history.versions} | set(history.fork)
    for name, data in objects:
        try:
            if hash_of(split_signed(data, RECORD_CAP)[0]) not in known:
                read_next_charter(data, history)
        except Refused as error:
            history.refused.append((name, error))
    return history


def read_charter_file(data: bytes) -> tuple[list[bytes], list[bytes]]:
    """Charters and plates as people carry them; nothing in it is verified yet."""
    need(len(data) <= CHARTER_FILE_CAP, "too-long", f"a charter file of {len(data)} bytes")
    value = cbor(data)
    need(type(value) is list and len(value) == 3 and type(value[0]) is int, "bad-record", "not a charter file")
    need(value[0] == 1, "bad-version", f"version {value[0]} of a charter file")
    row(U64, array(bstr()), array(bstr(), 0))(value)
    return value[1], value[2]


# ---- Step 2: heads -------------------------------------------------------------------------------------------------

class Head(NamedTuple):
    hash: bytes
    dataset: bytes
    chain: tuple[bytes, bytes]                    # writer, incarnation
    seq: int
    parents: list[bytes]
    value: dict


class HiddenCharter(Refused):
    """A head that obeys a charter version that isn't there. Who signed it was a writer once, and maybe is no more."""

    def __init__(self, version: int, signer: bytes):
        super().__init__("wrong-charter", f"it obeys charter version {version}, which no site shows")
        self.version, self.signer = version, signer


def all_writers(charters: dict[int, Charter]) -> dict[bytes, bytes]:
    """Whoever was a writer in some version."""
    return {key: public for charter in charters.values() for key, public in charter.writers.items()}


def all_restorers(charters: dict[int, Charter]) -> dict[bytes, bytes]:
    return {key: public for charter in charters.values() for key, public in charter.restorers.items()}


def read_head(data: bytes, anchor: bytes, charters: dict[int, Charter]) -> Head:
    body, signer = open_signed(data, HEAD_CAP, "exclave head v1", all_writers(charters))
    value = record(body, HEAD)
    need(value[1] == anchor, "wrong-archive", "a head of another archive")
    need(value[3] == signer, "unknown-signer", "signed by another writer than the one it names")
    need((6 in value) == (value[5] > 0), "bad-record", "a previous head is named by every head but the first")
    need(len(value[7]) <= 64 and len(value[13]) <= 16, "too-long", f"{len(value[7])} tips, {len(value[13])} run table pages")
    ascending(value[7], "tips")
    ascending(value.get(15, []), "tripwires")
    if value[8] not in charters:
        raise HiddenCharter(value[8], signer)
    need(signer in charters[value[8]].writers, "unknown-signer", f"{signer.hex()} was no writer in charter version {value[8]}")
    need(value[14] and len(value[14]) % 1024 == 0, "bad-length", f"a sealed part of {len(value[14])} bytes")
    parents = value[7] + ([value[6]] if 6 in value else [])
    return Head(hash_of(body), value[2], (value[3], value[4]), value[5], parents, value)


def pinned(writer: bytes, pins: list, heads: dict[bytes, Head]) -> tuple[set[bytes], list]:
    """Heads of a revoked writer that count, and pins that hold nothing since their head isn't there."""
    counted, missing = set(), []
    for incarnation, seq, digest in pins:
        head = heads.get(digest)
        if head is None or (head.chain, head.seq) != ((writer, incarnation), seq):
            missing.append((incarnation, seq, digest))
            continue
        while head is not None and head.hash not in counted:
            counted.add(head.hash)
            before = heads.get(head.value.get(6))
            head = before if before and before.chain == head.chain and before.seq < head.seq else None
    return counted, missing


def void_revoked(newest: Charter, heads: dict[bytes, Head]) -> tuple[dict[bytes, Head], dict[bytes, list[Head]], list]:
    """The heads that count; by revoked writer, those that are void; (writer, pin) for pins without their head."""
    counting, void, missing = dict(heads), {}, []
    for writer, (_, pins) in newest.revoked.items():
        kept, lost = pinned(writer, pins, heads)
        missing += [(writer, pin) for pin in lost]
        for head in heads.values():
            if head.chain[0] == writer and head.hash not in kept:
                void.setdefault(writer, []).append(counting.pop(head.hash))
    return counting, void, missing


def find_forks(heads: dict[bytes, Head]) -> list[tuple[Head, Head]]:
    seen, forks = {}, []
    for head in heads.values():
        other = seen.setdefault((head.chain, head.seq), head)
        if other is not head:
            forks.append((other, head))
    return forks


def links(heads: dict[bytes, Head]) -> dict[bytes, list[bytes]]:
    """What each head names; and where its predecessor isn't there or is no head of the place before, what stands in for it:
    the next lower place of its chain, unless two heads dispute that."""
    chains: dict[tuple, dict[int, list[bytes]]] = {}
    for head in heads.values():
        chains.setdefault(head.chain, {}).setdefault(head.seq, []).append(head.hash)
    found = {}
    for head in heads.values():
        found[head.hash] = list(head.parents)
        before = heads.get(head.value.get(6))
        if head.seq and (before is None or (before.chain, before.seq) != (head.chain, head.seq - 1)):
            lower = max((seq for seq in chains[head.chain] if seq < head.seq), default=None)
            if lower is not None and len(chains[head.chain][lower]) == 1:
                found[head.hash] += chains[head.chain][lower]
    return found


def followed_by(parents: dict[bytes, list[bytes]], one: bytes) -> set[bytes]:
    """A head and all its ancestors."""
    followed, todo = set(), [one]
    while todo:
        one = todo.pop()
        if one not in followed:
            followed.add(one)
            todo.extend(parents.get(one, []))
    return followed


def other_sides(heads: dict[bytes, Head], forks: list[tuple[Head, Head]], head: Head) -> list[Head]:
    """Heads of the same dataset that take another side of a fork than this one does."""
    parents = links(heads)
    mine = followed_by(parents, head.hash)
    others = {side.hash for fork in forks if any(side.hash in mine for side in fork) for side in fork} - mine
    return [h for h in heads.values()
            if others and h.dataset == head.dataset and h.hash not in mine and followed_by(parents, h.hash) & others]


def newest(heads: dict[bytes, Head], dataset: bytes) -> list[Head]:
    """Heads of the dataset that aren't an ancestor of another head of it. Links may lead through other datasets' heads.

    Of one chain's heads of the dataset only the highest seq is newest, whatever its links say.
    """
    mine, parents = [h for h in heads.values() if h.dataset == dataset], links(heads)
    older, todo = set(), [p for h in mine for p in parents[h.hash]]
    while todo:
        one = todo.pop()
        if one not in older:
            older.add(one)
            todo.extend(parents.get(one, []))
    top = {}
    for h in mine:
        top[h.chain] = max(h.seq, top.get(h.chain, 0))
    return [h for h in mine if h.hash not in older and h.seq == top[h.chain]]


# ---- Step 3: run table, envelope, the head's sealed part -------------------------------------------------------------

class LiveSet:
    """[first, count, gap, count ...]: `first` ordinals are out, then `count` are in, and so on."""

    def __init__(self, numbers: list[int]):
        need(len(numbers) % 2 == 0 and all(numbers[1:]) and sum(numbers) <= 2**32, "bad-live-set", "malformed")
        self.spans, at = [], 0
        for gap, count in zip(numbers[::2], numbers[1::2]):
            self.spans.append(range(at + gap, at + gap + count))
            at += gap + count

    def __contains__(self, ordinal: int) -> bool:
        return any(ordinal in span for span in self.spans)


class RunEntry(NamedTuple):
    commitment: bytes
    live: LiveSet
    parts: list[bytes]


def read_runs(pages: list[bytes], anchor: bytes) -> dict[bytes, RunEntry]:
    runs = []
    for page in pages:
        need(len(page) <= RECORD_CAP, "too-long", "a run table page")
        value = record(page, RUNS_PAGE)
        need(value[1] == anchor, "wrong-archive", "a run table of another archive")
        need(all(parts or not live for _, _, live, parts in value[2]), "bad-record", "a run with stripes and no ledger part")
        need(len(value[2]) <= 256, "too-long", f"{len(value[2])} runs in a page")
        runs += value[2]
    need(len(runs) <= 4096, "too-long", f"{len(runs)} runs")
    ascending((r[0] for r in runs), "runs of the table")
    return {run: RunEntry(commitment, LiveSet(live), parts) for run, commitment, live, parts in runs}


class Envelope(NamedTuple):
    run_key: bytes
    label: str
    value: dict
    signer: bytes                                 # key id


def wrapping_info(kind: bytes, anchor: bytes, run: bytes, recipient: bytes, commitment: bytes) -> bytes:
    return b"".join(len(x).to_bytes(2) + x for x in (kind, anchor, run, recipient, commitment))


def read_grant(data: bytes, anchor: bytes, charters: dict[int, Charter]) -> dict:
    """Run keys that a restorer gave to one recipient [section 18]."""
    body, signer = open_signed(data, RECORD_CAP, "exclave grant v1", all_restorers(charters))
    value = record(body, GRANT)
    need(value[1] == anchor, "wrong-archive", "a grant of another archive")
    need(len(value[4]) <= 256 and len(value[5]) <= 4096, "too-long", f"a grant of {len(value[4])} heads and {len(value[5])} runs")
    ascending(value[4], "heads of a grant")
    ascending((given[0] for given in value[5]), "runs of a grant")
    need(value[2] in charters, "wrong-charter", f"it obeys charter version {value[2]}, which no site shows")
    need(signer in charters[value[2]].restorers, "unknown-signer", f"{signer.hex()} was no restorer in charter version {value[2]}")
    return value


# ---- Section 19: the kit ---------------------------------------------------------------------------------------------

def kit_file_name(name: str) -> bool:
    return bool(re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,39}", name, re.A)) and name != "manifest" and not name.startswith("manifest.")


def check_kit(value: dict):
    """What a manifest must be, looked at alone."""
    need(value[2] and value[3], "bad-record", "versions of kits and charters begin with 1")
    program = value[6].encode()
    need(1 <= len(program) <= 80 and not any(unicodedata.category(c) == "Cc" for c in value[6]), "bad-record", "the program's version")
    need(len(value[7]) <= 256 and len(value[8]) <= 64, "too-long", f"a kit of {len(value[7])} sites and {len(value[8])} files")
    need(all(re.fullmatch(r"[a-z0-9-]{1,40}", name, re.A) for name, _ in value[7]), "bad-record", "a site's name")
    for name, _, length, digest, pieces in value[8]:
        need(kit_file_name(name), "bad-path", f"{name!r} is no name of a kit's file")
        count = -(-length // PIECE)
        need(count <= 32, "too-long", f"{name} has {length} bytes")
        need(0 < count == len(pieces), "bad-length", f"{name} has {length} bytes and {len(pieces)} pieces")
        need(count > 1 or pieces == [digest], "bad-hash", f"the only piece of {name} has another hash than the whole")
    ascending((name.encode() for name, _ in value[7]), "sites of a kit")
    ascending((line[0].encode() for line in value[8]), "files of a kit")


def SCOPE(value):
    """What a hold covers: a head, a dataset, or everything."""
    shapes = {0: row(uint(0), ID32), 1: row(uint(1), ID16), 2: row(uint(2))}
    need(type(value) is list and value and value[0] in shapes, "bad-record", "a hold of nothing known")
    shapes[value[0]](value)


REAPER, COLLECTION = 5, 0


def keys_of(charter: Charter, what: str) -> dict[bytes, bytes]:
    """Who may sign a mark, release one, or place a hold."""
    reapers = {hash_of(key): key for role, key, _ in charter.value.get(10, []) if role == REAPER}
    administrators = {hash_of(key): key for role, key, _ in charter.value.get(10, []) if role == ADMINISTRATOR}
    authorities = {hash_of(key): key for purpose, _, keys in charter.value.get(11, []) if purpose == COLLECTION for key in keys}
    return {"mark": reapers, "sweep": authorities, "hold": charter.roots | authorities | administrators}[what]


def read_collection(what: str, data: bytes, anchor: bytes, charters: "Charters") -> tuple[dict, bytes]:
    """A mark, a sweep or a hold [section 23], and the hash of its record."""
    body, signatures = split_signed(data, RECORD_CAP)
    signers = [s[0] for s in signatures]
    if what == "mark":
        need(len(signers) == 1, "bad-record", f"{len(signers)} signatures where one belongs")
    verify_signatures(f"exclave {what} v1", body, signatures,
                      {key: public for charter in charters.versions for key, public in keys_of(charter, what).items()})
    need(signers, "missing-signature", "nobody signed")
    need(what != "hold" or len(body) <= 4096, "too-long", f"{len(body)} bytes of a hold")
    value = record(body, {"mark": MARK, "sweep": SWEEP, "hold": HOLD}[what])
    need(value[2], "wrong-charter", "charter versions begin with 1")
    if what == "hold":
        good = 1 <= len(value[5].encode()) <= 400 and not any(unicodedata.category(c) == "Cc" for c in value[5])
        need(good, "bad-record", "the reason of a hold")
    else:
        stripes, dropped = (value[4], value[5]) if what == "mark" else (value[6], value[7])
        for _, live in stripes:
            LiveSet(live)
        need(len(stripes) <= 4096, "too-long", f"{len(stripes)} runs")
        ascending((run for run, _ in stripes), "runs")
        need(all(live for _, live in stripes), "bad-record", "a run without stripes")
        ascending(dropped, "dropped heads")
    if what == "mark":
        need(len(value[6]) <= 300_000, "too-long", f"{len(value[6])} receipts")
        ascending((seen for seen, _ in value[6]), "receipts")
    if what == "sweep":
        need(value[5] - value[4] >= 259_200, "bad-record", "a sweep before the end of its cool-off")
    need(value[1] == anchor, "wrong-archive", f"a {what} of another archive")
    charter = charters.by_number.get(value[2])
    need(charter, "wrong-charter", f"it obeys charter version {value[2]}, which no site shows")
    stolen = {key for key, (reason, _) in charters.newest.revoked.items() if reason == COMPROMISED}
    allowed, threshold = keys_of(charter, what), 0
    if what == "sweep":
        threshold = next((t for purpose, t, _ in charter.value.get(11, []) if purpose == COLLECTION), 1)
    if what == "hold" and 6 in value:
        allowed, threshold = charter.roots, charter.value[4][0]
    elif what == "hold":
        need(len(signers) == 1, "bad-record", f"{len(signers)} signatures where one belongs")
    need(all(key in allowed for key in signers), "unknown-signer", f"signed by someone without the role in charter version {value[2]}")
    signed = len(set(signers) - stolen)
    need(signed >= threshold, "missing-signature", f"{signed} of {threshold} signatures that count")
    return value, hash_of(body)


def read_kit(data: bytes, anchor: bytes, charters: "Charters") -> tuple[dict, bytes]:
    """A manifest that enough roots signed, and the hash of its record."""
    body, signatures = split_signed(data, KIT_CAP)


def read_of_roots(data: bytes, cap: int, kind: str, shape, check, at: int, anchor: bytes, charters: "Charters") -> tuple[dict, bytes]:
    """A record that roots sign, as many as a charter takes, and its hash. Field `at` names that charter's version, the next one its hash."""
    body, signatures = split_signed(data, cap)
    roots = {key_id: key for charter in charters.versions for key_id, key in charter.roots.items()}
    verify_signatures(kind, body, signatures, roots)
    value = record(body, shape)
    check(value)
    need(value[1] == anchor, "wrong-archive", "it is another archive's")
    charter = charters.by_number.get(value[at])
    need(charter, "wrong-charter", f"it was made under charter version {value[at]}, which nobody shows")
    need(charter.hash == value[at + 1], "wrong-charter", f"it was made under another charter of version {value[at]}")
    signers = [s[0] for s in signatures]
    need(all(key in charter.roots for key in signers), "unknown-signer", f"signed by no root of version {value[at]}")
    stolen = {key for key, (reason, _) in charters.newest.revoked.items() if reason == COMPROMISED}
    enough_roots(charter, [key for key in signers if key not in stolen])
    return value, hash_of(body)


def read_kit(data: bytes, anchor: bytes, charters: "Charters") -> tuple[dict, bytes]:
    """A manifest that enough roots signed, and the hash of its record."""
    return read_of_roots(data, KIT_CAP, "exclave kit v1", KIT, check_kit, 3, anchor, charters)


def read_sealed_logins(data: bytes, anchor: bytes, kit: int, charter: "Charter") -> dict:
    need(len(data) <= LOGINS_CAP, "too-long", f"{len(data)} bytes of sealed credentials")
    value = record(data, SEALED_LOGINS)
    need(value[2], "bad-record", "versions of kits begin with 1")
    need(len(value[4]) <= 128, "too-long", f"{len(value[4])} recipients")
    ascending((stanza[0] for stanza in value[4]), "recipients of credentials")
    need(value[5] and len(value[5]) % KIB == 0, "bad-length", f"a sealed part of {len(value[5])} bytes")
    need(value[1] == anchor, "wrong-archive", "credentials of another archive")
    need(value[2] == kit, "bad-record", "credentials of another kit")
    recipients = sorted({recipient for ids in charter.recipients.values() for recipient in ids})
    need([stanza[0] for stanza in value[4]] == recipients, "bad-stanzas", "sealed to others than the charter's recipients")
    return value


def open_logins(value: dict, identity: XWing) -> str:
    return unwrapped_text(value[4], b"exclave kit v1", value[1], value[2], value[3], 3, value[5], identity, "the credentials")


# ---- Section 25: datasets and the directory --------------------------------------------------------------------------

FIGURES = ((8, 4), (9, 5), (10, 7))              # losses, liars, read-back: fields of a record of a dataset, places in a class
REGISTRATION_CAP, COMPANION_CAP = 8 * KIB, (1 << 20) + 768 * KIB


def check_place(version: int, previous: bool, what: str):
    need(version, "bad-version", f"{what} begin with 1")
    need(version > 1 or not previous, "bad-record", f"the first of {what} has no predecessor")
    need(version == 1 or previous, "bad-version", f"number {version} of {what} doesn't name the one before")


def figures(value: dict, line: list) -> list[int]:
    """f, b and read-back that a record demands, where it is silent those of its class."""
    return [value.get(field, line[at]) for field, at in FIGURES]


def read_registration(data: bytes, anchor: bytes, charters: "Charters") -> tuple[dict, bytes, bool]:
    """A record of a dataset, its hash, and whether its signer was revoked since."""
    known = {key_id: key for charter in charters.versions for key_id, (key, _) in charter.administrators.items()}
    body, signer = open_signed(data, REGISTRATION_CAP, "exclave dataset v1", known)
    need(len(body) <= KIB, "too-long", f"a record of {len(body)} bytes")
    value = record(body, REGISTRATION)
    need(value[5], "wrong-charter", "charter versions begin with 1")
    check_place(value[3], 4 in value, "a dataset's records")
    need(value[1] == anchor, "wrong-archive", "a record of another archive")
    charter = charters.by_number.get(value[5])
    need(charter, "wrong-charter", f"it obeys charter version {value[5]}, which nobody shows")
    _, classes = charter.administrators.get(signer, (b"", []))
    need(value[6] in classes, "unknown-signer", f"its signer is no administrator of class {value[6]} in charter version {value[5]}")
    need(value[6] in charter.classes, "wrong-charter", f"the charter has no class {value[6]}")
    line = charter.classes[value[6]]
    demanded = figures(value, line)
    need(all(new >= line[at] for new, (_, at) in zip(demanded, FIGURES)), "loosens", "it demands less than its class")
    need(bearable(line, demanded), "bad-geometry", f"{line[2]}+{line[3]} can't meet it")
    return value, hash_of(body), signer in charters.newest.revoked


def bearable(line: list, demanded: list[int]) -> bool:
    return line[2] + demanded[0] + demanded[1] <= line[2] + line[3] and demanded[1] < line[2]


def registered(records: list[tuple[dict, bytes, bool]], charters: "Charters") -> tuple[int, list[int]] | None:
    """The class of a dataset and the figures that hold for it, by all of its records; None when none of them counts."""
    known = {digest: (value, void) for value, digest, void in records}
    counting = {}
    for value, digest, void in records:
        if void:
            continue
        before = known.get(value.get(4))
        need(value[3] == 1 or before, "not-found", f"the record before number {value[3]} isn't there")
        if before and not before[1]:
            was, line = before[0], charters.by_number[value[5]].classes[value[6]]
            need(value[6] == was[6], "loosens", "a dataset never leaves its class")
            need(value[3] == was[3] + 1, "bad-version", f"number {value[3]} doesn't follow {was[3]}")
            need(all(new >= was.get(field, 0) for new, (field, _) in zip(figures(value, line), FIGURES)), "loosens", "it demands less than the record before")
        counting[digest] = value
    places = [value[3] for value in counting.values()]
    need(len(set(places)) == len(places), "fork", "two records in one place")
    if not counting:
        return None
    classes = {value[6] for value in counting.values()}
    need(len(classes) == 1, "fork", "its records name several classes")
    line = charters.newest.classes[classes.pop()]
    held = [max(line[at], *(value.get(field, 0) for value in counting.values())) for field, at in FIGURES]
    need(bearable(line, held), "bad-geometry", f"{line[2]}+{line[3]} can't meet it")
    return line[0], held


def check_companion(value: dict):
    need(value[4], "wrong-charter", "charter versions begin with 1")
    check_place(value[2], 3 in value, "directories")
    need(len(value[8]) <= 128, "too-long", f"{len(value[8])} recipients")
    ascending((stanza[0] for stanza in value[8]), "recipients of the directory")
    size = len(value[9])
    need(16 * KIB <= size <= 1 << 20 and size & size - 1 == 0, "bad-length", f"a sealed part of {size} bytes")


def read_companion(data: bytes, anchor: bytes, charters: "Charters") -> tuple[dict, bytes]:
    """A directory that enough roots signed, and the hash of its record."""
    return read_of_roots(data, COMPANION_CAP, "exclave names v1", COMPANION, check_companion, 4, anchor, charters)


def open_companion(value: dict, identity: XWing) -> str:
    return unwrapped_text(value[8], b"exclave names v1", value[1], value[2], value[7], 4, value[9], identity, "the directory")


def unwrapped_text(stanzas: list, kind: bytes, anchor: bytes, version: int, commitment: bytes, purpose: int, sealed: bytes, identity: XWing, what: str) -> str:
    ours = next((stanza for stanza in stanzas if stanza[0] == identity.id), None)
    need(ours, "not-a-recipient", f"{what}: not sealed to this identity")
    parts = (kind, anchor, version.to_bytes(4), identity.id, commitment)
    key = identity.unseal(ours[1], ours[2], b"".join(len(x).to_bytes(2) + x for x in parts))
    need(kdf("exclave 2026 run commitment v1", key) == commitment, "bad-commitment", "another key")
    return utf8(unpad(open_box(key, purpose, sealed), 4, what))


# ---- Section 21: the transparency log ---------------------------------------------------------------------------------

LOG_KINDS = {1: "head", 2: "charter", 3: "grant", 4: "rewrap", 5: "kit", 6: "report", 7: "repair", 8: "posture", 9: "drill",
             10: "sweep", 11: "mark", 12: "hold"}
NOTE_CAP, PROOF_CAP, BUNDLE_CAP, TREE_CAP = 256 * KIB, 512 * KIB, 256 * 66, 2**63 - 1
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def tree_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, by merging equal subtrees from the left."""
    peaks: list[tuple[int, bytes]] = []
    for leaf in leaves:
        size, top = 1, leaf
        while peaks and peaks[-1][0] == size:
            top, size = node_hash(peaks.pop()[1], top), 2 * size
        peaks.append((size, top))
    if not peaks:
        return EMPTY_ROOT
    root = peaks.pop()[1]
    while peaks:
        root = node_hash(peaks.pop()[1], root)
    return root


def check_inclusion(leaf: bytes, index: int, size: int, root: bytes, proof: list[bytes]):
    """RFC 9162 section 2.1.3.2."""
    need(0 <= index < size <= TREE_CAP, "bad-length", f"entry {index} of {size}")
    at, last, top = index, size - 1, leaf
    for sibling in proof:
        need(last, "bad-length", "a proof with too many hashes")
        if at & 1 or at == last:
            top = node_hash(sibling, top)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            top = node_hash(top, sibling)
        at, last = at >> 1, last >> 1
    need(last == 0, "bad-length", "a proof with too few hashes")
    need(top == root, "bad-hash", "the entry isn't in the tree")


def check_consistency(old: int, old_root: bytes, new: int, new_root: bytes, proof: list[bytes]):
    """RFC 9162 section 2.1.4.2."""
    need(0 <= old <= new <= TREE_CAP, "bad-length", f"a tree of {new} after one of {old}")
    if old in (0, new):
        need(not proof, "bad-length", "a proof of nothing")
        need(old_root == (new_root if old else EMPTY_ROOT), "bad-hash", "two roots of one size")
        return
    proof = ([old_root] if old & (old - 1) == 0 else []) + list(proof)
    need(proof, "bad-length", "no proof")
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = proof[0]
    for step in proof[1:]:
        need(last, "bad-length", "a proof with too many hashes")
        if at & 1 or at == last:
            first, second = node_hash(step, first), node_hash(step, second)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            second = node_hash(second, step)
        at, last = at >> 1, last >> 1
    need(last == 0, "bad-length", "a proof with too few hashes")
    need((first, second) == (old_root, new_root), "bad-hash", "the later tree doesn't begin with the earlier one")


def b64(text: str, what: str) -> bytes:
    """Base64 in its one spelling [RFC 4648 section 4]."""
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise Refused("bad-record", f"{what} isn't base64") from None
    need(base64.b64encode(data).decode() == text, "bad-record", f"{what} isn't base64 in its one spelling")
    return data


def number(text: str) -> int:
    need(re.fullmatch(r"0|[1-9][0-9]{0,18}", text, re.ASCII), "bad-record", f"{text!r} is no number")
    need(int(text) <= TREE_CAP, "bad-record", f"{text} is more than any tree has")
    return int(text)


class Checkpoint(NamedTuple):
    """What a signed note says of a log. Nobody has looked at the signatures."""
    text: bytes
    origin: str
    size: int
    root: bytes
    signatures: list[tuple[str, bytes, bytes]]    # name, id of the key, signature

    @property
    def log(self) -> tuple[bytes, bytes, bytes] | None:
        """The first half of the anchor, key id and incarnation."""
        form = re.fullmatch("exclave/([0-9a-f]{32})/([0-9a-f]{64})/([0-9a-f]{32})", self.origin)
        return tuple(bytes.fromhex(part) for part in form.groups()) if form else None


def read_checkpoint(data: bytes) -> Checkpoint:
    need(len(data) <= NOTE_CAP, "too-long", f"a note of {len(data)} bytes")
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise Refused("bad-record", "a note that isn't UTF-8") from None
    text, parted, lines = whole.rpartition("\n\n")
    text += "\n"
    need(parted and lines.endswith("\n") and not any(c < " " and c != "\n" for c in text), "bad-record", "not a signed note")
    signatures = []
    for line in lines[:-1].split("\n"):
        need(len(signatures) < 64, "bad-record", "more than 64 signatures")
        begin, _, rest = line.partition(" ")
        name, parted, signature = rest.partition(" ")
        plain = name and len(name.encode()) <= 255 and "+" not in name and not any(c.isspace() or unicodedata.category(c) == "Cc" for c in name)
        need(begin == "\u2014" and parted and plain, "bad-record", "not a line of signature")
        signature = b64(signature, "a signature")
        need(4 < len(signature) <= 8196, "bad-record", "a signature without bytes")
        signatures.append((name, signature[:4], signature[4:]))
    lines = text[:-1].split("\n")
    need(len(lines) >= 3 and all(lines), "bad-record", "not a checkpoint")
    need(len(lines[0].encode()) <= 255, "bad-record", "a long origin")
    root = b64(lines[2], "a root")
    need(len(root) == 32, "bad-record", "a root of another length")
    return Checkpoint(text.encode(), lines[0], number(lines[1]), root, signatures)


def check_checkpoint(checkpoint: Checkpoint, public: bytes):
    """Both halves of the key signed the text, each once."""
    found = []
    for kind, key, size in ((b"\x01", public[:32], 64), (b"\xffexclave/ml-dsa-65/v1", public[32:], 3309)):
        key_id = hashlib.sha256(checkpoint.origin.encode() + b"\n" + kind + key).digest()[:4]
        ours = [s for name, one, s in checkpoint.signatures if (name, one) == (checkpoint.origin, key_id)]
        need(len(ours) == 1 and len(ours[0]) == size, "missing-signature", "a checkpoint without both halves of its log's signature")
        found.append(ours[0])
    verify_pair(public, checkpoint.text, *found)


def read_log_proof(data: bytes, anchor: bytes, keys: dict[bytes, bytes]) -> tuple[Checkpoint, bytes]:
    """A `.tlog-proof` of one of our logs: its checkpoint, and the entry that it proves."""
    need(len(data) <= PROOF_CAP, "too-long", f"a proof of {len(data)} bytes")
    try:
        head, parted, note_text = data.decode().partition("\n\n")
    except UnicodeDecodeError:
        raise Refused("bad-record", "a proof that isn't UTF-8") from None
    lines = head.split("\n")
    need(parted and lines[0] == "c2sp.org/tlog-proof@v1" and len(lines) > 1, "bad-record", "not a proof of a log")
    lines, extra = lines[1:], None
    if lines[0].startswith("extra "):
        extra, lines = b64(lines[0][6:], "extra data"), lines[1:]
    need(lines and lines[0].startswith("index "), "bad-record", "a proof without an index")
    index, hashes = number(lines[0][6:]), [b64(line, "a hash") for line in lines[1:]]
    need(len(hashes) <= 63 and all(len(one) == 32 for one in hashes), "bad-record", "a hash of another length")
    checkpoint = read_checkpoint(note_text.encode())
    log = checkpoint.log
    need(log is not None and log[0] == anchor[:16], "wrong-archive", f"a proof of another log: {checkpoint.origin}")
    need(extra is not None, "bad-record", "a proof without its entry")
    read_log_entry(extra)
    need(log[1] in keys, "unknown-signer", f"{log[1].hex()} is in no charter")
    check_checkpoint(checkpoint, keys[log[1]])
    check_inclusion(leaf_hash(extra), index, checkpoint.size, checkpoint.root, hashes)
    return checkpoint, extra


def read_log_entry(data: bytes) -> tuple[int, bytes]:
    need(len(data) <= 64, "too-long", f"an entry of {len(data)} bytes")
    value = record(data, LOG_ENTRY)
    need(value[1], "bad-record", "an entry of no kind")
    return value[1], value[2]


def read_bundle(data: bytes, width: int) -> list[bytes]:
    entries, at = [], 0
    for _ in range(width):
        size = int.from_bytes(data[at:at + 2])
        need(at + 2 + size <= len(data), "bad-length", "a bundle that ends early")
        entries.append(data[at + 2:at + 2 + size])
        at += 2 + size
    need(at == len(data), "bad-length", "bytes after a bundle")
    return entries


class LogView:
    """One log as all folders together show it: signed checkpoints, and the entries that lead to the largest."""

    def __init__(self, key: bytes, incarnation: bytes, public: bytes, anchor: bytes, objects: list[tuple[str, bytes]]):
        self.key, self.incarnation, self.findings, self.refused = key, incarnation, [], []
        self.states: dict[tuple[int, bytes], Checkpoint] = {}
        bundles: dict[int, list[list[bytes]]] = {}
        for name, data in objects:
            try:
                if name.startswith("checkpoint/"):
                    checkpoint = read_checkpoint(data)
                    need(checkpoint.log == (anchor[:16], key, incarnation), "wrong-archive", "a checkpoint of another log")
                    check_checkpoint(checkpoint, public)
                    self.states.setdefault((checkpoint.size, checkpoint.root), checkpoint)
                elif form := re.fullmatch(r"tile/entries/((?:x\d{3}/)*\d{3})(?:\.p/([1-9]\d*))?\.[0-9a-f]{16}", name):
                    index = int(form[1].replace("x", "").replace("/", ""))
                    bundles.setdefault(index, []).append(read_bundle(data, int(form[2] or 256)))
            except Refused as why:
                self.refused.append(f"{name}: {why}")         # anyone may put things there
        self.entries: list[bytes] = []
        self.proven = (0, EMPTY_ROOT)
        for size, root in sorted(self.states):
            if size == self.proven[0] and size:
                self.findings.append(f"FORK: two checkpoints of size {size}")
            elif (entries := self.lead(self.entries, size, root, bundles)) is not None:
                self.entries, self.proven = entries, (size, root)
            elif (entries := self.lead([], size, root, bundles)) is not None:
                self.findings.append(f"FORK: the checkpoint of size {size} doesn't come after that of size {self.proven[0]}")
                self.entries, self.proven = entries, (size, root)
            else:
                self.findings.append(f"no entries lead to the checkpoint of size {size}")

    def lead(self, trunk: list[bytes], size: int, root: bytes, bundles) -> list[bytes] | None:
        """Entries that begin with `trunk` and have this root, from bundles; a few ways to choose among several are tried."""
        ways = [trunk[:len(trunk) // 256 * 256]]
        for index in range(len(trunk) // 256, -(-size // 256)):
            width, begun = min(256, size - 256 * index), trunk[256 * index:]
            fitting = {tuple(b[:width]) for b in bundles.get(index, []) if len(b) >= width and b[:len(begun)] == begun[:width]}
            ways = [way + list(more) for way in ways for more in sorted(fitting)][:4096]
        return next((way for way in ways if len(way) == size and tree_root([leaf_hash(e) for e in way]) == root), None)


def read_logs(stores: "Stores", anchor: bytes, charters: dict[int, Charter]) -> list[LogView]:
    keys = {key: public for charter in charters.values() for key, public in charter.everyone.items()}
    objects: dict[tuple[bytes, bytes], list] = {}
    for pattern in ("log/*/*/checkpoint/*", *("log/*/*/tile/entries" + "/*" * depth for depth in range(1, 5))):
        for name, data in stores.matching(pattern, NOTE_CAP):
            form = re.fullmatch("log/([0-9a-f]{64})/([0-9a-f]{32})/(.*)", name)
            if form and name.endswith(hash_of(data).hex()[:16]):
                objects.setdefault((bytes.fromhex(form[1]), bytes.fromhex(form[2])), []).append((form[3], data))
    logs = [LogView(key, life, keys[key], anchor, found) for (key, life), found in sorted(objects.items()) if key in keys]
    return [log for log in logs if log.states]


def granted_key(grants: list[dict], run: bytes, commitment: bytes) -> list | None:
    """The first grant's line for a run."""
    return next((given for grant in grants for given in grant[5] if given[:2] == [run, commitment]), None)


def read_envelope(data: bytes, anchor: bytes, run: bytes, charters: dict[int, Charter], commitment: bytes | None,
                  identity: XWing, grants: list[dict] = ()) -> Envelope:
    """It is judged by the charter that it obeys. `commitment` is the run table's, when there is one; `grants` are those to us."""
    body, signer = open_signed(data, ENVELOPE_CAP, "exclave envelope v1", all_writers(charters) | all_restorers(charters))
    value = record(body, ENVELOPE)
    need(value[1] == anchor, "wrong-archive", "an envelope of another archive")
    need(value[2] == run, "wrong-run", "an envelope of another run")
    need(value[5] in charters, "wrong-charter", f"it obeys charter version {value[5]}, which no site shows")
    charter = charters[value[5]]
    # A restorer wraps a run anew for the set as it is; the run stays of the epoch under which it was sealed.
    epoch, again = dict(charter.recipients.keys()).get(value[6], -1), signer in charter.restorers
    need(value[7] <= epoch if again else value[7] == epoch, "wrong-charter",
         f"recipient set {value[6]}, epoch {value[7]} isn't in charter version {value[5]}")
    need(again or signer in charter.writers, "unknown-signer", f"{signer.hex()} was no writer in charter version {value[5]}")
    stanzas = {s[0]: s for s in value[10]}
    need([s[0] for s in value[10]] == charter.recipients[value[6], epoch], "bad-stanzas", "not the recipients of the set, in order")
    need(commitment in (None, value[8]), "bad-commitment", "the run table and the envelope commit to different keys")
    kind, granted = b"exclave envelope v1", None if identity.id in stanzas else granted_key(grants, run, value[8])
    need(identity.id in stanzas or granted, "not-a-recipient", "neither the envelope nor a grant is for this identity")
    if granted:
        kind, (_, _, enc, ciphertext) = b"exclave grant v1", granted
    else:
        _, enc, ciphertext = stanzas[identity.id]
    run_key = identity.unseal(enc, ciphertext, wrapping_info(kind, anchor, run, identity.id, value[8]))
    need(hmac.compare_digest(kdf("exclave 2026 run commitment v1", run_key), value[8]), "bad-commitment", "another run key")
    plain = open_box(run_key, 1, value[9])
    need(len(plain) == 256, "bad-length", f"a label box of {len(plain)} bytes")
    return Envelope(run_key, utf8(unpad(plain, 2, "the label")), value, signer)


def check_class(charter: Charter, value: dict, signer: bytes):
    """The envelope's class is in the charter that it obeys, wraps for that class's set, and its signer may write it."""
    sets = [c[8] for c in charter.value[8] if c[0] == value[4]]
    need(sets == [value[6]], "wrong-charter", f"class {value[4]} with recipient set {value[6]}")
    classes = next((allowed for key, allowed in charter.value[5] if hash_of(key) == signer), [])
    need(signer in charter.restorers or value[4] in classes, "unknown-signer", f"{signer.hex()} may not write class {value[4]}")


def check_label_tag(context: Context, envelope: Envelope):
    tag = kdf("exclave 2026 label tag v1", envelope.run_key + envelope.label.encode(), 16)
    need(hmac.compare_digest(tag, context.label_tag), "bad-commitment", f"stripe {context.ordinal} was sealed under another label")


def utf8(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("bad-record", "a text that isn't UTF-8") from None


def read_sealed_head(run_key: bytes, box: bytes) -> dict:
    value = record(unpad(open_box(run_key, 2, box), 4, "the sealed record"), SEALED_HEAD)
    need(value[8] <= 7, "too-long", f"a manifest of {value[8] + 1} levels")
    check_chunk_lengths(value[9][5], value[9][3], value[9][4], "bad-length")
    return value


# ---- Step 4: ledgers -------------------------------------------------------------------------------------------------

class Stripe(NamedTuple):
    context: Context
    commitment: bytes
    hashes: list[bytes | None]


def read_ledger(data: bytes, anchor: bytes, run: bytes) -> dict[int, Stripe]:
    need(len(data) <= RECORD_CAP, "too-long", f"a ledger part of {len(data)} bytes")
    value = record(data, LEDGER)
    need(value[1] == anchor, "wrong-archive", "a ledger of another archive")
    need(value[2] == run, "wrong-run", "a ledger of another run")
    need(len(value[5]) <= 4096, "too-long", f"{len(value[5])} stripes in a part")
    ascending((first for first, _ in value[4]), "layouts")
    stripes = {}
    for raw, commitment, hashes in value[5]:
        context = read_context(raw)
        need(context.anchor == anchor, "wrong-archive", "a stripe of another archive")
        need(context.run == run, "wrong-run", "a stripe of another run")
        need(context.k <= len(hashes) <= 32, "bad-geometry", f"{len(hashes)} shards, k is {context.k}")
        stripes[context.ordinal] = Stripe(context, commitment, hashes)
    ascending((int.from_bytes(s[0][64:68]) for s in value[5]), "stripes")
    need(value[4][0][0] <= min(stripes), "bad-order", "the first layout begins after the first stripe")
    need(all(len(sites) <= 32 for _, sites in value[4]), "bad-geometry", "a layout of more than 32 sites")
    for ordinal, stripe in stripes.items():
        sites = [sites for first, sites in value[4] if first <= ordinal][-1]
        need(len(sites) == len(stripe.hashes), "bad-geometry", f"stripe {ordinal}: {len(stripe.hashes)} shards on {len(sites)} sites")
    return stripes


# ---- Step 5: the manifest --------------------------------------------------------------------------------------------

def check_path(path: bytes, what: str = "path"):
    need(len(path) <= 4096, "too-long", f"a {what} of {len(path)} bytes")
    parts = path.split(b"/") if path else []
    need(b"\0" not in path and not any(p in (b"", b".", b"..") for p in parts), "bad-path", f"{what} {show(path)}")
    need(all(len(p) <= 255 for p in parts), "too-long", f"a component of {what} {show(path)}")


def path_order(path: bytes) -> list[bytes]:
    return path.split(b"/") if path else []


def show(path: bytes) -> str:
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text) or "."


class Ref(NamedTuple):
    run: bytes
    ordinal: int
    offset: int
    stored: int
    raw: int
    codec: int
    id: bytes


def read_ref(ref, runs: list[bytes], live: dict[bytes, LiveSet]) -> Ref:
    need(ref[0] < len(runs), "bad-record", f"run {ref[0]} of {len(runs)} in the page")
    found = Ref(runs[ref[0]], *ref[1:])
    check_live(found, live)
    check_chunk_lengths(found.codec, found.stored, found.raw, "bad-length")
    return found


def check_live(ref: Ref, live: dict[bytes, LiveSet]):
    need(ref.run in live and ref.ordinal in live[ref.run], "outside-live-set", f"stripe {ref.ordinal} of run {ref.run.hex()}")


def read_page(raw: bytes, level: int, live: dict[bytes, LiveSet]) -> list:
    """Level 0: entries as maps. Level 1 to 7: (first path, Ref). Level 255: (offset, length, [Ref]). Refs are resolved."""
    need(len(raw) <= CHUNK_CAP, "too-long", f"a page of {len(raw)} bytes")
    page = record(raw, PAGE)
    need(page[1] == level, "bad-level", f"a page of level {page[1]} where {level} belongs")
    runs, items = page[2], page[3]
    array({0: ENTRY, 255: EXTENT}.get(level, row(bstr(), REF)))(items)
    if level == 255:
        return [(o, n, [read_ref(r, runs, live) for r in refs]) for o, n, refs in items]
    for item in items:
        check_path(item[0])
    for a, b in zip(items, items[1:]):
        need(path_order(a[0]) < path_order(b[0]), "bad-order", f"{show(b[0])} stands after {show(a[0])}")
    if level > 0:
        return [(path, read_ref(ref, runs, live)) for path, ref in items]
    for entry in items:
        check_entry(entry, runs, live)
    return items


FILE, DIRECTORY, SYMLINK, BLOCK_DEVICE = 0, 1, 2, 6
OWN_FIELDS = {FILE: {10}, SYMLINK: {11}, 5: {12}, BLOCK_DEVICE: {12}}


def check_entry(entry: dict, runs: list[bytes], live: dict[bytes, LiveSet]):
    path, kind = entry[0], entry[1]
    need(path or kind == DIRECTORY, "bad-path", "the root isn't a directory")
    own = OWN_FIELDS.get(kind, set())
    allowed = own | ({13, 14, 15} if kind == FILE else set())
    need(own <= entry.keys() and {f for f in entry if f >= 10} <= allowed, "bad-record", f"fields of {show(path)}")
    need(not (14 in entry and 15 in entry), "bad-record", f"{show(path)} has both extents and pages of extents")
    if kind == SYMLINK:
        need(len(entry[11]) <= 4096, "too-long", f"the target of {show(path)}")
        need(entry[11] and b"\0" not in entry[11], "bad-path", f"the target of {show(path)}")
    if 9 in entry:
        ascending((name for name, _ in entry[9]), "extended attributes")
        need(sum(len(n) + len(v) for n, v in entry[9]) <= 64 * KIB, "too-long", f"extended attributes of {show(path)}")
    if 13 in entry:
        check_path(entry[13], "link group")
        need(path_order(entry[13]) <= path_order(path), "bad-order", f"{show(path)} stands before the first of its group")
    if 14 in entry:
        entry[14] = [(o, n, [read_ref(r, runs, live) for r in refs]) for o, n, refs in entry[14]]
        check_extents(entry[14], entry[10], path)
    if 15 in entry:
        entry[15] = [read_ref(r, runs, live) for r in entry[15]]


def check_extents(extents, size: int, path: bytes):
    at = 0
    for offset, length, refs in extents:
        need(offset >= at and length >= 1 and offset + length <= size, "bad-extents", f"{offset} + {length} of {show(path)}")
        need(sum(r.raw for r in refs) == length, "bad-extents", f"the chunks at {offset} of {show(path)} don't add up")
        at = offset + length


# ---- The stores: folders that hold what the sites held [section 2] ---------------------------------------------------

class Stores:
    """A folder that can't be read costs what lies in it, and is named: another site may do better."""

    def __init__(self, folders: list[str], anchor: bytes):
        name = anchor.hex()[:32]
        self.roots = [Path(folder) / name for folder in folders]
        self.shard_names: OrderedDict[tuple, dict] = OrderedDict()
        self.unreadable: set[Path] = set()
        for folder, root in zip(folders, self.roots):
            if not os.path.isdir(root):
                note(f"{folder}: {whats_there(Path(folder), name)}")

    def read(self, path: Path, cap: int) -> bytes | None:
        """None for what isn't a file, is too long or can't be read: another site may do better."""
        try:
            info = os.stat(path)
            return path.read_bytes() if stat.S_ISREG(info.st_mode) and info.st_size <= cap else None
        except OSError:
            return None

    def read_payload(self, path: Path, size: int) -> bytes:
        """What should be a shard's payload; its hash will tell. An object of another length isn't read at all."""
        try:
            info = os.stat(path)
            if not stat.S_ISREG(info.st_mode) or info.st_size != shard_size(size):
                return b""
            with open(path, "rb") as file:
                file.seek(152)
                return file.read(size)
        except OSError:
            return b""

    def matching(self, pattern: str, cap: int):
        """(name, bytes) of every object whose name matches, site after site; equal bytes only once."""
        seen = set()
        for root in self.roots:
            for path in self.paths(root, pattern):
                data = self.read(path, cap)
                if data is not None and (digest := hash_of(data)) not in seen:
                    seen.add(digest)
                    yield path.relative_to(root).as_posix(), data

    def paths(self, root: Path, pattern: str) -> list[Path]:
        found = [root]
        for part in pattern.split("/"):
            if "*" in part:
                found = [path / name for path in found for name in self.names(path) if fnmatch.fnmatchcase(name, part)]
            else:
                found = [path / part for path in found]
        return found

    def names(self, folder: Path) -> list[str]:
        """What a folder holds, sorted; nothing when it isn't there."""
        try:
            return sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            if folder not in self.unreadable:
                self.unreadable.add(folder)
                note(f"{folder} can't be read: {error.strerror}")
            return []

    def by_hash(self, run: bytes, what: str, digest: bytes) -> bytes:
        """Under the run that should hold it, else under any run."""
        for place in (run.hex(), "*"):
            for _, data in self.matching(f"runs/{place}/{what}.{digest.hex()[:16]}", RECORD_CAP):
                if hash_of(data) == digest:
                    return data
        raise Refused("not-found", f"{what} {digest.hex()} of run {run.hex()}")

    def shards(self, run: bytes, ordinal: int, index: int, digest: bytes):
        """Paths of shard objects with the right tag, first puts before later attempts."""
        for root in self.roots:
            folder = root / "shards" / run.hex() / f"{ordinal // 4096:06}"
            yield from self.listing(folder).get(f"{ordinal:010}.{index:02}.{digest.hex()[:16]}", [])

    def listing(self, folder: Path) -> dict[str, list[Path]]:
        if folder not in self.shard_names:
            names = {}
            for name in self.names(folder):
                names.setdefault(".".join(name.split(".")[:3]), []).append(folder / name)
            self.shard_names[folder] = names
            if len(self.shard_names) > 256:
                self.shard_names.popitem(last=False)
        return self.shard_names[folder]


def whats_there(folder: Path, name: str) -> str:
    """Why a store's folder doesn't serve. Most often it is one level too high or too low."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        return f"can't be read: {error.strerror}"
    if folder.resolve().name == name:
        return f"this is the archive's own folder; give the one above it, {folder.resolve().parent}"
    for below in names:
        if os.path.isdir(folder / below / name):
            return f"the archive isn't here, but in {folder / below}"
    others = [other for other in names if re.fullmatch("[0-9a-f]{32}", other)]
    return f"holds no archive {name}" + (f", but {', '.join(others[:3])}" if others else "")


class Archive:
    """Steps 1 and 2 done, and run keys on demand."""

    def __init__(self, folders: list[str], anchor: bytes, identity: XWing):
        self.stores, self.anchor, self.identity = Stores(folders, anchor), anchor, identity
        self.charters = read_history(list(self.stores.matching("charter/*", RECORD_CAP)), anchor)
        self.run_keys: dict[bytes, Envelope] = {}
        self.heads: dict[bytes, Head] = {}
        self.ignored: list[tuple[str, Refused]] = list(self.charters.refused)
        self.hidden = 0                                   # the highest charter version that a head obeys and no site shows
        for name, data in self.stores.matching("heads/*/*/*", HEAD_CAP):
            try:
                head = read_head(data, anchor, self.charters.by_number)
                self.heads[head.hash] = head
            except HiddenCharter as why:
                self.ignored.append((name, why))
                # Whoever was a writer once can claim any version. One who still is has no reason to.
                if why.signer in self.charters.newest.writers:
                    self.hidden = max(self.hidden, why.version)
            except Refused as why:
                self.ignored.append((name, why))
        self.heads, self.void, self.missing_pins = void_revoked(self.charters.newest, self.heads)
        self.forks = find_forks(self.heads)
        self.grants: list[dict] = []                      # to our identity
        for name, data in self.stores.matching("grants/*", RECORD_CAP):
            try:
                grant = read_grant(data, anchor, self.charters.by_number)
                self.grants += [grant] if hash_of(grant[3]) == identity.id else []
            except Refused as why:
                self.ignored.append((name, why))

    def charter_alarms(self) -> list[str]:
        """What must not happen with honest people and honest sites."""
        newest = self.charters.newest.value[1]
        alarms = []
        if self.charters.fork:
            alarms.append(f"CHARTER FORK: enough roots signed {len(self.charters.fork)} different versions {newest + 1}: "
                          + ", ".join(digest.hex() for digest in self.charters.fork) + f"; going by version {newest}")
        if self.hidden:
            alarms.append(f"HIDDEN CHARTER: a head obeys charter version {self.hidden}, and the sites show version {newest} at most; bring more sites")
        return alarms + [f"LOST PIN: the head {pin[2].hex()} of seq {pin[1]}, the last that counts of revoked writer {writer.hex()}, is shown by no site"
                         for writer, pin in self.missing_pins]

    def charter_notes(self) -> list[str]:
        """What was made of charters that aren't the first alone."""
        notes = []
        if len(self.charters.versions) > 1:
            newest = self.charters.newest
            notes.append(f"going by charter version {newest.value[1]}, {newest.hash.hex()}, which follows version 1 step by step; records by the version that they obey")
        if self.grants:
            notes.append(f"{len(self.grants)} grants give run keys to this identity")
        return notes + [f"{len(heads)} heads of revoked writer {writer.hex()} are void: {', '.join(f'seq {h.seq}' for h in heads[:5])}"
                        for writer, heads in self.void.items()]

    def first_good(self, pattern: str, cap: int, reader, what: str):
        """The first object that the reader accepts; else why the last was refused."""
        why = Refused("not-found", f"no {what} at any site")
        for _, data in self.stores.matching(pattern, cap):
            try:
                return reader(data)
            except Refused as error:
                why = error
        raise why

    def run_key(self, run: bytes, commitment: bytes | None) -> Envelope:
        if run not in self.run_keys:
            def reader(data):
                charters = self.charters.by_number
                found = read_envelope(data, self.anchor, run, charters, commitment, self.identity, self.grants)
                check_class(charters[found.value[5]], found.value, found.signer)
                return found
            self.run_keys[run] = self.first_good(f"runs/{run.hex()}/envelope.*", ENVELOPE_CAP, reader, f"envelope of run {run.hex()}")
        envelope = self.run_keys[run]
        need(commitment in (None, envelope.value[8]), "bad-commitment", "the run table names another run key")
        return envelope

    def open_stripe(self, stripe: Stripe, envelope: Envelope) -> bytes:
        """Any k shards that are the ledger's, data shards first."""
        context, shards = stripe.context, {}
        check_label_tag(context, envelope)
        for index, digest in enumerate(stripe.hashes):
            if digest is None:
                continue
            for path in self.stores.shards(context.run, context.ordinal, index, digest):
                payload = self.stores.read_payload(path, context.payload)
                if hash_of(payload) == digest:
                    shards[index] = payload
                    break
            if len(shards) == context.k:
                sealed = rebuild(context.k, stripe.hashes, shards)
                return open_stripe(envelope.run_key, context, stripe.commitment, sealed)
        raise Refused("too-few-shards", f"stripe {context.ordinal} of run {context.run.hex()}: {len(shards)} good shards of {context.k}")


class Snapshot:
    """Steps 3 and 4 done for one head; chunks on demand."""

    CACHE = 256 * MIB

    def __init__(self, archive: Archive, head: Head):
        self.archive, self.head = archive, head
        stores, anchor, run = archive.stores, archive.anchor, head.value[12]
        self.runs = read_runs([stores.by_hash(run, "live", digest) for digest in head.value[13]], anchor)
        self.live = {name: entry.live for name, entry in self.runs.items()}
        need(run in self.runs, "wrong-run", "the head's own run isn't in its run table")
        envelope = self.envelope(run)
        self.sealed = read_sealed_head(envelope.run_key, head.value[14])
        need(self.sealed[2] == envelope.label, "bad-commitment", "the head's label isn't its run's")
        self.root = Ref(*self.sealed[9])
        check_live(self.root, self.live)
        self.dedup_key = kdf("exclave 2026 chunk id key v1", self.sealed[10])
        self.ledgers: dict[bytes, dict[int, Stripe]] = {}
        self.opened: OrderedDict[tuple, bytes | Refused] = OrderedDict()

    def envelope(self, run: bytes) -> Envelope:
        """Of a run of this head's dataset: chunk ids of another mean something else."""
        envelope = self.archive.run_key(run, self.runs[run].commitment)
        need(envelope.value[3] == self.head.dataset, "wrong-run", f"run {run.hex()} is another dataset's")
        return envelope

    def ledger(self, run: bytes) -> dict[int, Stripe]:
        """The parts of one run. A part that is missing costs its stripes, not the others'."""
        if run not in self.ledgers:
            stripes = self.ledgers[run] = {}
            for digest in self.runs[run].parts:
                try:
                    part = read_ledger(self.archive.stores.by_hash(run, "ledger", digest), self.archive.anchor, run)
                except Refused as why:
                    note(f"ledger part {digest.hex()}: {why}")
                    continue
                for ordinal, stripe in part.items():
                    need(stripes.setdefault(ordinal, stripe) == stripe, "ledger-conflict", f"stripe {ordinal} of run {run.hex()}")
        return self.ledgers[run]

    def stripe(self, run: bytes, ordinal: int) -> bytes:
        """The plaintext, or the same refusal each time. Keeps the stripes used last."""
        where = (run, ordinal)
        if where not in self.opened:
            try:
                stripe = self.ledger(run).get(ordinal)
                need(stripe, "not-found", f"stripe {ordinal} of run {run.hex()} is in no ledger part")
                plain = self.archive.open_stripe(stripe, self.envelope(run))
                read_directory(plain)
                self.opened[where] = plain
            except Refused as why:
                self.opened[where] = why
        self.opened.move_to_end(where)
        while sum(len(x) for x in self.opened.values() if type(x) is bytes) > self.CACHE and len(self.opened) > 1:
            self.opened.popitem(last=False)
        if isinstance(self.opened[where], Refused):
            raise self.opened[where]
        return self.opened[where]

    def chunk(self, ref: Ref) -> bytes:
        plain = self.stripe(ref.run, ref.ordinal)
        need(ref.offset + ref.stored <= len(plain), "bad-length", "a reference that leaves its stripe")
        return read_chunk(plain[ref.offset:ref.offset + ref.stored], ref.codec, ref.raw, ref.id, self.dedup_key)

    def entries(self, lost: list):
        """Every entry in order. A page that can't be read is added to `lost`; what lies beside it goes on."""
        last = [None]

        def walk(ref: Ref, level: int, first: bytes | None):
            try:
                items = read_page(self.chunk(ref), level, self.live)
                need(first in (None, items[0][0]), "bad-order", "a page doesn't begin with the path its reference gives")
            except Refused as why:
                lost.append((f"everything from {show(first or b'')} to the next page", why))
                return
            for item in items:
                if level:
                    yield from walk(item[1], level - 1, item[0])
                elif last[0] is not None and path_order(item[0]) <= last[0]:
                    lost.append((show(item[0]), Refused("bad-order", "stands after a later path")))
                else:
                    last[0] = path_order(item[0])
                    yield item
        yield from walk(self.root, self.sealed[8], None)

    def extents(self, entry: dict) -> list:
        if 15 not in entry:
            return entry.get(14, [])
        extents = [e for ref in entry[15] for e in read_page(self.chunk(ref), 255, self.live)]
        check_extents(extents, entry[10], entry[0])
        return extents


# ---- Step 6: writing beneath the target ------------------------------------------------------------------------------

# After these the next file fares no better.
HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


class Target:
    """A new or empty folder. Every path is walked from its descriptor, one component at a time, never through a link."""

    def __init__(self, folder: str):
        try:
            os.makedirs(folder, exist_ok=True)
            refuse_what_is_there(folder)
            self.root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise Failed(f"nothing can be restored to {folder}: {error.strerror}") from None
        self.owner = os.geteuid() == 0

    def folder(self, parts: list[bytes]) -> int:
        """A new descriptor of a directory beneath the target; missing ones are made."""
        at = os.dup(self.root)
        for part in parts:
            try:
                try:
                    below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                except FileNotFoundError:
                    os.mkdir(part, 0o700, dir_fd=at)
                    below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                raise Refused("bad-path", f"{show(b'/'.join(parts))}: {error.strerror} at {show(part)}") from None
            finally:
                os.close(at)
            at = below
        return at

    def write(self, snapshot: Snapshot, entry: dict):
        kind, parts = entry[1], path_order(entry[0])
        if kind == DIRECTORY:
            os.close(self.folder(parts))
            return
        folder, name = self.folder(parts[:-1]), parts[-1]
        try:
            if kind == SYMLINK:
                os.symlink(entry[11], name, dir_fd=folder)
                self.stamp_link(folder, name, entry)
            else:
                self.write_file(snapshot, folder, name, entry)
        except FileExistsError:
            raise Refused("bad-path", f"{show(entry[0])} stands in the target already") from None
        finally:
            os.close(folder)

    def write_file(self, snapshot: Snapshot, folder: int, name: bytes, entry: dict):
        """Whole and checked, or not at all."""
        extents = snapshot.extents(entry)
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
        try:
            for offset, _, refs in extents:
                for ref in refs:
                    data = memoryview(snapshot.chunk(ref))
                    while data:
                        done = os.pwrite(fd, data, offset)
                        data, offset = data[done:], offset + done
            os.ftruncate(fd, entry[10])
            self.stamp(fd, entry)
        except BaseException:
            os.unlink(name, dir_fd=folder)
            raise
        finally:
            os.close(fd)

    def link(self, first: bytes, path: bytes):
        old, new = path_order(first), path_order(path)
        source, target = self.folder(old[:-1]), self.folder(new[:-1])
        try:
            os.link(old[-1], new[-1], src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
        except FileExistsError:
            raise Refused("bad-path", f"{show(path)} stands in the target already") from None
        finally:
            os.close(source)
            os.close(target)

    def stamp(self, fd: int, entry: dict):
        """Attributes, owner, mode, time; as far as this system and this user can. Set-id bits only with their owner."""
        for name, value in entry.get(9, []):
            attempt(lambda: os.setxattr(fd, name, value), f"attribute {show(name)} of {show(entry[0])}")
        owned = self.owner and attempt(lambda: os.fchown(fd, entry[3], entry[4]), f"owner of {show(entry[0])}")
        attempt(lambda: os.fchmod(fd, entry[2] if owned else entry[2] & 0o1777), f"mode of {show(entry[0])}")
        attempt(lambda: os.utime(fd, ns=2 * (entry[5] * 10**9 + entry[6],)), f"time of {show(entry[0])}")

    def stamp_directory(self, entry: dict):
        fd = self.folder(path_order(entry[0]))
        try:
            self.stamp(fd, entry)
        finally:
            os.close(fd)

    def stamp_link(self, folder: int, name: bytes, entry: dict):
        times = 2 * (entry[5] * 10**9 + entry[6],)
        if self.owner:
            attempt(lambda: os.chown(name, entry[3], entry[4], dir_fd=folder, follow_symlinks=False), f"owner of {show(entry[0])}")
        attempt(lambda: os.utime(name, ns=times, dir_fd=folder, follow_symlinks=False), f"time of {show(entry[0])}")


def refuse_what_is_there(folder: str):
    if os.path.lexists(folder) and os.listdir(folder):
        raise Usage(f"{folder} isn't empty; name a new or an empty folder")


def attempt(action, what: str) -> bool:
    try:
        action()
        return True
    except (OSError, OverflowError, ValueError) as error:
        note(f"{what} not restored: {error}")
        return False


def restore(snapshot: Snapshot, folder: str) -> int:
    """0, or 4 when something is lost, or 3 when the target didn't take something."""
    target, lost, untaken, directories, counts = Target(folder), [], [], [], {"files": 0, "bytes": 0}
    groups, written = {}, {}    # by link group: what its members share; the member that was written
    for entry in snapshot.entries(lost):
        path, kind = entry[0], entry[1]
        try:
            if kind > SYMLINK:
                note(f"skipped {show(path)}: a special file (type {kind})")
                continue
            group = entry.get(13)
            if group is not None:
                same = (entry[10], entry.get(14), entry.get(15))
                need(groups.setdefault(group, same) == same, "bad-extents", f"{show(path)} differs from its link group")
            if group in written:
                target.link(written[group], path)
            else:
                target.write(snapshot, entry)
                if group is not None:
                    written[group] = path
            counts["files"] += kind == FILE
            counts["bytes"] += entry.get(10, 0)
            if kind == DIRECTORY:
                directories.append(entry)
        except Refused as why:
            lost.append((show(path), why))
        except OSError as error:
            if error.errno in HOPELESS:
                raise Failed(f"{show(path)} can't be written: {error.strerror}. {counts['files']} files before it are complete in "
                             f"{folder}; restore again to a new or an empty folder with more room") from None
            untaken.append((show(path), error.strerror))
    for entry in reversed(directories):
        attempt(lambda: target.stamp_directory(entry), f"mode and time of {show(entry[0])}")
    print(f"restored {counts['files']} files and links to them, {counts['bytes']} bytes, {len(directories)} directories")
    for what, why in untaken:
        print(f"NOT TAKEN by the target, {what}: {why}")
    for what, why in lost:
        print(f"LOST {what}: {why}")
    return 4 if lost else 3 if untaken else 0


# ---- Commands --------------------------------------------------------------------------------------------------------

def note(message: str):
    """One line, whatever names a store's folder holds."""
    print("rescue: " + "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in message), file=sys.stderr)


def passphrase_of(options, key: str) -> bytes:
    if options.passphrase_file:
        return read_some(options.passphrase_file, "passphrase file").split(b"\n")[0].removesuffix(b"\r")
    return os.environb.get(b"EXCLAVE_PASSPHRASE") or from_terminal(key)


def from_terminal(key: str) -> bytes:
    """getpass would fall back to standard input, and show what is typed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        return getpass.getpass(f"Passphrase of {key}: ").encode()
    except (OSError, EOFError):
        raise Usage(f"a passphrase is needed for {key}, and there is no terminal to ask at; "
                    "give --passphrase-file FILE, or EXCLAVE_PASSPHRASE in the environment") from None


def read_some(path: str, what: str, cap: int = 64 * KIB) -> bytes:
    """A short file that somebody named; one byte more than the cap shows that it is longer."""
    try:
        with open(path, "rb") as file:
            return file.read(cap + 1)
    except OSError as error:
        raise Usage(f"the {what} {path} can't be read: {error.strerror}") from None


def open_shares(options) -> tuple[XWing, bytes | None]:
    """The key that the shares give, and the archive when a share file names it."""
    if not options.set:
        raise Usage("--share needs the share set: --set FILE")
    try:
        share_set = read_share_set(read_some(options.set, "share set"))
    except Refused as why:
        raise Usage(f"{options.set} is no share set: {why}") from None
    shares, archive = [], None
    typed = sys.stdin.read(64 * KIB).split() if "-" in options.share and not sys.stdin.isatty() else None
    for name in options.share:
        try:
            data = b"" if name == "-" else read_some(name, "share")
            if name == "-" and typed is None:
                shares.append(type_share())
            elif name == "-":
                # The text of one share follows that of the one before.
                count = 42 if typed and not typed[0][0].isdigit() else LINES_OF_DIGITS * GROUPS_IN_A_LINE
                shares.append(read_share_text(" ".join(typed[:count])))
                del typed[:count]
            elif b"exclave wrapped share" in data:
                if not options.ceremony_key:
                    raise Usage(f"{name} is wrapped for a ceremony; give its key: --ceremony-key FILE")
                key = read_keyfile(read_some(options.ceremony_key, "key file"), lambda: passphrase_of(options, options.ceremony_key))
                need(key.kind == "ceremony", "bad-keyfile", f"a {key.kind} key, not a ceremony's")
                shares.append(open_wrapped_share(data, XWing(key.secret)))
            elif b"exclave key file" in data:
                key = read_keyfile(data, lambda: passphrase_of(options, name))
                need(key.kind == "share", "bad-keyfile", f"a {key.kind} key, not a share")
                shares.append(key.public[:16] + key.secret)
                archive = archive or key.archive
            else:
                shares.append(read_share_text(data.decode("utf-8", "replace")))
        except Refused as why:
            raise Refused(why.kind, f"the share {name}: {why.message}") from None
    good, findings = check_shares(share_set, shares)
    for why in findings:
        note(str(why))
    return XWing(combine_shares(share_set, good)), archive


def type_share() -> bytes:
    """Line by line and hidden; a line that isn't good is asked for again."""
    lines: list[str] = []
    while True:
        lines.append(getpass.getpass(f"Line {len(lines) + 1} of the share: "))
        try:
            return read_share_text("\n".join(lines))
        except Refused as why:
            if why.message != f"the share ends after {len(lines)} lines":
                note(why.message)
                lines.pop()


def open_identity(options) -> KeyFile:
    try:
        key = read_keyfile(read_some(options.identity, "key file"), lambda: passphrase_of(options, options.identity))
    except Refused as why:
        if why.kind in ("bad-keyfile", "too-costly", "too-long"):
            raise Usage(f"{options.identity} is no key file: {why.message}") from None
        raise
    need(key.kind == "recovery", "bad-keyfile", f"a {key.kind} key opens nothing; a recovery key is needed")
    return key


def open_archive(options) -> Archive:
    # What can be refused is refused before somebody has to type a passphrase.
    if not any(os.path.isdir(folder) for folder in options.site):
        raise Usage(f"no such folder: {', '.join(options.site)}")
    if getattr(options, "to", None):
        try:
            refuse_what_is_there(options.to)
        except OSError as error:
            raise Failed(f"nothing can be restored to {options.to}: {error.strerror}") from None
    if options.share:
        identity, named = open_shares(options)
    else:
        key = open_identity(options)
        identity, named = XWing(key.secret), key.archive
    anchor = options.anchor or named
    if anchor is None:
        raise Usage("the key file names no archive; give --anchor, 64 hex digits")
    archive = Archive(options.site, anchor, identity)
    for name, why in archive.ignored:
        note(f"ignored {name}: {why}")
    for line in archive.charter_notes() + archive.charter_alarms():
        note(line)
    for a, b in archive.forks:
        note(f"FORK: writer {a.chain[0].hex()} signed two heads of seq {a.seq}: {a.hash.hex()} and {b.hash.hex()}")
    return archive


def when(seconds: int) -> str:
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"


def command_heads(options) -> int:
    archive, result = open_archive(options), 0
    tops = {h.hash for dataset in {h.dataset for h in archive.heads.values()} for h in newest(archive.heads, dataset)}
    for head in sorted(archive.heads.values(), key=lambda h: (h.dataset, h.chain, h.seq)):
        state = ("newest" if head.hash in tops else "older") + (", provisional" if head.value[10] else "")
        print(f"{head.hash.hex()} dataset {head.dataset.hex()} seq {head.seq} {state}")
        try:
            sealed = Snapshot(archive, head).sealed
            print(f"    {json.dumps(sealed[1])} label {json.dumps(sealed[2])} finished {when(sealed[4])}, {sealed[7][0]} files, {sealed[7][3]} bytes")
        except Refused as why:
            print(f"    can't be opened: {why}")
            result = 3
    if not archive.heads:
        raise Refused("not-found", "no valid head at any site")
    return 3 if archive.forks or archive.charter_alarms() else result


def command_log(options) -> int:
    """Every log at the sites, held against its signatures, itself and the heads; or a proof. No key is needed. 3 with findings."""
    stores = Stores(options.site, options.anchor)
    history = read_history(list(stores.matching("charter/*", RECORD_CAP)), options.anchor)
    charters = history.by_number
    if options.proof:
        keys = {key: public for charter in charters.values() for key, public in charter.everyone.items()}
        checkpoint, entry = read_log_proof(Path(options.proof).read_bytes(), options.anchor, keys)
        kind, named = read_log_entry(entry)
        print(f"{LOG_KINDS.get(kind, kind)} {named.hex()} is in {checkpoint.origin}, of size {checkpoint.size}")
        return 0
    heads = {}
    for _, data in stores.matching("heads/*/*/*", HEAD_CAP):
        try:
            head = read_head(data, options.anchor, charters)
            heads[head.hash] = head
        except Refused:
            pass
    heads, _, _ = void_revoked(history.newest, heads)
    result = 0
    for log in read_logs(stores, options.anchor, charters):
        entries = [read_log_entry(entry) for entry in log.entries]
        logged = [named for kind, named in entries if kind == 1]
        chain = {h.seq: h for h in heads.values() if h.chain == (log.key, log.incarnation)}
        findings = list(log.findings)
        findings += [f"head {h.hash.hex()} of seq {seq} isn't in place" for seq, h in chain.items() if seq < len(logged) and logged[seq] != h.hash]
        findings += [f"head {h.hash.hex()} of seq {seq} isn't logged yet" for seq, h in chain.items() if seq >= len(logged)]
        if log.key not in history.newest.revoked:
            findings += [f"head {named.hex()} is logged and shown by no site" for named in logged if named not in heads]
        print(f"log {log.key.hex()} {log.incarnation.hex()}: {len(entries)} entries, {len(logged)} heads, root {log.proven[1].hex()}")
        for line in findings:
            print(f"    {line}")
            result = 3
    return result
def command_names(options) -> int:
    """The newest directory, and what administrators have said of datasets."""
    archive, ignored, directories = open_archive(options), [], {}
    for name, data in archive.stores.matching("names/*", COMPANION_CAP):
        try:
            value, digest = read_companion(data, archive.anchor, archive.charters)
            directories.setdefault(value[2], {})[digest] = value
        except Refused as why:
            ignored.append(f"{name}: {why}")
    records: dict[bytes, dict] = {}
    for name, data in archive.stores.matching("datasets/*/*", REGISTRATION_CAP):
        try:
            found = read_registration(data, archive.anchor, archive.charters)
            records.setdefault(found[0][2], {})[found[1]] = found
        except Refused as why:
            ignored.append(f"{name}: {why}")
    if directories:
        newest_ones = directories[max(directories)]
        need(len(newest_ones) == 1, "fork", f"{len(newest_ones)} directories of version {max(directories)}")
        value = next(iter(newest_ones.values()))
        print(f"# directory {value[2]}, {when(value[6])}, sealed to {len(value[8])} recipients")
        print(open_companion(value, archive.identity))
    else:
        print("# no directory")
    for dataset, found in sorted(records.items()):
        try:
            held = registered(list(found.values()), archive.charters)
            print(f"# dataset {dataset.hex()}: " + ("its records are void" if held is None else f"class {held[0]}, losses, liars, read-back {held[1]}"))
        except Refused as why:
            ignored.append(f"dataset {dataset.hex()}: {why}")
    for line in ignored:
        print(f"rescue: ignored {line}", file=sys.stderr)
    return 3 if ignored else 0


def candidates(archive: Archive, dataset: bytes):
    """Newest heads first, then the others of the dataset by descending seq."""
    tops = newest(archive.heads, dataset)
    rest = [h for h in archive.heads.values() if h.dataset == dataset and h not in tops]
    return tops, sorted(rest, key=lambda h: (-h.seq, h.hash))


def choose(archive: Archive, options) -> tuple[Snapshot, bool]:
    """The snapshot to restore, and whether a newer one was passed over."""
    if options.head:
        head = archive.heads.get(options.head)
        need(head, "not-found", f"no valid head {options.head.hex()}")
        return Snapshot(archive, head), False
    found, last = [], None
    for dataset in sorted({h.dataset for h in archive.heads.values()}):
        tops, rest = candidates(archive, dataset)
        snapshots = []
        for group in [tops] + [[h] for h in rest]:
            for head in group:
                try:
                    snapshots.append(Snapshot(archive, head))
                except Refused as why:
                    note(f"head {head.hash.hex()} can't be opened: {why}")
                    last = why
            if snapshots:
                best = max(snapshots, key=lambda s: (s.sealed[4], s.head.hash))
                if options.dataset in (None, dataset.hex(), best.sealed[1]):
                    found.append((best, tops))
                break
    if not found:
        raise last or Refused("not-found", "no snapshot of that dataset" if options.dataset else "no valid head at any site")
    if len(found) > 1:
        raise Usage("several datasets, choose with --dataset, by name or id: "
                    + ", ".join(f"{json.dumps(s.sealed[1])} {s.head.dataset.hex()} of {when(s.sealed[4])}" for s, _ in found))
    best, tops = found[0]
    sides = other_sides(archive.heads, archive.forks, best.head)
    need(not sides, "fork", f"head {best.head.hash.hex()} is on one side of a fork, {len(sides)} on another; choose one with --head")
    for other in tops:
        if other is not best.head:
            note(f"passed over head {other.hash.hex()}, as new as {best.head.hash.hex()} and no newer in time, or not to be opened")
    return best, best.head not in tops


def command_restore(options) -> int:
    archive = open_archive(options)
    snapshot, stale = choose(archive, options)
    print(f"head {snapshot.head.hash.hex()} of {json.dumps(snapshot.sealed[1])}, finished {when(snapshot.sealed[4])}")
    result = restore(snapshot, options.to)
    if result != 4 and (stale or snapshot.head.value[10] or archive.hidden):
        return 6
    return result or (3 if archive.forks or archive.charter_alarms() else 0)


def command_stripe(options) -> int:
    """One stripe of one run, by the ledgers that lie under the run, or else by the shards' own headers."""
    archive, run, ordinal = open_archive(options), options.run, options.ordinal
    envelope = archive.run_key(run, None)
    described = []
    for _, data in archive.stores.matching(f"runs/{run.hex()}/ledger.*", RECORD_CAP):
        try:
            described += [s for o, s in read_ledger(data, archive.anchor, run).items() if o == ordinal]
        except Refused as why:
            note(f"ledger part: {why}")
    described = described or from_headers(archive, run, ordinal)
    why = Refused("not-found", f"stripe {ordinal} of run {run.hex()}")
    for stripe in described:
        try:
            plain = archive.open_stripe(stripe, envelope)
            for c in read_directory(plain):
                kind, codec = {1: "data", 2: "page"}[c.kind], {0: "stored", 1: "zstd"}[c.codec]
                print(f"{kind} {codec} offset {c.offset} stored {c.stored} raw {c.raw} id {c.id.hex()}")
            return 0
        except Refused as error:
            why = error
    raise why


def from_headers(archive: Archive, run: bytes, ordinal: int) -> list[Stripe]:
    """What the shards themselves say. Nobody vouches for it; the commitment and the segments' tags decide."""
    groups: dict[tuple, dict[int, bytes]] = {}
    for name, data in archive.stores.matching(f"shards/{run.hex()}/{ordinal // 4096:06}/{ordinal:010}.*", 152 + STRIPE_CAP + STRIPE_CAP // 2048):
        try:
            shard = read_shard(data)
            groups.setdefault((shard.context, shard.commitment), {})[shard.index] = hash_of(shard.payload)
        except Refused as why:
            note(f"{name}: {why}")
    note("no ledger describes the stripe; going by the shards' headers")
    return [Stripe(context, commitment, [found.get(i) for i in range(max(context.k, max(found) + 1))])
            for (context, commitment), found in groups.items()]


def command_inspect(options) -> int:
    data = Path(options.file).read_bytes()
    context, index, commitment = read_shard_header(data)
    print(f"anchor     {context.anchor.hex()}\nrun        {context.run.hex()}\nordinal    {context.ordinal}")
    print(f"index      {index} ({'data' if index < context.k else 'parity'}), k {context.k}, payload {context.payload} bytes")
    print(f"salt       {context.salt.hex()}\nlabel tag  {context.label_tag.hex()}\ncommitment {commitment.hex()}")
    print(f"payload    {hash_of(read_shard(data).payload).hex()}, trailer agrees")
    return 0


def command_charter(options) -> int:
    """A charter file: each version, who signed it, what becomes of it. 3 when signatures or plates are missing."""
    data = Path(options.file).read_bytes()
    objects, plates = read_charter_file(data)
    first = read_charter(objects[0], options.archive)
    history, complete = Charters(first), True
    print(f"archive {first.hash.hex()}" + ("" if options.archive else ", as the file itself says; compare it, or give --archive"))
    print_version(first, [s[0] for s in split_signed(objects[0], RECORD_CAP)[1]], None)
    for data in objects[1:]:
        need(complete, "missing-signature", "a version follows one that isn't signed by enough roots")
        charter, signers = proposed_charter(data, history)
        complete = print_version(charter, signers, history.newest)
        if complete:
            history.versions.append(charter)
    keys = {key: public for version in history.versions + [charter_of(split_signed(objects[-1], RECORD_CAP)[0])]
            for key, public in version.roots.items() if history.newest.revoked.get(key, (None,))[0] != COMPROMISED}
    good = True
    for data in plates:
        try:
            value = read_plate(data, keys)
            need(value[1] == first.hash, "wrong-archive", "a plate of another archive")
            print(f"plate for site {value[2].hex()}")
        except Refused as why:
            good = False
            print(f"plate refused: {why}")
    return 0 if complete and good else 3


class KitFolder:
    """A kit in a folder [section 19]: files under their own names, or in pieces under those that they have at a site."""

    def __init__(self, folder: str, anchor: bytes | None):
        self.folder = Path(folder)
        names = sorted(name for name in os.listdir(folder) if re.fullmatch(r"manifest(\.[0-9a-f]{16})?", name))
        need(names, "not-found", f"{folder} has no manifest of a kit")
        data = read_some(str(self.folder / names[0]), "kit's manifest", KIT_CAP)
        claimed = record(split_signed(data, KIT_CAP)[0], KIT)     # believed only once the charters that it names vouch for it
        check_kit(claimed)
        self.lines = {line[0]: line for line in claimed[8]}
        objects, _ = read_charter_file(self.read("charters"))
        self.anchor = anchor or claimed[1]
        self.charters = Charters(read_charter(objects[0], self.anchor))
        for one in objects[1:]:
            self.charters.versions.append(read_next_charter(one, self.charters))
        self.value, self.digest = read_kit(data, self.anchor, self.charters)

    def read(self, name: str) -> bytes:
        need(name in self.lines, "not-found", f"the kit has no {name}")
        _, _, length, digest, pieces = self.lines[name]
        whole = self.folder / name
        paths = [whole] if whole.exists() else [self.folder / f"{name}.{i:03}.{piece.hex()[:16]}" for i, piece in enumerate(pieces)]
        need(all(path.is_file() for path in paths), "not-found", f"{name} is missing in the kit")
        need(sum(path.stat().st_size for path in paths) == length, "bad-length", f"{name} isn't what the manifest says")
        data = b"".join(path.read_bytes() for path in paths)
        need(hash_of(data) == digest, "bad-hash", f"{name} isn't what the manifest says")
        return data

    def logins(self, identity: XWing) -> str:
        charter = self.charters.by_number[self.value[3]]
        return open_logins(read_sealed_logins(self.read("credentials.sealed"), self.anchor, self.value[2], charter), identity)


def command_kit(options) -> int:
    """A kit in a folder: every file checked; with a key, its credentials written to a file. Nothing is printed of them."""
    named, identity = None, None
    if options.share:
        identity, named = open_shares(options)
    elif options.identity:
        key = open_identity(options)
        identity, named = XWing(key.secret), key.archive
    need(not (options.anchor and named) or options.anchor == named, "wrong-archive", "the key is another archive's")
    kit = KitFolder(options.folder, options.anchor or named)
    for name in kit.lines:
        kit.read(name)
    print(f"kit {kit.value[2]} of archive {kit.anchor.hex()}, digest {kit.digest.hex()}" + ("" if options.anchor or named else "; only the kit says which archive it is of"))
    print(f"made {when(kit.value[5])} under charter version {kit.value[3]}, with {kit.value[6]}; {len(kit.lines)} files, all right")
    print(kit.read("sites.toml").decode("utf-8", "replace"))
    if options.out:
        if identity is None:
            raise Usage("credentials open with --identity or --share")
        with os.fdopen(os.open(options.out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(kit.logins(identity))
        print(f"credentials by address in {options.out}")
    return 0


def read_plate(data: bytes, roots: dict[bytes, bytes]) -> dict:
    body, _ = open_signed(data, RECORD_CAP, "exclave site v1", roots)
    return record(body, PLATE)


def print_version(charter: Charter, signers: list[bytes], before: Charter | None) -> bool:
    """One version's lines; whether enough roots signed it."""
    print(f"version {charter.value[1]}, created {when(charter.value[3])}, digest {charter.hash.hex()}")
    complete = True
    for version in (before, charter) if before else (charter,):
        number, (threshold, keys) = version.value[1], version.value[4]
        there = [key for key in signers if key in version.roots]
        complete &= len(there) >= threshold
        print(f"    {len(there)} of {len(keys)} roots of version {number} signed, {threshold} must" + "".join(f"\n        {key.hex()}" for key in there))
    for key, (reason, pins) in charter.revoked.items():
        print(f"    revoked {key.hex()}, {'compromised' if reason == COMPROMISED else 'retired'}, {len(pins)} pins")
    print("    " + ("holds" if complete else "follows by the law of succession; signatures are missing still"))
    return complete


def command_vector(options) -> int:
    """Evaluate one file of tests/vectors and print the outcome; 0 when it is the one the file expects."""
    import vector_runner
    outcome, expected = vector_runner.run(Path(options.file))
    print(outcome)
    return 0 if outcome == expected else 1


def digits(size: int):
    """An argument of so many bytes in hex."""
    def parse(text: str) -> bytes:
        if not re.fullmatch(rf"[0-9a-fA-F]{{{2 * size}}}", text):
            raise argparse.ArgumentTypeError(f"{text!r} isn't {2 * size} hex digits")
        return bytes.fromhex(text)
    return parse


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description="Restore an Exclave archive from folders of shards.")
    commands = parser.add_subparsers(dest="command", required=True)
    keyed = argparse.ArgumentParser(add_help=False)
    keyed.add_argument("--site", nargs="+", action="extend", required=True, metavar="DIR", help="one site's store")
    opened = keyed.add_mutually_exclusive_group(required=True)
    opened.add_argument("--identity", metavar="KEY", help="recovery key file")
    opened.add_argument("--share", action="append", metavar="FILE", help="a share of it, once for each: a file, or - for its text")
    keyed.add_argument("--set", metavar="FILE", help="the share set")
    keyed.add_argument("--ceremony-key", metavar="KEY", help="the key file that opens shares which came by wire")
    keyed.add_argument("--anchor", metavar="HEX", type=digits(32), help="the archive's anchor, when the key file doesn't hold it")
    keyed.add_argument("--passphrase-file", metavar="FILE")
    commands.add_parser("heads", parents=[keyed], help="list snapshots").set_defaults(run_command=command_heads)
    commands.add_parser("names", parents=[keyed], help="print the directory of names, and datasets' records").set_defaults(run_command=command_names)
    sub = commands.add_parser("restore", parents=[keyed], help="restore a snapshot")
    sub.add_argument("--dataset", metavar="NAME|ID")
    sub.add_argument("--head", metavar="HASH", type=digits(32))
    sub.add_argument("--to", required=True, metavar="DIR")
    sub.set_defaults(run_command=command_restore)
    sub = commands.add_parser("stripe", parents=[keyed], help="open one stripe and print its directory")
    sub.add_argument("run", metavar="RUN", type=digits(16))
    sub.add_argument("ordinal", metavar="ORDINAL", type=int)
    sub.set_defaults(run_command=command_stripe)
    sub = commands.add_parser("charter", help="print and judge a charter file")
    sub.add_argument("file", metavar="FILE")
    sub.add_argument("--archive", metavar="HEX", type=digits(32), help="the archive's anchor")
    sub.set_defaults(run_command=command_charter)
    sub = commands.add_parser("log", help="check the transparency logs, or a proof of an entry")
    sub.add_argument("--site", nargs="+", action="extend", required=True, metavar="DIR", help="one site's store")
    sub.add_argument("--anchor", metavar="HEX", type=digits(32), required=True, help="the archive's anchor")
    sub.add_argument("--proof", metavar="FILE", help="a .tlog-proof, instead of the logs")
    sub.set_defaults(run_command=command_log)
    sub = commands.add_parser("kit", help="check a kit in a folder; write its credentials to a file")
    sub.add_argument("folder", metavar="DIR")
    opened = sub.add_mutually_exclusive_group()
    opened.add_argument("--identity", metavar="KEY", help="recovery key file")
    opened.add_argument("--share", action="append", metavar="FILE", help="a share of it, once for each: a file, or - for its text")
    for name, more in (("--set", {}), ("--ceremony-key", {}), ("--passphrase-file", {}), ("--out", {}), ("--anchor", {"type": digits(32)})):
        sub.add_argument(name, metavar="HEX" if more else "FILE", **more)
    sub.set_defaults(run_command=command_kit)
    for name, command, what in (("inspect", command_inspect, "print a shard's header"), ("vector", command_vector, "evaluate a test vector")):
        sub = commands.add_parser(name, help=what)
        sub.add_argument("file", metavar="FILE")
        sub.set_defaults(run_command=command)
    options = parser.parse_args(arguments)
    try:
        result = options.run_command(options)
        sys.stdout.flush()
        return result
    except Refused as why:
        note(str(why))
        return 4 if why.kind in ("not-found", "too-few-shards", "too-few-shares") else 5
    except Usage as error:
        note(str(error))
        return 2
    except KeyboardInterrupt:
        note("interrupted; what is complete stays, restore again to a new or an empty folder")
        return 130
    except MemoryError:
        note("there isn't enough memory for this")
        return 1
    except BrokenPipeError:
        return 1    # whoever read our output went away
    except (Failed, OSError) as error:
        note(str(error))
        return 1


# BIP-39's English list [section 17]; word_list() checks it.
WORDS = """
abandon ability able about above absent absorb abstract absurd abuse access accident account accuse achieve acid acoustic acquire across act action
actor actress actual adapt add addict address adjust admit adult advance advice aerobic affair afford afraid again age agent agree ahead aim air
airport aisle alarm album alcohol alert alien all alley allow almost alone alpha already also alter always amateur amazing among amount amused analyst
anchor ancient anger angle angry animal ankle announce annual another answer antenna antique anxiety any apart apology appear apple approve april arch
arctic area arena argue arm armed armor army around arrange arrest arrive arrow art artefact artist artwork ask aspect assault asset assist assume
asthma athlete atom attack attend attitude attract auction audit august aunt author auto autumn average avocado avoid awake aware away awesome awful
awkward axis baby bachelor bacon badge bag balance balcony ball bamboo banana banner bar barely bargain barrel base basic basket battle beach bean
beauty because become beef before begin behave behind believe below belt bench benefit best betray better between beyond bicycle bid bike bind biology
bird birth bitter black blade blame blanket blast bleak bless blind blood blossom blouse blue blur blush board boat body boil bomb bone bonus book
boost border boring borrow boss bottom bounce box boy bracket brain brand brass brave bread breeze brick bridge brief bright bring brisk broccoli
broken bronze broom brother brown brush bubble buddy budget buffalo build bulb bulk bullet bundle bunker burden burger burst bus business busy butter
buyer buzz cabbage cabin cable cactus cage cake call calm camera camp can canal cancel candy cannon canoe canvas canyon capable capital captain car
carbon card cargo carpet carry cart case cash casino castle casual cat catalog catch category cattle caught cause caution cave ceiling celery cement
census century cereal certain chair chalk champion change chaos chapter charge chase chat cheap check cheese chef cherry chest chicken chief child
chimney choice choose chronic chuckle chunk churn cigar cinnamon circle citizen city civil claim clap clarify claw clay clean clerk clever click
client cliff climb clinic clip clock clog close cloth cloud clown club clump cluster clutch coach coast coconut code coffee coil coin collect color
column combine come comfort comic common company concert conduct confirm congress connect consider control convince cook cool copper copy coral core
corn correct cost cotton couch country couple course cousin cover coyote crack cradle craft cram crane crash crater crawl crazy cream credit creek
crew cricket crime crisp critic crop cross crouch crowd crucial cruel cruise crumble crunch crush cry crystal cube culture cup cupboard curious
current curtain curve cushion custom cute cycle dad damage damp dance danger daring dash daughter dawn day deal debate debris decade december decide
decline decorate decrease deer defense define defy degree delay deliver demand demise denial dentist deny depart depend deposit depth deputy derive
describe desert design desk despair destroy detail detect develop device devote diagram dial diamond diary dice diesel diet differ digital dignity
dilemma dinner dinosaur direct dirt disagree discover disease dish dismiss disorder display distance divert divide divorce dizzy doctor document dog
doll dolphin domain donate donkey donor door dose double dove draft dragon drama drastic draw dream dress drift drill drink drip drive drop drum dry
duck dumb dune during dust dutch duty dwarf dynamic eager eagle early earn earth easily east easy echo ecology economy edge edit educate effort egg
eight either elbow elder electric elegant element elephant elevator elite else embark embody embrace emerge emotion employ empower empty enable enact
end endless endorse enemy energy enforce engage engine enhance enjoy enlist enough enrich enroll ensure enter entire entry envelope episode equal
equip era erase erode erosion error erupt escape essay essence estate eternal ethics evidence evil evoke evolve exact example excess exchange excite
exclude excuse execute exercise exhaust exhibit exile exist exit exotic expand expect expire explain expose express extend extra eye eyebrow fabric
face faculty fade faint faith fall false fame family famous fan fancy fantasy farm fashion fat fatal father fatigue fault favorite feature february
federal fee feed feel female fence festival fetch fever few fiber fiction field figure file film filter final find fine finger finish fire firm first
fiscal fish fit fitness fix flag flame flash flat flavor flee flight flip float flock floor flower fluid flush fly foam focus fog foil fold follow
food foot force forest forget fork fortune forum forward fossil foster found fox fragile frame frequent fresh friend fringe frog front frost frown
frozen fruit fuel fun funny furnace fury future gadget gain galaxy gallery game gap garage garbage garden garlic garment gas gasp gate gather gauge
gaze general genius genre gentle genuine gesture ghost giant gift giggle ginger giraffe girl give glad glance glare glass glide glimpse globe gloom
glory glove glow glue goat goddess gold good goose gorilla gospel gossip govern gown grab grace grain grant grape grass gravity great green grid grief
grit grocery group grow grunt guard guess guide guilt guitar gun gym habit hair half hammer hamster hand happy harbor hard harsh harvest hat have hawk
hazard head health heart heavy hedgehog height hello helmet help hen hero hidden high hill hint hip hire history hobby hockey hold hole holiday hollow
home honey hood hope horn horror horse hospital host hotel hour hover hub huge human humble humor hundred hungry hunt hurdle hurry hurt husband hybrid
ice icon idea identify idle ignore ill illegal illness image imitate immense immune impact impose improve impulse inch include income increase index
indicate indoor industry infant inflict inform inhale inherit initial inject injury inmate inner innocent input inquiry insane insect inside inspire
install intact interest into invest invite involve iron island isolate issue item ivory jacket jaguar jar jazz jealous jeans jelly jewel job join joke
journey joy judge juice jump jungle junior junk just kangaroo keen keep ketchup key kick kid kidney kind kingdom kiss kit kitchen kite kitten kiwi
knee knife knock know lab label labor ladder lady lake lamp language laptop large later latin laugh laundry lava law lawn lawsuit layer lazy leader
leaf learn leave lecture left leg legal legend leisure lemon lend length lens leopard lesson letter level liar liberty library license life lift light
like limb limit link lion liquid list little live lizard load loan lobster local lock logic lonely long loop lottery loud lounge love loyal lucky
luggage lumber lunar lunch luxury lyrics machine mad magic magnet maid mail main major make mammal man manage mandate mango mansion manual maple
marble march margin marine market marriage mask mass master match material math matrix matter maximum maze meadow mean measure meat mechanic medal
media melody melt member memory mention menu mercy merge merit merry mesh message metal method middle midnight milk million mimic mind minimum minor
minute miracle mirror misery miss mistake mix mixed mixture mobile model modify mom moment monitor monkey monster month moon moral more morning
mosquito mother motion motor mountain mouse move movie much muffin mule multiply muscle museum mushroom music must mutual myself mystery myth naive
name napkin narrow nasty nation nature near neck need negative neglect neither nephew nerve nest net network neutral never news next nice night noble
noise nominee noodle normal north nose notable note nothing notice novel now nuclear number nurse nut oak obey object oblige obscure observe obtain
obvious occur ocean october odor off offer office often oil okay old olive olympic omit once one onion online only open opera opinion oppose option
orange orbit orchard order ordinary organ orient original orphan ostrich other outdoor outer output outside oval oven over own owner oxygen oyster
ozone pact paddle page pair palace palm panda panel panic panther paper parade parent park parrot party pass patch path patient patrol pattern pause
pave payment peace peanut pear peasant pelican pen penalty pencil people pepper perfect permit person pet phone photo phrase physical piano picnic
picture piece pig pigeon pill pilot pink pioneer pipe pistol pitch pizza place planet plastic plate play please pledge pluck plug plunge poem poet
point polar pole police pond pony pool popular portion position possible post potato pottery poverty powder power practice praise predict prefer
prepare present pretty prevent price pride primary print priority prison private prize problem process produce profit program project promote proof
property prosper protect proud provide public pudding pull pulp pulse pumpkin punch pupil puppy purchase purity purpose purse push put puzzle pyramid
quality quantum quarter question quick quit quiz quote rabbit raccoon race rack radar radio rail rain raise rally ramp ranch random range rapid rare
rate rather raven raw razor ready real reason rebel rebuild recall receive recipe record recycle reduce reflect reform refuse region regret regular
reject relax release relief rely remain remember remind remove render renew rent reopen repair repeat replace report require rescue resemble resist
resource response result retire retreat return reunion reveal review reward rhythm rib ribbon rice rich ride ridge rifle right rigid ring riot ripple
risk ritual rival river road roast robot robust rocket romance roof rookie room rose rotate rough round route royal rubber rude rug rule run runway
rural sad saddle sadness safe sail salad salmon salon salt salute same sample sand satisfy satoshi sauce sausage save say scale scan scare scatter
scene scheme school science scissors scorpion scout scrap screen script scrub sea search season seat second secret section security seed seek segment
select sell seminar senior sense sentence series service session settle setup seven shadow shaft shallow share shed shell sheriff shield shift shine
ship shiver shock shoe shoot shop short shoulder shove shrimp shrug shuffle shy sibling sick side siege sight sign silent silk silly silver similar
simple since sing siren sister situate six size skate sketch ski skill skin skirt skull slab slam sleep slender slice slide slight slim slogan slot
slow slush small smart smile smoke smooth snack snake snap sniff snow soap soccer social sock soda soft solar soldier solid solution solve someone
song soon sorry sort soul sound soup source south space spare spatial spawn speak special speed spell spend sphere spice spider spike spin spirit
split spoil sponsor spoon sport spot spray spread spring spy square squeeze squirrel stable stadium staff stage stairs stamp stand start state stay
steak steel stem step stereo stick still sting stock stomach stone stool story stove strategy street strike strong struggle student stuff stumble
style subject submit subway success such sudden suffer sugar suggest suit summer sun sunny sunset super supply supreme sure surface surge surprise
surround survey suspect sustain swallow swamp swap swarm swear sweet swift swim swing switch sword symbol symptom syrup system table tackle tag tail
talent talk tank tape target task taste tattoo taxi teach team tell ten tenant tennis tent term test text thank that theme then theory there they
thing this thought three thrive throw thumb thunder ticket tide tiger tilt timber time tiny tip tired tissue title toast tobacco today toddler toe
together toilet token tomato tomorrow tone tongue tonight tool tooth top topic topple torch tornado tortoise toss total tourist toward tower town toy
track trade traffic tragic train transfer trap trash travel tray treat tree trend trial tribe trick trigger trim trip trophy trouble truck true truly
trumpet trust truth try tube tuition tumble tuna tunnel turkey turn turtle twelve twenty twice twin twist two type typical ugly umbrella unable
unaware uncle uncover under undo unfair unfold unhappy uniform unique unit universe unknown unlock until unusual unveil update upgrade uphold upon
upper upset urban urge usage use used useful useless usual utility vacant vacuum vague valid valley valve van vanish vapor various vast vault vehicle
velvet vendor venture venue verb verify version very vessel veteran viable vibrant vicious victory video view village vintage violin virtual virus
visa visit visual vital vivid vocal voice void volcano volume vote voyage wage wagon wait walk wall walnut want warfare warm warrior wash wasp waste
water wave way wealth weapon wear weasel weather web wedding weekend weird welcome west wet whale what wheat wheel when where whip whisper wide width
wife wild will win window wine wing wink winner winter wire wisdom wise wish witness wolf woman wonder wood wool word work world worry worth wrap
wreck wrestle wrist write wrong yard year yellow you young youth zebra zero zone zoo
"""


if __name__ == "__main__":
    # Any name can be printed, whatever the terminal's encoding.
    sys.stdout.reconfigure(errors="backslashreplace")
    code = main()
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)    # else the interpreter's own last flush complains
    sys.exit(code)
