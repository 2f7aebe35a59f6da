"""log_vectors.py: the vectors of the transparency log (FORMAT.md section 21), for make_vectors.py, whose module it is given.

Of each group the first lines succeed; the others differ from one of them in one thing.
"""

import base64, hashlib

from forge import cbor, h


def vectors(m):
    proofs(m)
    consistency(m)


def leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"\0" + data).digest()


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def split(count: int) -> int:
    return 1 << (count - 1).bit_length() - 1


def root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    k = split(len(leaves))
    return node(root(leaves[:k]), root(leaves[k:]))


def path(index: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) < 2:
        return []
    k = split(len(leaves))
    return path(index, leaves[:k]) + [root(leaves[k:])] if index < k else path(index - k, leaves[k:]) + [root(leaves[:k])]


def subproof(old: int, leaves: list[bytes], known: bool) -> list[bytes]:
    if old == len(leaves):
        return [] if known else [root(leaves)]
    k = split(len(leaves))
    return subproof(old, leaves[:k], known) + [root(leaves[k:])] if old <= k else subproof(old - k, leaves[k:], False) + [root(leaves[:k])]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def proofs(m):
    entries = [cbor({0: 1, 1: 2, 2: m.f.anchor})] + [cbor({0: 1, 1: 1, 2: m.draw(f"logged {i}", 32)}) for i in range(299)]
    leaves = [leaf(entry) for entry in entries]
    signer, life = m.W0, m.draw("life", 16)

    def origin(archive=m.f.anchor, who=signer, life=life):
        return f"exclave/{archive.hex()[:32]}/{who.id.hex()}/{life.hex()}"

    def line(name, kind, public, signature):
        return f"\u2014 {name} {b64(hashlib.sha256(name.encode() + chr(10).encode() + kind + public).digest()[:4] + signature)}\n"

    def note(text, under=None, who=signer, ed_flip=None, ml_flip=None, halves=(0, 1), more=""):
        name = under or text.split("\n")[0]
        ed, ml = who.sign_bytes(text.encode())
        ed, ml = (data if at is None else m.flip(data, at) for data, at in ((ed, ed_flip), (ml, ml_flip)))
        both = [line(name, b"\x01", who.public[:32], ed), line(name, b"\xffexclave/ml-dsa-65/v1", who.public[32:], ml)]
        return text + "\n" + "".join(both[i] for i in halves) + more

    def proof(index=7, size=300, entry=None, hashes=None, text=None, extra=True, **how):
        entry = entries[index] if entry is None else entry
        hashes = path(index, leaves[:size]) if hashes is None else hashes
        text = text or f"{origin()}\n{size}\n{b64(root(leaves[:size]))}\n"
        head = "c2sp.org/tlog-proof@v1\n" + (f"extra {b64(entry)}\n" if extra else "") + f"index {index}\n"
        return head + "".join(b64(one) + "\n" for one in hashes) + "\n" + note(text, **how)

    def case(name, expect, comment, body=None, **how):
        body = proof(**how) if body is None else body
        output = entries[how.get("index", 7)] if expect == "success" else None
        m.v(f"logproof-{name}", "logproof", expect, comment, body.encode() if isinstance(body, str) else body, output, anchor=m.f.anchor, public_key=[signer.public])
    case("good", "success", "entry 7 of 300, across two tiles")
    case("first", "success", "the only entry of a log, a charter", index=0, size=1)
    case("last", "success", "the last entry, alone in its tile", index=256, size=257)
    case("cosigned", "success", "a witness signed too; who doesn't know it passes over it", more=line("w.example", b"\x04", bytes(32), bytes(72)))
    good, text = proof(), f"{origin()}\n300\n{b64(root(leaves))}\n"
    case("entry", "bad-hash", "another entry", entry=entries[8])
    case("index", "bad-hash", "the index of its neighbour", good.replace("index 7", "index 6"))
    case("beyond", "bad-length", "an index that the log doesn't have", good.replace("index 7", "index 300"))
    case("hash", "bad-hash", "a bit of a hash is flipped", hashes=[m.flip(one, 9) if i == 3 else one for i, one in enumerate(path(7, leaves))])
    case("short", "bad-length", "a hash is missing", hashes=path(7, leaves)[:-1])
    case("long", "bad-length", "a hash too many", hashes=path(7, leaves) + [leaves[0]])
    case("root", "bad-hash", "a signed checkpoint of another root", text=f"{origin()}\n300\n{b64(leaves[0])}\n")
    case("no-entry", "bad-record", "the entry is left out", extra=False)
    case("entry-kind", "bad-record", "an entry of kind 0", entry=cbor({0: 1, 1: 0, 2: m.f.anchor}))
    case("entry-version", "bad-version", "an entry of version 2", entry=cbor({0: 2, 1: 1, 2: m.f.anchor}))
    case("entry-form", "not-canonical", "bytes after the entry", entry=entries[7] + b"\0")
    case("ed25519", "bad-signature", "a bit of the Ed25519 half is flipped", ed_flip=20)
    case("ml-dsa", "bad-signature", "a bit of the ML-DSA-65 half is flipped", ml_flip=200)
    case("only-ed25519", "missing-signature", "signed as C2SP's tools want it, and no more", halves=(0,))
    case("only-ml-dsa", "missing-signature", "the Ed25519 half is missing", halves=(1,))
    case("twice", "missing-signature", "the Ed25519 half stands twice", halves=(0, 0, 1))
    case("other-name", "missing-signature", "signed under another name than the origin", under="example.com/log")
    case("stranger", "unknown-signer", "the log of a key that nobody knows", text=text.replace(signer.id.hex(), m.STRANGER.id.hex()), who=m.STRANGER)
    case("other-signer", "missing-signature", "a stranger signed the writer's log", who=m.STRANGER)
    case("other-archive", "wrong-archive", "a log of another archive", text=text.replace(m.f.anchor.hex()[:32], m.OTHER_ANCHOR.hex()[:32]))
    case("other-origin", "wrong-archive", "a log that is none of an archive", text=text.replace(origin(), "example.com/log"))
    for name, comment, old, new in [
            ("version", "version 2 of proofs", "@v1", "@v2"), ("index-zero", "an index with a leading zero", "index 7", "index 07"),
            ("index-none", "no index", "index 7\n", ""), ("base64", "base64 without its end", "=\n\nexclave", "\n\nexclave"),
            ("size", "a size with a leading zero", "\n300\n", "\n0300\n"), ("no-line", "no empty line before the checkpoint", "\n\nexclave", "\nexclave"),
            ("dash", "a signature behind a hyphen", "\u2014 exclave", "- exclave"), ("space", "a signature behind two spaces", "\u2014 exclave", "\u2014  exclave"),
            ("tab", "a control character in the checkpoint", "\n300\n", "\n300\t\n")]:
        assert old in good, name
        case(name, "bad-record", comment, good.replace(old, new, 1))
    case("end", "bad-record", "the last line doesn't end", good[:-1])
    case("utf8", "bad-record", "not UTF-8", good.encode().replace(b"index", b"ind\xff"))


