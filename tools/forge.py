"""forge.py: a tiny encoder of Exclave archives, for tests only. Written from FORMAT.md alone; never use it for real data.

Everything that the format leaves to chance is drawn from a seed with SHAKE-256, so that a seed always gives the same keys,
names and contents. ML-DSA signatures and HPKE encapsulations are randomised by their library: they differ from run to run.
It shares no code with rescue.py but the BLAKE3 compression function; parity is computed by Lagrange interpolation rather
than by the matrix, so that each checks the other.
"""

import hashlib
from pathlib import Path

import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from rescue import BLAKE3_IV, blake3_compress

GROUP = 65536
HPKE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class Draw:
    """Named bytes from a seed."""

    def __init__(self, seed: str):
        self.seed = seed

    def __call__(self, name: str, size: int) -> bytes:
        return hashlib.shake_256(f"{self.seed}/{name}".encode()).digest(size)


def h(data: bytes) -> bytes:
    return blake3(data).digest()


def kdf(context: str, material: bytes, length: int = 32) -> bytes:
    return blake3(material, derive_key_context=context).digest(length=length)


# ---- CBOR ------------------------------------------------------------------------------------------------------------

class Raw(bytes):
    """Bytes that go into the encoding as they are: for what mustn't be there."""


def head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    for code, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << 8 * width:
            return bytes([major << 5 | code]) + number.to_bytes(width)
    raise ValueError(number)


def cbor(value) -> bytes:
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, (list, tuple)):
        return head(4, len(value)) + b"".join(map(cbor, value))
    if isinstance(value, dict):
        return head(5, len(value)) + b"".join(cbor(k) + cbor(value[k]) for k in sorted(value))
    raise TypeError(value)


# ---- Keys ------------------------------------------------------------------------------------------------------------

class Signer:
    def __init__(self, seed: bytes):
        self.seed = seed
        self.ed = ed25519.Ed25519PrivateKey.from_private_bytes(seed[:32])
        self.ml = mldsa.MLDSA65PrivateKey.from_seed_bytes(seed[32:64])
        self.public = self.ed.public_key().public_bytes_raw() + self.ml.public_key().public_bytes_raw()
        self.id = h(self.public)

    def sign(self, kind: str, body: bytes) -> list:
        return [self.id, *self.sign_bytes(kind.encode() + b"\0" + body)]

    def sign_bytes(self, message: bytes) -> tuple[bytes, bytes]:
        return self.ed.sign(message), self.ml.sign(message)


def signed(kind: str, body: bytes, *signers: Signer) -> bytes:
    return cbor([1, body, sorted((s.sign(kind, body) for s in signers), key=lambda s: s[0])])


class Recipient:
    def __init__(self, seed: bytes):
        self.seed = seed
        wide = hashlib.shake_256(seed).digest(96)
        self.secret = hpke.MLKEM768X25519PrivateKey(mlkem.MLKEM768PrivateKey.from_seed_bytes(wide[:64]),
                                                    x25519.X25519PrivateKey.from_private_bytes(wide[64:]))
        kem, dh = mlkem.MLKEM768PrivateKey.from_seed_bytes(wide[:64]), x25519.X25519PrivateKey.from_private_bytes(wide[64:])
        self.public = kem.public_key().public_bytes_raw() + dh.public_key().public_bytes_raw()
        self.id = h(self.public)

    def stanza(self, anchor: bytes, run: bytes, commitment: bytes, run_key: bytes) -> list:
        info = b"".join(len(x).to_bytes(2) + x for x in (b"exclave envelope v1", anchor, run, self.id, commitment))
        sealed = HPKE.encrypt(run_key, self.secret.public_key(), info=info)
        return [self.id, sealed[:1120], sealed[1120:]]


def keyfile(kind: str, public: bytes, secret: bytes, passphrase: bytes, salt: bytes, archive: bytes | None = None,
            memory: int = 64, passes: int = 1, lanes: int = 1) -> bytes:
    key = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory).derive(passphrase)
    ciphertext = AESGCM(key).encrypt(bytes(12), secret, b"exclave key file v1\0" + kind.encode())
    lines = ['format = "exclave key file v1"', f'kind = "{kind}"', f'public = "{public.hex()}"']
    lines += [f'archive = "{archive.hex()}"'] if archive else []
    lines += ["", "[sealed]", 'kdf = "argon2id"', f"memory_kib = {memory}", f"passes = {passes}", f"lanes = {lanes}",
              f'salt = "{salt.hex()}"', f'ciphertext = "{ciphertext.hex()}"', ""]
    return "\n".join(lines).encode()


