"""kit_vectors.py: the vectors of kits (FORMAT.md section 19), for make_vectors.py, whose module it is given.

The charters are those of charter_vectors.py. Of each group the first lines succeed; the others differ from one of them in one thing.
"""

import charter_vectors
import forge
from charter_vectors import COMPROMISED, RETIRED, following, revocation
from forge import cbor, h, kdf, signed

KIND, PIECE = "exclave kit v1", 8 << 20


def vectors(m):
    people = charter_vectors.People(m)
    kits(m, people)
    logins(m, people)


def file(name: str, data: bytes, kind: int = 0) -> list:
    pieces = [data[at:at + PIECE] for at in range(0, len(data), PIECE)]
    return [name, kind, len(data), h(data), [h(piece) for piece in pieces]]


def kits(m, p):
    but = m.but
    first = but(p.first, f4=[2, [p.r0.public, p.r1.public]])
    anchor = h(cbor(first))
    # Version 2: root 1 was stolen, root 2 came, and one is enough.
    stolen = following(m, first, f4=[1, [p.r0.public, p.r2.public]], f12=[revocation(p.r1, COMPROMISED)])
    left = but(stolen, f12=[revocation(p.r1, RETIRED)])
    one = signed("exclave charter v1", cbor(first), p.r0, p.r1)
    two = signed("exclave charter v1", cbor(stolen), p.r0, p.r1, p.r2)
    two_left = signed("exclave charter v1", cbor(left), p.r0, p.r1, p.r2)
    files = [file("charters", one), file("credentials.sealed", b"sealed"), file("exclave", b"program" * 1_300_000, 1), file("sites.toml", b"sites")]
    value = {0: 1, 1: anchor, 2: 1, 3: 1, 4: anchor, 5: 1_750_200_000, 6: "exclave 0.1.0", 7: [["embassy", 1], ["home", 0], ["moon", 3], ["sea", 2]], 8: files}
    newer = but(value, f2=2, f3=2, f4=h(cbor(stolen)))

    def case(name, expect, comment, value=value, signers=(p.r0, p.r1), history=(one,), kind=KIND, anchor=anchor, **changes):
        body = cbor(but(value, **changes))
        m.v(f"kit-{name}", "kit", expect, comment, cbor([list(history), signed(kind, body, *signers)]), h(body) if expect == "success" else None, anchor=anchor)

    def with_file(at: int, **changes):
        line = list(files[at])
        for key, new in changes.items():
            line[["name", "kind", "length", "hash", "pieces"].index(key)] = new
        return [*files[:at], line, *files[at + 1:]]
    case("good", "success", "two roots of two signed; a program of two pieces")
    case("newer", "success", "made under version 2, of which one root is enough", newer, (p.r2,), (one, two))
    case("older", "success", "made under version 1 and read beside version 2, where a root retired", history=(one, two_left))
    case("stolen", "missing-signature", "made under version 1; the key of one of its two roots was stolen since", history=(one, two))
    case("one-root", "missing-signature", "one root signed where two must", signers=(p.r0,))
    case("other-root", "unknown-signer", "a root of version 2 signed a kit of version 1", signers=(p.r0, p.r1, p.r2), history=(one, two))
    case("writer", "unknown-signer", "an agent's key signed", signers=(p.w0, p.r0))
    case("stranger", "unknown-signer", "a key of no charter signed", signers=(p.r0, p.r1, m.STRANGER))
    case("type", "bad-signature", "signed as an exclave charter v1", kind="exclave charter v1")
    case("other-archive", "wrong-archive", "a kit of another archive", f1=m.OTHER_ANCHOR)
    case("version-3", "wrong-charter", "made under a charter that nobody shows", f3=3)
    case("other-charter", "wrong-charter", "made under another charter of version 1", f4=m.OTHER_ANCHOR)
    case("version-0", "bad-record", "kit version 0", f2=0)
    case("format", "bad-version", "version 2 of the record", f0=2)
    case("unknown-field", "bad-record", "a field 9", f9=0)
    case("program-line", "bad-record", "the program's version has a line feed", f6="exclave\n")
    case("program-long", "bad-record", "the program's version has 81 bytes", f6="x" * 81)
    case("no-sites", "bad-record", "no sites", f7=[])
    case("no-files", "bad-record", "no files", f8=[])
    case("site-name", "bad-record", "a site's name with a capital", f7=[["Home", 0]])
    case("login", "bad-record", "a site's credentials are of kind 4", f7=[["home", 4]])
    case("sites-order", "bad-order", "the sites descend", f7=value[7][::-1])
    case("site-twice", "bad-order", "a site stands twice", f7=[["home", 0], ["home", 1]])
    case("sites-257", "too-long", "257 sites", f7=[[f"site-{i:03}", 0] for i in range(257)])
    case("files-order", "bad-order", "the files descend", f8=files[::-1])
    case("files-65", "too-long", "65 files", f8=[file(f"file-{i:02}", b"x") for i in range(65)])
    for name, comment, bad in [("climbs", "a file's name climbs", "../x"), ("slash", "a file's name has a slash", "a/b"), ("hidden", "a file's name begins with a dot", ".x"),
                               ("capital", "a file's name has a capital", "FORMAT.md"), ("empty", "a file has no name", ""), ("long", "a file's name has 41 letters", "x" * 41),
                               ("manifest", "a file is named as the manifest is", "manifest"), ("tagged", "a file is named as a manifest at a site is", "manifest.x")]:
        case(f"name-{name}", "bad-path", comment, f8=with_file(0, name=bad))
    case("empty-file", "bad-length", "a file of no bytes", f8=with_file(1, length=0, pieces=[m.draw("piece", 32)]))
    case("pieces-few", "bad-length", "a piece of the program is missing", f8=with_file(2, pieces=files[2][4][:1]))
    case("pieces-many", "bad-length", "a short file of two pieces", f8=with_file(3, pieces=[files[3][3]] * 2))
    case("piece-hash", "bad-hash", "the only piece of a file has another hash than the file", f8=with_file(3, pieces=[m.draw("piece", 32)]))
    case("file-long", "too-long", "a file of 256 MiB and a byte", f8=with_file(2, length=(256 << 20) + 1, pieces=[m.draw("piece", 32)] * 33))
    case("file-kind", "bad-record", "a file of kind 2", f8=with_file(0, kind=2))
    body = cbor(value)
    m.v("kit-too-long", "kit", "too-long", "a manifest with 80 signatures, above 256 KiB",
        cbor([[one], cbor([1, body, sorted([h(bytes([i])), bytes([i]) * 64, bytes([i]) * 3309] for i in range(80))])]), anchor=anchor)