def consistency(m):
    leaves = [leaf(bytes([i])) for i in range(200)]

    def case(name, expect, comment, old, new, proof=None, old_root=None, new_root=None):
        proof = (subproof(old, leaves[:new], True) if 0 < old < new else []) if proof is None else proof
        old_root, new_root = old_root or root(leaves[:old]), new_root or root(leaves[:new])
        m.v(f"logconsistency-{name}", "logconsistency", expect, comment, cbor([old, old_root, new, new_root, proof]), new_root if expect == "success" else None)
    for old, new in [(0, 5), (1, 2), (3, 7), (4, 7), (6, 8), (7, 7), (128, 200), (199, 200)]:
        case(f"{old}-{new}", "success", f"a tree of {old} in a tree of {new}", old, new)
    good = subproof(6, leaves[:8], True)
    case("empty", "bad-length", "no proof where one belongs", 6, 8, [])
    case("short", "bad-length", "a hash is missing", 6, 8, good[:-1])
    case("long", "bad-length", "a hash too many", 6, 8, good + good[:1])
    case("nothing", "bad-length", "a proof where none belongs", 7, 7, good)
    case("backwards", "bad-length", "the later tree is smaller", 8, 6, good)
    case("fork", "bad-hash", "the earlier tree has another last leaf", 6, 8, old_root=root(leaves[:5] + [leaves[9]]))
    case("new-root", "bad-hash", "another later root", 6, 8, new_root=leaves[0])
    case("hash", "bad-hash", "a bit of a hash is flipped", 6, 8, [m.flip(good[0], 3)] + good[1:])
    case("split", "bad-hash", "two roots of one size", 7, 7, old_root=leaves[0])
