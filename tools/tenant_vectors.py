"""tenant_vectors.py: the vectors of records of datasets and of the directory (FORMAT.md section 25), and of the charter fields beside
them, for make_vectors.py, whose module it is given.

The charters are those of charter_vectors.py. Of each group the first lines succeed; the others differ from one of them in one thing.
"""

import charter_vectors
import forge
from charter_vectors import COMPROMISED, RETIRED, following, revocation
from forge import cbor, h, kdf, signed

KIND, NAMES = "exclave dataset v1", "exclave names v1"


def vectors(m):
    people = charter_vectors.People(m)
    rules(m, people)
    datasets(m, people)
    names(m, people)


def rules(m, p):
    """Fields 16 to 18 of a charter."""
    value, but, first = p.first, m.but, p.first[8][0][0]
    good = but(value, f16=[first], f17=[[p.w0.id, p.w2.id], [p.w1.id]], f18=[1, 2])
    m.v("charter-rules", "charter", "success", "a class of registered datasets, two trust groups, two versions of the format", p.made(good), h(cbor(good)))
    for name, expect, comment, bad in [
        ("registered-none", "bad-record", "an empty list of classes that demand registration", but(value, f16=[])),
        ("registered-order", "bad-order", "a class demands registration twice", but(value, f16=[first, first])),
        ("registered-stranger", "bad-record", "a class that isn't there demands registration", but(value, f16=[first + 1])),
        ("trust-none", "bad-record", "no trust group", but(value, f17=[])),
        ("trust-empty", "bad-record", "an empty trust group", but(value, f17=[[]])),
        ("trust-twice", "bad-record", "a key stands in two trust groups", but(value, f17=[[p.w0.id], [p.w0.id]])),
        ("trust-key", "bad-record", "a trust group of a public key", but(value, f17=[[p.w0.public]])),
        ("formats-none", "bad-record", "no version of the format may be written", but(value, f18=[])),
        ("formats-order", "bad-order", "the versions of the format descend", but(value, f18=[2, 1])),
        ("formats-0", "bad-record", "version 0 of the format", but(value, f18=[0])),
    ]:
        m.v(f"charter-{name}", "charter", expect, comment, p.made(bad), anchor=h(cbor(bad)))