def logins(m, p):
    but, draw, first = m.but, m.draw, p.first
    # Two sets that share a recipient.
    late = p.recipients[2]
    (set_id, epoch, keys), line = first[6][0], first[8][0]
    two_sets = but(first, f6=[first[6][0], [set_id + 1, 0, [keys[1], late.public]]], f8=[line, [8, *line[1:8], set_id + 1]])
    anchor, history = h(cbor(two_sets)), [p.made(two_sets)]
    text = b'["s3://bucket/x"]\ncredentials.s3 = { access_key = "reader", secret_key = "hunter2" }\n'
    key, everyone = draw("kit key", 32), sorted(p.recipients, key=lambda r: r.id)
    commitment = kdf("exclave 2026 run commitment v1", key)

    def stanza(who, kind=b"exclave kit v1", kit=4, commitment=commitment, key=key):
        info = b"".join(len(x).to_bytes(2) + x for x in (kind, anchor, kit.to_bytes(4), who.id, commitment))
        both = forge.HPKE.encrypt(key, who.secret.public_key(), info=info)
        return [who.id, both[:1120], both[1120:]]

    def box(text=text, purpose=3, length=None, end=b""):
        plain = (len(text) if length is None else length).to_bytes(4) + text
        plain += bytes(-(len(plain) + 80) % 1024)
        return forge.box(key, purpose, draw("kit salt", 32), plain[:len(plain) - len(end)] + end)
    value = {0: 1, 1: anchor, 2: 4, 3: commitment, 4: [stanza(who) for who in everyone], 5: box()}

    def case(name, expect, comment, identity=late, kit=4, output=text, **changes):
        m.v(f"logins-{name}", "logins", expect, comment, cbor([history, cbor(but(value, **changes))]), output if expect == "success" else None,
            anchor=anchor, kit=kit, identity=identity.seed)
    case("good", "success", "three recipients of two sets")
    case("first", "success", "opened by the recipient that is in both sets", p.recipients[1])
    case("nothing", "success", "credentials of no site", output=b"", f5=box(b""))
    case("stranger", "not-a-recipient", "an identity that is no recipient", forge.Recipient(draw("nobody", 32)))
    case("other-archive", "wrong-archive", "credentials of another archive", f1=m.OTHER_ANCHOR)
    case("other-kit", "bad-record", "credentials of another kit", kit=5)
    case("kit-0", "bad-record", "kit version 0", kit=0, f2=0)
    case("missing", "bad-stanzas", "a recipient of the charter can't log in", f4=value[4][1:])
    case("added", "bad-stanzas", "someone else can log in too", f4=sorted([*value[4], stanza(forge.Recipient(draw("nobody", 32)))]))
    case("order", "bad-order", "the recipients descend", f4=value[4][::-1])
    case("none", "bad-record", "nobody can open them", f4=[])
    case("stanzas-129", "too-long", "129 recipients", f4=[[i.to_bytes(32), bytes(1120), bytes(48)] for i in range(129)])
    case("enc-short", "bad-record", "an encapsulated key is a byte short", f4=[[a, b[1:], c] for a, b, c in value[4]])
    ours = next(i for i, who in enumerate(everyone) if who is late)

    def our(line):
        return [*value[4][:ours], line, *value[4][ours + 1:]]
    case("ciphertext", "bad-tag", "a bit of our wrapped key is flipped", f4=our([late.id, value[4][ours][1], m.flip(value[4][ours][2], 3)]))
    case("info", "bad-tag", "the key is wrapped as a grant's is", f4=our(stanza(late, b"exclave grant v1")))
    case("info-kit", "bad-tag", "the key is wrapped for another kit", f4=our(stanza(late, kit=5)))
    case("other-key", "bad-commitment", "another key is wrapped for us", f4=our(stanza(late, key=m.OTHER_KEY)))
    case("box-purpose", "bad-commitment", "sealed as a head's part is", f5=box(purpose=2))
    case("box-tag", "bad-tag", "the last bit of the box is flipped", f5=m.flip(box(), -1))
    case("box-length", "bad-length", "the box isn't a multiple of 1,024 bytes", f5=box()[:-1])
    case("box-empty", "bad-length", "there is no box", f5=b"")
    case("text-long", "bad-length", "the text is longer than its box", f5=box(length=2000))
    case("padding", "bad-padding", "the last byte of the padding isn't zero", f5=box(end=b"\1"))
    case("utf8", "bad-record", "the text isn't UTF-8", f5=box(b"\xff\xfe"))
    case("unknown-field", "bad-record", "a field 6", f6=0)
    case("version", "bad-version", "version 2 of the record", f0=2)