# ---- Shares ----------------------------------------------------------------------------------------------------------

def aes_mul(a: int, b: int) -> int:
    """GF(2^8) / 0x11B by powers of the generator 3, so that it is another way than rescue.py's."""
    if not a or not b:
        return 0
    return AES_POWERS[(AES_POWERS.index(a) + AES_POWERS.index(b)) % 255]


AES_POWERS = [1]
while len(AES_POWERS) < 255:
    last = AES_POWERS[-1]
    AES_POWERS.append(last ^ (last << 1 ^ (0x11B if last >> 7 else 0)))


def shamir(secret: bytes, coefficients: list[bytes], x: int) -> bytes:
    """The polynomial with these coefficients, the secret first, at x: power by power."""
    value, power = bytearray(secret), 1
    for coefficient in coefficients:
        power = aes_mul(power, x)
        value = bytearray(a ^ aes_mul(power, b) for a, b in zip(value, coefficient))
    return bytes(value)


def share_header(set_id: bytes, epoch: int, needed: int, groups: int, group: int, x: int, t: int, m: int) -> bytes:
    return b"\1" + set_id + epoch.to_bytes(4) + bytes([(needed - 1) * 16 + groups - 1, group * 16 + x - 1, (t - 1) * 16 + m - 1])


def share_set(draw: Draw, recipient, shape: list[tuple[str, int, list[tuple[str, int]]]], needed: int, epoch: int = 0,
              set_id: bytes | None = None) -> tuple[dict, list[list[bytes]]]:
    """A set over groups (name, t, [(name, body)]), and the shares of each group."""
    set_id = set_id or draw("share set", 8)
    seed, count = recipient.seed, len(shape)
    outer = [draw(f"outer {epoch} {i}", 32) for i in range(1, needed)]
    groups, shares = [], []
    for at, (name, t, people) in enumerate(shape):
        secret = seed if count == 1 else shamir(seed, outer, at + 1)
        inner = [draw(f"inner {epoch} {at} {i}", 32) for i in range(1, t)]
        header = [share_header(set_id, epoch, needed, count, at, x, t, len(people)) for x in range(1, len(people) + 1)]
        mine = [head + shamir(secret, inner, x) for x, head in enumerate(header, 1)]
        committed = kdf("exclave 2026 group commitment v1", header[0][:14] + bytes([at]) + secret)
        custodians = [[who, body, kdf("exclave 2026 share commitment v1", share)] for (who, body), share in zip(people, mine)]
        groups.append([name, t, committed, custodians])
        shares.append(mine)
    return {0: 1, 1: set_id, 2: epoch, 3: recipient.id, 4: needed, 5: groups}, shares


def wrapped_share(share: bytes, to, info: bytes = b"exclave share v1") -> bytes:
    info = b"".join(len(field).to_bytes(2) + field for field in (info, to.id))
    sealed = HPKE.encrypt(share, to.secret.public_key(), info=info)
    return (f'format = "exclave wrapped share v1"\nto = "{to.id.hex()}"\nenc = "{sealed[:1120].hex()}"\n'
            f'ciphertext = "{sealed[1120:].hex()}"\n').encode()


def share_words(share: bytes, words: list[str], change=lambda numbers: numbers) -> str:
    bits = "".join(f"{byte:08b}" for byte in share) + "0"
    numbers = change([int(bits[at:at + 11], 2) for at in range(0, 385, 11)])
    lines = []
    for line in range(7):
        ours = numbers[line * 5:line * 5 + 5]
        check = 0
        for power, value in enumerate([line + 1, *ours]):
            for _ in range(6 - power):
                value = value << 1 ^ (0b100000000101 if value >> 10 else 0)
            check ^= value
        lines.append(" ".join(words[n] for n in [*ours, check]))
    return "\n".join(lines) + "\n"


def share_digits(share: bytes) -> str:
    numbers = [int.from_bytes(share[at:at + 2]) for at in range(0, 48, 2)]
    lines = []
    for line in range(6):
        ours = numbers[line * 4:line * 4 + 4]
        check = sum(value * 3**(5 - power) for power, value in enumerate([line + 1, *ours])) % 65537
        lines.append(" ".join(f"{n:05}" for n in [*ours, check]))
    return "\n".join(lines) + "\n"


# ---- Stripes, shards, code -------------------------------------------------------------------------------------------