def datasets(m, p):
    but = m.but
    a, b, other = p.members
    number, code, _, _, _, _, payload, _, recipients = p.first[8][0]
    # 4+4: four may be lost when nobody lies.
    line = [number, code, 4, 4, 2, 0, payload, 0, recipients]
    second = [number + 1, *line[1:]]
    first = but(p.first, f8=[line, second], f10=[[0, a.public, [number]], [0, b.public, [number]], [2, other.public, []]])
    anchor = h(cbor(first))
    # Version 2: the class demands more itself; administrator a is gone in one form of it, and was stolen in the other.
    stricter = following(m, first, f8=[[*line[:4], 3, *line[5:]], second])
    gone = following(m, first, f10=first[10][1:], f12=[revocation(a, RETIRED)])
    stolen = following(m, first, f10=first[10][1:], f12=[revocation(a, COMPROMISED)])
    one, strict, without, thief = p.made(first), p.made(stricter), p.made(gone), p.made(stolen)
    value = {0: 1, 1: anchor, 2: m.draw("registered dataset", 16), 3: 1, 5: 1, 6: number, 7: 1_750_300_000}
    tighter = but(value, f3=2, f4=h(cbor(value)), f8=3)
    again = but(tighter, f3=3, f4=h(cbor(tighter)), f10=1)

    def case(name, expect, comment, *values, signer=a, held=(2, 0, 0), history=(one,), kind=KIND, anchor=anchor, last=None):
        objects = [signed(kind, cbor(one), *(signer if isinstance(signer, list) else [signer])) for one in values]
        if last:
            objects[-1] = signed(kind, cbor(values[-1]), last)
        output = number.to_bytes(4) + bytes(held) if expect == "success" else None
        m.v(f"dataset-{name}", "dataset", expect, comment, cbor([list(history), objects]), output, anchor=anchor)
    case("added", "success", "added to a class, which demands what it does", value)
    case("tightened", "success", "three records, each demanding more", value, tighter, again, held=(3, 0, 1))
    case("any-order", "success", "the same, shown in another order", again, value, tighter, held=(3, 0, 1))
    case("two-hands", "success", "another administrator of the class tightens", value, tighter, held=(3, 0, 0), last=b)
    case("stricter-class", "success", "the class itself demands more since", value, history=(one, strict), held=(3, 0, 0))
    case("void-then-again", "success", "what a retired administrator demanded is void, and another one adds the dataset", tighter, but(value, f5=2), last=b, history=(one, without))
    case("fork", "fork", "two records in one place", value, tighter, but(tighter, f8=4))
    case("gap", "not-found", "the record before isn't there", tighter)
    case("loosens-class", "loosens", "fewer losses than the class demands", but(value, f8=1))
    case("loosens-read-back", "loosens", "fully read back once, and then not", value, but(tighter, f10=1), but(again, f4=h(cbor(but(tighter, f10=1))), f10=0))
    case("loosens-before", "loosens", "fewer losses than the record before demands", value, tighter, but(again, f8=2))
    case("loosens-silence", "loosens", "silent about what the record before demands", value, tighter, {k: v for k, v in again.items() if k != 8})
    case("impossible", "bad-geometry", "more losses than parity shards", but(value, f8=5))
    case("liars", "bad-geometry", "four liars of four data shards", but(value, f8=2, f9=4))
    case("place", "bad-version", "record 3 follows record 1", value, but(tighter, f3=3))
    case("version-0", "bad-version", "record 0", but(value, f3=0))
    case("no-previous", "bad-version", "record 2 names no predecessor", but(value, f3=2))
    case("previous", "bad-record", "record 1 names a predecessor", but(value, f4=anchor))
    case("other-archive", "wrong-archive", "a record of another archive", but(value, f1=m.OTHER_ANCHOR))
    case("charter-0", "wrong-charter", "obeys charter version 0", but(value, f5=0))
    case("charter-2", "wrong-charter", "obeys a charter that nobody shows", but(value, f5=2))
    case("other-class", "unknown-signer", "its signer is an administrator of another class", but(value, f6=number + 1))
    case("auditor", "unknown-signer", "signed by an auditor", value, signer=other)
    case("root", "unknown-signer", "signed by a root", value, signer=p.r0)
    case("writer", "unknown-signer", "signed by a writer", value, signer=p.w0)
    case("stranger", "unknown-signer", "signed by a key of no charter", value, signer=m.STRANGER)
    case("two-signers", "bad-record", "two administrators signed", value, signer=[a, b])
    case("type", "bad-signature", "signed as an exclave kit v1", value, kind="exclave kit v1")
    case("read-back-2", "bad-record", "read-back 2", but(value, f10=2))
    case("unknown-field", "bad-record", "a field 11", but(value, f11=0))
    case("format", "bad-version", "version 2 of the record", but(value, f0=2))
    case("dataset-short", "bad-record", "a dataset's id is a byte short", but(value, f2=value[2][1:]))
    case("thief", "success", "a stolen administrator's demand is void, that of another one before it holds", value, tighter, signer=b, last=a,
         history=(one, thief))