def context(anchor: bytes, run: bytes, ordinal: int, salt: bytes, label_tag: bytes, k: int, payload: int = GROUP) -> bytes:
    return (b"EXCLSHRD" + bytes([1, 1, 1, k]) + payload.to_bytes(4) + anchor + run + ordinal.to_bytes(4) + salt + label_tag)


def directory_entry(kind: int, codec: int, offset: int, stored: int, raw: int, chunk_id: bytes, zero: bytes = b"\0\0") -> bytes:
    return bytes([kind, codec]) + zero + offset.to_bytes(4) + stored.to_bytes(4) + raw.to_bytes(4) + chunk_id


def plaintext(capacity: int, stored: bytes, directory: bytes, size: int | None = None) -> bytes:
    tail = directory + (len(directory) if size is None else size).to_bytes(4)
    return stored + bytes(capacity - len(stored) - len(tail)) + tail


def capacity(k: int, payload: int = GROUP) -> int:
    return k * payload // GROUP * 65520


def stripe_keys(run_key: bytes, ctx: bytes) -> tuple[bytes, bytes]:
    wide = kdf("exclave 2026 stripe key v1", run_key + ctx, 64)
    return wide[:32], wide[32:]


def seal(key: bytes, plain: bytes, final: int | None = None, order=None) -> bytes:
    """`final` is the segment that bears the last flag, `order` the counters that the segments are sealed under."""
    count, out = len(plain) // 65520, []
    for s in range(count):
        number = order[s] if order else s
        flag = s == (count - 1 if final is None else final)
        nonce = bytes(7) + number.to_bytes(4) + bytes([flag])
        out.append(AESGCM(key).encrypt(nonce, plain[s * 65520:(s + 1) * 65520], b""))
    return b"".join(out)


def gf_mul(a: int, b: int) -> int:
    total = 0
    while b:
        total ^= a * (b & 1)
        a, b = a << 1 ^ (0x11D if a & 0x80 else 0), b >> 1
    return total


def gf_inverse(a: int) -> int:
    return next(b for b in range(1, 256) if gf_mul(a, b) == 1)


def parity(data: list[bytes], index: int) -> bytes:
    """Data shard j is a polynomial's value at j; a parity shard is its value at the shard's index."""
    total = 0
    for j, block in enumerate(data):
        weight = 1
        for m in range(len(data)):
            if m != j:
                weight = gf_mul(weight, gf_mul(index ^ m, gf_inverse(j ^ m)))
        total ^= int.from_bytes(block.translate(bytes(gf_mul(weight, x) for x in range(256))))
    return total.to_bytes(len(data[0]))


def encode(sealed: bytes, k: int, n: int) -> list[bytes]:
    size = len(sealed) // k
    data = [sealed[j * size:(j + 1) * size] for j in range(k)]
    return data + [parity(data, i) for i in range(k, n)]


def chaining_value(group: bytes, first_chunk: int) -> bytes:
    """The BLAKE3 subtree over one group of 64 chunks of 1,024 bytes."""
    values = []
    for c in range(len(group) // 1024):
        cv = BLAKE3_IV
        for b in range(16):
            block = group[c * 1024 + b * 64:c * 1024 + b * 64 + 64]
            flags = (1 if b == 0 else 0) | (2 if b == 15 else 0)
            out = blake3_compress(cv, block, first_chunk + c, 64, flags)
            cv = tuple(int.from_bytes(out[i:i + 4], "little") for i in range(0, 32, 4))
        values.append(out)
    while len(values) > 1:
        values = [blake3_compress(BLAKE3_IV, a + b, 0, 64, 4) for a, b in zip(values[::2], values[1::2])]
    return values[0]


def shard(ctx: bytes, index: int, commitment: bytes, payload: bytes) -> bytes:
    groups = len(payload) // GROUP
    trailer = h(payload) if groups == 1 else b"".join(
        chaining_value(payload[g * GROUP:(g + 1) * GROUP], g * 64) for g in range(groups))
    return ctx + bytes([index, 0, 0, 0]) + commitment + payload + trailer


def pack_chunk(raw: bytes) -> tuple[int, bytes]:
    frame = zstandard.ZstdCompressor(level=3).compress(raw)
    return (1, frame) if len(frame) < len(raw) else (0, raw)


def box(run_key: bytes, purpose: int, salt: bytes, plain: bytes) -> bytes:
    wide = kdf("exclave 2026 box v1", run_key + bytes([purpose]) + salt, 64)
    return salt + wide[32:] + AESGCM(wide[:32]).encrypt(bytes(12), plain, b"")


def label_box(run_key: bytes, salt: bytes, label: bytes) -> bytes:
    return box(run_key, 1, salt, (len(label).to_bytes(2) + label).ljust(256, b"\0"))


def head_box(run_key: bytes, salt: bytes, sealed: bytes) -> bytes:
    plain = len(sealed).to_bytes(4) + sealed
    whole = -(-(len(plain) + 80) // 1024) * 1024
    return box(run_key, 2, salt, plain.ljust(whole - 80, b"\0"))


def live_set(ordinals) -> list[int]:
    numbers, at, inside = [0], 0, False
    for ordinal in range(max(ordinals, default=-1) + 1):
        if (ordinal in ordinals) != inside:
            inside = not inside
            numbers.append(0)
        numbers[-1] += 1
    return numbers if inside else []


# ---- An archive ------------------------------------------------------------------------------------------------------

class Forge:
    """One archive: two roots, two writers, two recipients, three sites, class 7 with 2+1 and 64 KiB payloads."""

    def __init__(self, seed: str = "exclave"):
        self.draw = draw = Draw(seed)
        self.roots = [Signer(draw(f"root {i}", 64)) for i in range(2)]
        self.writers = [Signer(draw(f"writer {i}", 64)) for i in range(2)]
        self.recipients = sorted((Recipient(draw(f"recipient {i}", 32)) for i in range(2)), key=lambda r: r.id)
        self.site_ids = [draw(f"site {i}", 16) for i in range(3)]
        self.k, self.n = 2, 3
        self.charter_record = cbor(self.charter_value())
        self.anchor = h(self.charter_record)
        self.incarnation, self.dataset = draw("incarnation", 16), draw("dataset", 16)
        self.secret = draw("dataset secret", 32)
        self.dedup_key = kdf("exclave 2026 chunk id key v1", self.secret)
        self.objects: list[tuple[str, bytes, int | None]] = []    # name, bytes, site (None: every site)

    def charter_value(self) -> dict:
        sites = [{0: s, 1: f"site-{i}", 2: i, 3: i, 4: "xx"} for i, s in enumerate(self.site_ids)]
        return {0: 1, 1: 1, 3: 1_750_000_000, 4: [2, [r.public for r in self.roots]], 5: [[w.public, [7]] for w in self.writers],
                6: [[3, 1, [r.public for r in self.recipients]]], 7: sites, 8: [[7, 1, 2, 1, 0, 0, GROUP, 0, 3]],
                9: self.draw("charter", 16)}

    def add(self, name: str, data: bytes, site: int | None = None, tag: bytes | None = None):
        self.objects.append((f"{self.anchor.hex()[:32]}/{name}.{h(data if tag is None else tag).hex()[:16]}", data, site))

    def write(self, folder: Path):
        for name, data, site in self.objects:
            for s in range(self.n) if site is None else [site]:
                path = folder / f"site{s}" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)

    def envelope_value(self, run: bytes, run_key: bytes, label: str) -> dict:
        commitment = kdf("exclave 2026 run commitment v1", run_key)
        return {0: 1, 1: self.anchor, 2: run, 3: self.dataset, 4: 7, 5: 1, 6: 3, 7: 1, 8: commitment,
                9: label_box(run_key, self.draw(f"label salt {run.hex()}", 32), label.encode()),
                10: [r.stanza(self.anchor, run, commitment, run_key) for r in self.recipients], 11: self.incarnation}

    def charter(self):
        self.add("charter/00000001", signed("exclave charter v1", self.charter_record, *self.roots))


class Run:
    """One run of a forge: packs chunks into stripes, then publishes envelope, ledger, run table and head."""

    def __init__(self, forge: Forge, name: str, label: str = "public"):
        self.forge, self.label = forge, label
        self.id, self.key = forge.draw(f"run {name}", 16), forge.draw(f"run key {name}", 32)
        self.commitment = kdf("exclave 2026 run commitment v1", self.key)
        self.stripes: list[list] = []
        self.stored, self.directory, self.ids = b"", b"", b""

    def put(self, raw: bytes, kind: int = 1) -> list:
        """Pack a chunk; gives [run, ordinal, offset, stored length, raw length, codec, chunk id]."""
        codec, stored = pack_chunk(raw)
        if len(self.stored) + len(stored) + len(self.directory) + 52 > capacity(self.forge.k):
            self.flush()
        chunk_id = blake3(raw, key=self.forge.dedup_key).digest()
        ref = [self.id, len(self.stripes), len(self.stored), len(stored), len(raw), codec, chunk_id]
        self.directory += directory_entry(kind, codec, len(self.stored), len(stored), len(raw), chunk_id)
        self.stored, self.ids = self.stored + stored, self.ids + chunk_id
        return ref

    def flush(self):
        if not self.directory:
            return
        f, ordinal = self.forge, len(self.stripes)
        salt = kdf("exclave 2026 stripe salt v1", self.key + f.draw(f"salt {self.id.hex()} {ordinal}", 32) + self.ids)
        label_tag = kdf("exclave 2026 label tag v1", self.key + self.label.encode(), 16)
        ctx = context(f.anchor, self.id, ordinal, salt, label_tag, f.k)
        key, commitment = stripe_keys(self.key, ctx)
        payloads = encode(seal(key, plaintext(capacity(f.k), self.stored, self.directory)), f.k, f.n)
        for i, payload in enumerate(payloads):
            name = f"shards/{self.id.hex()}/{ordinal // 4096:06}/{ordinal:010}.{i:02}"
            f.add(name, shard(ctx, i, commitment, payload), i, payload)
        self.stripes.append([ctx, commitment, [h(p) for p in payloads]])
        self.stored, self.directory, self.ids = b"", b"", b""

    def publish(self) -> list:
        """Envelope and ledger; gives the run's line for a run table."""
        self.flush()
        f = self.forge
        envelope = signed("exclave envelope v1", cbor(f.envelope_value(self.id, self.key, self.label)), f.writers[0])
        ledger = cbor({0: 1, 1: f.anchor, 2: self.id, 3: 0, 4: [[0, f.site_ids]], 5: self.stripes})
        f.add(f"runs/{self.id.hex()}/envelope", envelope)
        f.add(f"runs/{self.id.hex()}/ledger", ledger)
        return [self.id, self.commitment, live_set(range(len(self.stripes))), [h(ledger)]]


def sealed_value(forge: Forge, root: list, level: int, finished: int, counts: list[int]) -> dict:
    return {0: 1, 1: "registers", 2: "public", 3: finished - 60, 4: finished, 5: 0, 6: forge.draw("source", 32), 7: counts,
            8: level, 9: root, 10: forge.secret, 11: "fixed/40000"}


def head_value(forge: Forge, run: Run, seq: int, previous: bytes | None, pages: list[bytes], sealed: dict, writer: int = 0) -> dict:
    value = {0: 1, 1: forge.anchor, 2: forge.dataset, 3: forge.writers[writer].id, 4: forge.incarnation, 5: seq, 7: [], 8: 1,
             9: 3, 10: 0, 11: 0, 12: run.id, 13: [h(p) for p in pages],
             14: head_box(run.key, forge.draw(f"head salt {run.id.hex()} {seq}", 32), cbor(sealed))}
    return value | ({6: previous} if previous else {})


def publish_head(forge: Forge, value: dict, writer: int = 0) -> bytes:
    body = cbor(value)
    name = f"heads/{forge.writers[writer].id.hex()}/{value[4].hex()}/{value[5]:020}"
    forge.add(name, signed("exclave head v1", body, forge.writers[writer]))
    return h(body)


def page(level: int, items: list, runs: list[bytes]) -> bytes:
    return cbor({0: 1, 1: level, 2: runs, 3: items})


def local(ref: list, runs: list[bytes]) -> list:
    return [runs.index(ref[0])] + ref[1:]


def entry(path: bytes, kind: int, mode: int, **more) -> dict:
    extra = {int(name[1:]): value for name, value in more.items()}
    return {0: path, 1: kind, 2: mode, 3: 1000, 4: 1000, 5: 1_600_000_000, 6: 123_456_789} | extra


def demo(forge: Forge) -> dict[str, bytes]:
    """A charter, two runs and two heads of one dataset. Gives the files of the newest snapshot by path."""
    forge.charter()
    draw = forge.draw
    big = draw("big", 150_000)
    texts = b"the same line again and again\n" * 3000
    sparse_tail = draw("tail", 5000)
    first = Run(forge, "first")
    texts_ref = first.put(texts)
    big_refs = [first.put(big[i:i + 40_000]) for i in range(0, len(big), 40_000)]
    files = {"a/big.bin": big, "a/text": texts, "empty": b"", "link-1": b"linked\n", "z/link-2": b"linked\n"}
    root = first.put(page(0, [entry(b"", 1, 0o755), entry(b"text", 0, 0o600, _10=len(texts),
                     _14=[[0, len(texts), [local(texts_ref, [first.id])]]])], [first.id]), 2)
    line = first.publish()
    table = cbor({0: 1, 1: forge.anchor, 2: [line]})
    forge.add(f"runs/{first.id.hex()}/live", table)
    counts = [1, 1, 0, len(texts), 0, 0, 0]
    old = publish_head(forge, head_value(forge, first, 0, None, [table], sealed_value(forge, root, 0, 1_750_000_100, counts)))

    second = Run(forge, "second")
    runs = [first.id, second.id]
    linked, tail = second.put(b"linked\n"), second.put(sparse_tail)
    link = dict(_10=7, _13=b"link-1", _14=[[0, 7, [local(linked, runs)]]])
    pieces = [[i * 40_000, min(40_000, len(big) - i * 40_000), [local(r, runs)]] for i, r in enumerate(big_refs)]
    extents = second.put(page(255, pieces, runs), 2)
    hole = 1 << 20
    files["sparse"] = bytes(hole) + sparse_tail + bytes(1000)
    entries = [
        entry(b"", 1, 0o750), entry(b"a", 1, 0o500), entry(b"a/big.bin", 0, 0o640, _10=len(big), _15=[local(extents, runs)]),
        entry(b"a/text", 0, 0o400, _9=[[b"user.exclave", b"value"]], _10=len(texts), _14=[[0, len(texts), [local(texts_ref, runs)]]]),
        entry(b"a-fifo", 3, 0o600), entry(b"empty", 0, 0o644, _10=0), entry(b"link-1", 0, 0o644, **link),
        entry(b"sparse", 0, 0o644, _10=len(files["sparse"]), _14=[[hole, 5000, [local(tail, runs)]]]),
        entry(b"sym", 2, 0o777, _11=b"../outside"), entry(b"z", 1, 0o755), entry(b"z/link-2", 0, 0o644, **link)]
    low = [second.put(page(0, entries[:6], runs), 2), second.put(page(0, entries[6:], runs), 2)]
    root = second.put(page(1, [[entries[0][0], local(low[0], runs)], [entries[6][0], local(low[1], runs)]], runs), 2)
    lines = sorted([line, second.publish()])
    table = cbor({0: 1, 1: forge.anchor, 2: lines})
    forge.add(f"runs/{second.id.hex()}/live", table)
    counts = [6, 3, 2, sum(map(len, files.values())), 0, 0, 0]
    publish_head(forge, head_value(forge, second, 1, old, [table], sealed_value(forge, root, 1, 1_750_000_200, counts)))
    return files


def small(forge: Forge, make_entries, change_ledger=None, change_line=None, first: bytes | None = None, padding: bytes = b"") -> Run:
    """One run, one head, one page: `make_entries(put)` gives the entries, put(raw) a reference for them.

    What may be wrong: a second ledger part, the run table's line, the path an index page gives for the page, the padding.
    """
    forge.charter()
    run = Run(forge, "small")
    entries = make_entries(lambda raw, kind=1: local(run.put(raw, kind), [run.id]))
    root, level = run.put(page(0, entries, [run.id]), 2), 0
    if first is not None:
        root, level = run.put(page(1, [[first, local(root, [run.id])]], [run.id]), 2), 1
    run.stored += padding
    line = run.publish()
    line = change_line(line) if change_line else line
    if change_ledger:
        part = change_ledger({0: 1, 1: forge.anchor, 2: run.id, 3: 1, 4: [[0, forge.site_ids]], 5: run.stripes})
        forge.add(f"runs/{run.id.hex()}/ledger", part)
        line[3].append(h(part))
    table = cbor({0: 1, 1: forge.anchor, 2: [line]})
    forge.add(f"runs/{run.id.hex()}/live", table)
    publish_head(forge, head_value(forge, run, 0, None, [table], sealed_value(forge, root, level, 1_750_000_000, [0] * 7)))
    return run


if __name__ == "__main__":
    import sys
    forged = Forge("demo")
    demo(forged)
    forged.write(Path(sys.argv[1]))
    r = forged.recipients[0]
    (Path(sys.argv[1]) / "recovery.toml").write_bytes(keyfile("recovery", r.public, r.seed, b"demo", forged.draw("kf", 16), forged.anchor))