def names(m, p):
    but, draw = m.but, m.draw
    first = but(p.first, f4=[2, [p.r0.public, p.r1.public]])
    anchor = h(cbor(first))
    stolen = following(m, first, f4=[1, [p.r0.public, p.r2.public]], f12=[revocation(p.r1, COMPROMISED)])
    one = signed("exclave charter v1", cbor(first), p.r0, p.r1)
    two = signed("exclave charter v1", cbor(stolen), p.r0, p.r1, p.r2)
    text = b'format = "exclave directory v1"\n\n[[dataset]]\nid = "' + b"5" * 32 + b'"\nname = "Maaregister"\ntier = 0\n'
    key, auditor = draw("names key", 32), forge.Recipient(draw("auditor reads", 32))
    readers = sorted([p.recipients[0], auditor], key=lambda r: r.id)
    commitment = kdf("exclave 2026 run commitment v1", key)

    def stanza(who, kind=b"exclave names v1", version=1, key=key):
        info = b"".join(len(x).to_bytes(2) + x for x in (kind, anchor, version.to_bytes(4), who.id, commitment))
        both = forge.HPKE.encrypt(key, who.secret.public_key(), info=info)
        return [who.id, both[:1120], both[1120:]]

    def box(text=text, purpose=4, length=None, size=16384, end=b""):
        plain = (len(text) if length is None else length).to_bytes(4) + text
        plain += bytes(size - 80 - len(plain))
        return forge.box(key, purpose, draw("names salt", 32), plain[:len(plain) - len(end)] + end)
    value = {0: 1, 1: anchor, 2: 1, 4: 1, 5: anchor, 6: 1_750_400_000, 7: commitment, 8: [stanza(who) for who in readers], 9: box()}
    later = but(value, f2=2, f3=h(cbor(value)), f4=2, f5=h(cbor(stolen)), f8=[stanza(who, version=2) for who in readers])

    def case(name, expect, comment, value=value, signers=(p.r0, p.r1), history=(one,), identity=auditor, kind=NAMES, anchor=anchor, output=text, **changes):
        body = cbor(but(value, **changes))
        m.v(f"names-{name}", "names", expect, comment, cbor([list(history), signed(kind, body, *signers)]), output if expect == "success" else None,
            anchor=anchor, identity=identity.seed)
    case("good", "success", "two roots of two signed, an auditor reads")
    case("recipient", "success", "opened by one who can open data", identity=p.recipients[0])
    case("later", "success", "the second directory, under a charter that one root may sign for", later, (p.r2,), (one, two))
    case("longer", "success", "a sealed part of 32 KiB", f9=box(size=32768))
    case("nothing", "success", "an empty text", output=b"", f9=box(b""))
    case("one-root", "missing-signature", "one root signed where two must", signers=(p.r0,))
    case("stolen", "missing-signature", "the key of one of its two roots was stolen since", history=(one, two))
    case("writer", "unknown-signer", "an agent's key signed", signers=(p.w0, p.r0))
    case("stranger", "unknown-signer", "a key of no charter signed", signers=(p.r0, p.r1, m.STRANGER))
    case("type", "bad-signature", "signed as an exclave kit v1", kind="exclave kit v1")
    case("other-archive", "wrong-archive", "a directory of another archive", f1=m.OTHER_ANCHOR)
    case("charter-3", "wrong-charter", "made under a charter that nobody shows", f4=3)
    case("charter-0", "wrong-charter", "made under charter version 0", f4=0)
    case("other-charter", "wrong-charter", "made under another charter of version 1", f5=m.OTHER_ANCHOR)
    case("version-0", "bad-version", "directory version 0", f2=0)
    case("no-previous", "bad-version", "the second directory names no predecessor", f2=2)
    case("previous", "bad-record", "the first directory names a predecessor", f3=anchor)
    case("format", "bad-version", "version 2 of the record", f0=2)
    case("unknown-field", "bad-record", "a field 10", f10=0)
    case("none", "bad-record", "nobody can open it", f8=[])
    case("order", "bad-order", "the recipients descend", f8=value[8][::-1])
    case("stanzas-129", "too-long", "129 recipients", f8=[[i.to_bytes(32), bytes(1120), bytes(48)] for i in range(129)])
    case("enc-short", "bad-record", "an encapsulated key is a byte short", f8=[[a, b[1:], c] for a, b, c in value[8]])
    case("no-reader", "not-a-recipient", "an identity that it isn't sealed to", identity=forge.Recipient(draw("nobody", 32)))
    case("info", "bad-tag", "the key is wrapped as a kit's is", f8=[stanza(who, b"exclave kit v1") for who in readers])
    case("info-version", "bad-tag", "the key is wrapped for another version", f8=[stanza(who, version=2) for who in readers])
    case("other-key", "bad-commitment", "another key is wrapped", f8=[stanza(who, key=m.OTHER_KEY) for who in readers])
    case("box-purpose", "bad-commitment", "sealed as credentials are", f9=box(purpose=3))
    case("box-tag", "bad-tag", "the last bit of the box is flipped", f9=m.flip(box(), -1))
    case("box-step", "bad-length", "the box is a multiple of 1,024 bytes and no power of two", f9=box(size=17408))
    case("box-short", "bad-length", "a box of 8 KiB", f9=box(size=8192))
    case("text-long", "bad-length", "the text is longer than its box", f9=box(length=20000))
    case("padding", "bad-padding", "the last byte of the padding isn't zero", f9=box(end=b"\1"))
    case("utf8", "bad-record", "the text isn't UTF-8", f9=box(b"\xff\xfe"))
