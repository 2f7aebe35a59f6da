"""charter_vectors.py: the vectors of charters and revocations (FORMAT.md section 8), for make_vectors.py, whose module it is given.

The charters here are smaller than forge.py's: one signature of two roots is enough, so that a file holds three versions and
stays short. Of each group the first lines succeed; the others differ from one of them in one thing.
"""

import forge
from forge import cbor, h, signed

KIND = "exclave charter v1"
RETIRED, COMPROMISED = 0, 1


class People:
    """Who is there: f's roots, writers and recipients, and as many again."""

    def __init__(self, m):
        f, draw = m.f, m.draw
        self.r0, self.r1, self.r2 = *f.roots, forge.Signer(draw("root 2", 64))
        self.w0, self.w1, self.w2 = *f.writers, forge.Signer(draw("writer 2", 64))
        self.members = [forge.Signer(draw(f"member {i}", 64)) for i in range(3)]
        self.recipients = [*f.recipients, forge.Recipient(draw("recipient 2", 32))]
        self.first = m.but(f.charter_value(), f4=[1, [self.r0.public, self.r1.public]])

    def made(self, value: dict, *signers) -> bytes:
        return signed(KIND, cbor(value), *(signers or [self.r0]))


def following(m, value: dict, **changes) -> dict:
    """The next version, with fields changed."""
    return m.but(value, **{"f1": value[1] + 1, "f2": h(cbor(value)), "f3": value[3] + 86_400, "f9": m.draw(f"charter {value[1] + 1}", 16)} | changes)


def revocation(who: forge.Signer, reason: int, *pins) -> list:
    return [who.id, reason, sorted(pins)]


def vectors(m):
    people = People(m)
    alone(m, people)
    histories(m, people)
    files(m, people)
    obeyed(m, people)
    revoked(m, people)


# ---- One charter -----------------------------------------------------------------------------------------------------

def alone(m, p):
    v, value, but = m.v, p.first, m.but
    m0, m1, m2 = (signer.public for signer in p.members)
    life = sorted(m.draw(f"life {i}", 16) for i in range(2))
    pins = [[life[0], 7, m.draw("pin 0", 32)], [life[1], 0, m.draw("pin 1", 32)]]
    gone = sorted([[p.r2.id, RETIRED, []], [p.w2.id, COMPROMISED, pins]])
    people = but(value, f10=[[2, m1, []], [0, m0, [7]]], f11=[[1, 1, [m2]]], f12=gone)
    v("charter-people", "charter", "success", "an auditor, an administrator, an authority and two revoked keys", p.made(people), h(cbor(people)))
    shape = [("offices", 2, [(f"office {x}", 0) for x in range(3)])]
    (split, _), (other, _), (strange, _) = (forge.share_set(m.draw, recipient, shape, 1) for recipient in (p.recipients[1], *p.recipients[::2]))
    other = other | {1: m.draw("other share set", 8)}
    shared = but(value, f13=[split])
    both = but(value, f13=[split, other])
    v("charter-share-sets", "charter", "success", "two recipients' keys are split", p.made(both), h(cbor(both)))
    v("charter-share-set", "charter", "success", "the split of a recipient's key", p.made(shared), h(cbor(shared)))
    watched(m, p)
    hyperscale = m.copy.deepcopy(split)
    hyperscale[5][0][3][1][1] = 3
    for name, expect, comment, bad in [
        ("share-set-none", "bad-record", "an empty list of share sets", but(value, f13=[])),
        ("share-set-stranger", "bad-record", "a share set of a key that is no recipient's", but(value, f13=[strange])),
        ("share-set-twice", "bad-record", "a share set stands twice", but(value, f13=[split, split])),
        ("share-set-version", "bad-record", "version 2 of a share set", but(value, f13=[split | {0: 2}])),
        ("share-set-field", "bad-record", "a field 6 in a share set", but(value, f13=[split | {6: 0}])),
        ("share-set-threshold", "bad-threshold", "more groups needed than there are", but(value, f13=[split | {4: 2}])),
        ("share-set-custodian", "bad-custodian", "a hyperscale custodian", but(value, f13=[hyperscale])),
        ("field-14", "bad-record", "a field 14", but(value, f14=0)),
        ("root-writer", "bad-record", "a root is a writer, too", but(value, f5=[[p.w0.public, [7]], [p.r1.public, [7]]])),
        ("writer-member", "bad-record", "a writer is a restorer, too", but(value, f10=[[1, p.w0.public, []]])),
        ("root-member", "bad-record", "a root is a keeper, too", but(value, f10=[[4, p.r1.public, []]])),
        ("member-twice", "bad-record", "a member has two roles", but(value, f10=[[1, m0, []], [2, m0, []]])),
        ("member-same-role", "bad-record", "a member stands twice with one role", but(value, f10=[[2, m0, []], [2, m0, []]])),
        ("authority-root", "bad-record", "a root's key is an authority's, too", but(value, f11=[[0, 1, [p.r1.public]]])),
        ("authority-key-twice", "bad-record", "a key stands twice in an authority", but(value, f11=[[0, 1, [m0, m0]]])),
        ("authorities-key", "bad-record", "two authorities share a key", but(value, f11=[[0, 1, [m0]], [1, 1, [m0]]])),
        ("administrator-none", "bad-record", "an administrator of no class", but(value, f10=[[0, m0, []]])),
        ("auditor-class", "bad-record", "an auditor with a class", but(value, f10=[[2, m0, [7]]])),
        ("member-class-twice", "bad-record", "an administrator's class stands twice", but(value, f10=[[0, m0, [7, 7]]])),
        ("role-7", "bad-record", "role 7", but(value, f10=[[7, m0, []]])),
        ("no-members", "bad-record", "an empty list of members", but(value, f10=[])),
        ("authority-threshold-0", "bad-record", "an authority's threshold of 0", but(value, f11=[[0, 0, [m0]]])),
        ("authority-threshold-2", "bad-record", "an authority's threshold of 2 with one key", but(value, f11=[[0, 2, [m0]]])),
        ("authority-twice", "bad-record", "two authorities of one purpose", but(value, f11=[[0, 1, [m0]], [0, 1, [m1]]])),
        ("authority-purpose", "bad-record", "purpose 2", but(value, f11=[[2, 1, [m0]]])),
        ("revoked-root", "bad-record", "a revoked key is a root's still", but(value, f12=[revocation(p.r1, RETIRED)])),
        ("revoked-writer", "bad-record", "a revoked key is a writer's still", but(value, f12=[revocation(p.w1, RETIRED)])),
        ("revoked-member", "bad-record", "a revoked key is a member's", but(value, f10=[[5, m0, []]], f12=[revocation(p.members[0], RETIRED)])),
        ("revoked-authority", "bad-record", "a revoked key is an authority's", but(value, f11=[[1, 1, [m0]]], f12=[revocation(p.members[0], RETIRED)])),
        ("revocations-order", "bad-order", "revoked keys descend", but(value, f12=gone[::-1])),
        ("revoked-twice", "bad-order", "a key is revoked twice", but(value, f12=[revocation(p.w2, RETIRED), revocation(p.w2, COMPROMISED)])),
        ("pins-order", "bad-order", "the incarnations of pins descend", but(value, f12=[[p.w2.id, RETIRED, pins[::-1]]])),
        ("pin-twice", "bad-order", "two pins of one incarnation", but(value, f12=[[p.w2.id, RETIRED, [pins[0], [life[0], 8, pins[1][2]]]]])),
        ("reason-2", "bad-record", "reason 2", but(value, f12=[[p.w2.id, 2, []]])),
        ("no-revocations", "bad-record", "an empty list of revocations", but(value, f12=[])),
        ("site-name-twice", "bad-record", "two sites of one name", but(value, f7=[{0: s, 1: "same", 2: 0, 3: 0} for s in m.f.site_ids])),
        ("version-0", "bad-version", "charter version 0", but(value, f1=0)),
        ("version-2-previous", "bad-version", "charter version 2 where version 1 belongs", following(m, value))]:
        v(f"charter-{name}", "charter", expect, comment, p.made(bad))


def watched(m, p):
    """Field 14. Keys are only looked at for being others."""
    def witness(name, nation, classical=False):
        return {0: name, 1: nation, 2: m.draw(f"{name} Ed25519", 32)} | ({} if classical else {3: m.draw(f"{name} ML-DSA-44", 1312)})
    lu, fi, ee, old = (witness("lu.example/w", "LU"), witness("fi.example/w", "FI"), witness("ee.example/w", "EE"), witness("old.example/w", "SE", True))
    good = {0: 2, 1: 2, 2: "EE", 3: 0, 4: 259_200, 5: [lu, fi, ee, old]}

    def case(name, expect, comment, change=None, **fields):
        value = m.but(p.first, f14=m.but(good, **(change or {})), **fields)
        m.v(f"charter-witness{name}", "charter", expect, comment, p.made(value), h(cbor(value)) if expect == "success" else None)
    case("es", "success", "two witnesses in two nations count, one of the owner's nation and one without ML-DSA-44 don't")
    case("-home", "success", "witnesses of the owner's nation count", {"f3": 1, "f5": [lu, ee]})
    case("-one", "success", "one witness with the longest name, the shortest age", {"f0": 1, "f1": 1, "f4": 3600, "f5": [lu | {0: "x" * 255}]})
    case("-classical", "bad-threshold", "one of two needed has no ML-DSA-44 key", {"f5": [lu, old]})
    case("-home-counts-not", "bad-threshold", "one of two needed is of the owner's nation", {"f5": [lu, ee]})
    case("-nations", "bad-threshold", "both are of one nation", {"f5": [lu, fi | {1: "LU"}]})
    case("-nations-quorum", "bad-threshold", "one witness in two nations", {"f0": 1})
    case("-nations-0", "bad-threshold", "in no nation", {"f1": 0})
    case("-quorum-0", "bad-threshold", "a quorum of 0", {"f0": 0, "f1": 0})
    case("-quorum-3", "bad-threshold", "a quorum of 3, and two that count", {"f0": 3})
    case("-none", "bad-record", "an empty list of witnesses", {"f5": []})
    case("-many", "too-long", "33 witnesses", {"f5": [witness(f"w{i}", "LU") for i in range(33)]})
    case("-age", "bad-record", "an age of less than an hour", {"f4": 3599})
    case("-age-year", "bad-record", "an age of more than a year", {"f4": 31_622_401})
    case("-nation", "bad-record", "a nation in small letters", {"f5": [lu, fi | {1: "fi"}]})
    case("-home-nation", "bad-record", "the owner's nation in three letters", {"f2": "EST"})
    case("-name", "bad-record", "a name with a space", {"f5": [lu, fi | {0: "fi example"}]})
    case("-name-plus", "bad-record", "a name with a plus sign", {"f5": [lu, fi | {0: "fi+example"}]})
    case("-name-long", "bad-record", "a name of 256 bytes", {"f5": [lu, fi | {0: "x" * 256}]})
    case("-name-twice", "bad-record", "two witnesses of one name", {"f5": [lu, fi | {0: lu[0]}]})
    case("-key-twice", "bad-record", "two witnesses share their Ed25519 key", {"f5": [lu, fi | {2: lu[2]}]})
    case("-ml-dsa-twice", "bad-record", "two witnesses share their ML-DSA-44 key", {"f5": [lu, fi | {3: lu[3]}]})
    case("-writer", "bad-record", "a witness's Ed25519 key is half of a writer's", {"f5": [lu, fi | {2: p.w0.public[:32]}]})
    case("-revoked", "bad-record", "a witness's key is revoked", f12=[[h(lu[2] + lu[3]), RETIRED, []]])
    case("-counts-2", "bad-record", "whether home counts is 2", {"f3": 2})
    case("-ml-dsa-65", "bad-record", "an ML-DSA-65 key", {"f5": [lu, fi | {3: m.draw("long", 1952)}]})
    case("-field", "bad-record", "a field 4 in a witness", {"f5": [lu, fi | {4: 0}]})
    first, gone = m.but(p.first, f14=good), {"f14": None}
    weaker = following(m, first, f14=good | {0: 1, 1: 1, 5: [lu]})
    for name, comment, second in (("leave", "all witnesses but one leave", weaker), ("gone", "nobody watches any more", following(m, first, **gone))):
        m.v(f"charters-witnesses-{name}", "charters", "success", comment, cbor([p.made(first), p.made(second)]), h(cbor(second)), anchor=h(cbor(first)))


# ---- Versions that follow each other ---------------------------------------------------------------------------------

def histories(m, p):
    but, first = m.but, p.first
    anchor = h(cbor(first))
    one = p.made(first)
    w0, w1, w2 = ([w.public, [7]] for w in (p.w0, p.w1, p.w2))
    (set_id, epoch, keys), cls = first[6][0], first[8][0]

    def case(name, expect, comment, *objects, newest=None, anchor=anchor):
        m.v(f"charters-{name}", "charters", expect, comment, cbor(list(objects)), newest and h(cbor(newest)), anchor=anchor)

    def second(name, comment, expect="bad-succession", signers=(), before=first, **changes):
        """Version 1 and one version 2, which differs from the good one in `changes`."""
        value = following(m, before, **changes)
        case(name, expect, comment, p.made(before), p.made(value, *signers), newest=value if expect == "success" else None, anchor=h(cbor(before)))
        return value

    def klass(before=cls, **change):
        names = ["id", "code", "k", "parity", "losses", "liars", "payload", "read", "set"]
        return [change.get(n, x) for n, x in zip(names, before)]
    fourth = [{0: m.draw("site 3", 16), 1: "site-3", 2: 1, 3: 0}]
    two = following(m, first, f7=first[7] + fourth)
    three = following(m, two, f7=first[7])
    case("first", "success", "version 1 alone", one, newest=first)
    case("three", "success", "three versions in no order: a site joins, and leaves again", p.made(three), one, p.made(two), newest=three)
    case("signed-twice", "success", "version 2 twice: signed by nobody's enough roots at first, by one more later",
         p.made(but(first, f4=[2, first[4][1]]), p.r0, p.r1), p.made(strict := following(m, but(first, f4=[2, first[4][1]])), p.r0),
         p.made(strict, p.r0, p.r1), newest=strict, anchor=h(cbor(but(first, f4=[2, first[4][1]]))))
    second("root-replaced", "root 1 is retired and root 2 takes the place; a root of each version signs", "success",
           f4=[1, [p.r0.public, p.r2.public]], f12=[revocation(p.r1, RETIRED)])
    fresh = dict(f4=[1, [p.r2.public]], f12=sorted([revocation(p.r0, RETIRED), revocation(p.r1, RETIRED)]))
    second("all-roots-replaced", "no root stays: one of the old and one of the new sign", "success", [p.r0, p.r2], **fresh)
    second("only-new-roots", "signed by the new roots alone", "missing-signature", [p.r2], **fresh)
    second("only-old-roots", "signed by the old roots alone", "missing-signature", [p.r0, p.r1], **fresh)
    second("threshold-rises", "the new threshold of 2 isn't met", "missing-signature", f4=[2, first[4][1]])
    second("stranger", "a third signature by a key that is no root", "unknown-signer", [p.r0, m.STRANGER])
    second("writer-signs", "a writer signs beside the root", "unknown-signer", [p.r0, p.w0])
    moved = following(m, first, f4=[1, [p.r0.public, p.r2.public]], f12=[revocation(p.r1, RETIRED)])
    case("old-root", "unknown-signer", "a root that was revoked in version 2 signs version 3", one, p.made(moved),
         p.made(following(m, moved), p.r0, p.r1))
    body = cbor(two)
    key, ed, ml = p.r0.sign(KIND, body)
    case("signature", "bad-signature", "the signature of version 2 is damaged", one, cbor([1, body, [[key, m.flip(ed, 40), ml]]]))
    case("signature-other-version", "bad-signature", "version 2 bears a signature of version 1", one,
         cbor([1, body, [p.r0.sign(KIND, cbor(first))]]))

    second("writer-retired", "a writer is retired; the epoch stays", "success", f5=[w0], f12=[revocation(p.w1, RETIRED)])
    second("writer-stolen", "a writer is compromised and replaced; the epoch rises", "success", f5=[w0, w2],
           f6=[[set_id, epoch + 1, keys]], f12=[revocation(p.w1, COMPROMISED)])
    second("writer-stolen-epoch", "a writer is compromised and the epoch stays", f5=[w0, w2], f12=[revocation(p.w1, COMPROMISED)])
    second("root-stolen", "a root is compromised; no epoch has to rise", "success", f4=[1, [p.r0.public]], f12=[revocation(p.r1, COMPROMISED)])
    second("writer-gone", "a writer is gone and not revoked", f5=[w0])
    second("root-gone", "a root is gone and not revoked", f4=[1, [p.r0.public]])
    second("writer-to-member", "a writer becomes an auditor", f5=[w0], f10=[[2, p.w1.public, []]])
    second("writer-to-root", "a writer becomes a root", f4=[1, [*first[4][1], p.w1.public]], f5=[w0])
    second("writer-classes", "a writer's classes change", "success", f5=[w0, [p.w1.public, [7, 8]]])
    second("revoked-stays", "a revoked writer's key is there still", "bad-record", f12=[revocation(p.w1, RETIRED)])
    retired = following(m, first, f5=[w0], f12=[revocation(p.w1, RETIRED)])

    def third(name, comment, expect="bad-succession", **changes):
        value = following(m, retired, **changes)
        case(name, expect, comment, one, p.made(retired), p.made(value), newest=value if expect == "success" else None)
    third("revocation-gone", "a revocation is taken back", f12=None)
    third("writer-returns", "a retired writer returns", f5=[w0, w1], f12=None)
    third("pins-change", "a revocation gets a pin", "success", f12=[revocation(p.w1, RETIRED, [m.draw("life 0", 16), 0, m.draw("pin 0", 32)])])
    third("reason-changes", "a retired writer is found to be compromised, and the epoch rises", "success",
          f6=[[set_id, epoch + 1, keys]], f12=[revocation(p.w1, COMPROMISED)])
    third("reason-changes-epoch", "a retired writer is found to be compromised, and the epoch stays", f12=[revocation(p.w1, COMPROMISED)])
    stolen = following(m, first, f5=[w0], f6=[[set_id, epoch + 1, keys]], f12=[revocation(p.w1, COMPROMISED)])
    case("stolen-once", "success", "a revocation as compromised stays; the epoch need not rise again", one, p.made(stolen),
         p.made(again := following(m, stolen)), newest=again)

    second("class-gone", "a class is gone, another came", f8=[klass(id=8)], f5=[[p.w0.public, [8]], [p.w1.public, [8]]])
    second("class-k", "a class has another k", f8=[klass(k=1)])
    second("class-parity", "a class has another parity", f8=[klass(parity=2)])
    second("class-payload", "a class has another payload length", f8=[klass(payload=131072)])
    second("class-numbers", "a class has other losses and another read-back", "success", f8=[klass(losses=1, read=1)])
    other = [set_id + 1, 1, keys]
    second("class-set", "a class has another recipient set", f6=[first[6][0], other], f8=[klass(set=set_id + 1)])
    wide = but(first, f6=[first[6][0], other])
    second("set-gone", "a recipient set that no class uses is gone", before=wide, f6=[first[6][0]])
    second("set-joins", "a recipient set and a class join", "success", f6=[first[6][0], other], f8=[cls, klass(id=8, set=set_id + 1)])
    high = but(first, f6=[[set_id, 5, keys]])
    second("epoch-falls", "a crypto epoch falls", before=high, f6=[[set_id, 4, keys]])
    second("recipient-joins", "a recipient joins; the epoch stays", "success", f6=[[set_id, epoch, keys + [p.recipients[2].public]]])
    second("recipient-leaves", "a recipient leaves; the epoch rises", "success", f6=[[set_id, epoch + 1, keys[:1]]])
    second("recipient-leaves-epoch", "a recipient leaves and the epoch stays", f6=[[set_id, epoch, keys[:1]]])
    second("recipient-swapped", "a recipient takes another's place and the epoch stays", f6=[[set_id, epoch, [keys[0], p.recipients[2].public]]])
    both = but(first, f5=[[p.w0.public, [7]], [p.w1.public, [7, 8]]], f6=[first[6][0], other], f8=[cls, klass(id=8, set=set_id + 1)])
    second("stolen-two-sets", "a compromised writer wrote two classes; one set's epoch rises, the other's stays", before=both,
           f5=[w0], f6=[[set_id, epoch + 1, keys], other], f12=[revocation(p.w1, COMPROMISED)])
    second("stolen-one-set", "a compromised writer wrote one class of two; the other set's epoch stays", "success", before=both,
           f5=[both[5][1]], f6=[[set_id, epoch + 1, keys], other], f12=[revocation(p.w0, COMPROMISED)])

    second("chain", "version 2 names another version 1", "broken-chain", f2=m.OTHER_ANCHOR)
    case("chain-first", "broken-chain", "version 3 names version 1 as the version before it", one, p.made(two), p.made(but(three, f2=anchor)))
    case("no-previous", "bad-version", "version 2 names no version before it", one, p.made(but(two, f2=None)))
    case("gap", "bad-version", "version 2 is missing", one, p.made(three))
    case("two-firsts", "bad-version", "another version 1, signed by the same roots", one, p.made(but(first, f3=0)))
    case("no-first", "wrong-archive", "version 1 is missing", p.made(two))
    case("other-archive", "wrong-archive", "the charter of another archive", one, anchor=m.OTHER_ANCHOR)
    case("fork", "fork", "two versions 2, each signed by a root", one, p.made(two), p.made(following(m, first, f3=0), p.r1))
    case("fork-later", "fork", "two versions 3", p.made(three), one, p.made(two), p.made(following(m, two), p.r1))
    case("fork-followed", "fork", "two versions 2; one of them has a version 3", one, p.made(two), p.made(following(m, first, f3=0)), p.made(three))


def files(m, p):
    one, two = p.made(p.first), p.made(following(m, p.first))
    plate = signed("exclave site v1", cbor({0: 1, 1: h(cbor(p.first)), 2: m.draw("site 3", 16)}), p.r0)
    m.v("charterfile-good", "charterfile", "success", "two versions and a plate", cbor([1, [one, two], [plate]]), one + two)
    m.v("charterfile-no-plates", "charterfile", "success", "one version, no plates", cbor([1, [one], []]), one)
    for name, expect, comment, bad in [
        ("version", "bad-version", "version 2 of the file", cbor([2, [one], []])), ("empty", "bad-record", "no charter", cbor([1, [], []])),
        ("two-parts", "bad-record", "the list of plates is missing", cbor([1, [one]])), ("four-parts", "bad-record", "a fourth part", cbor([1, [one], [], []])),
        ("text", "bad-record", "a charter that is a text", cbor([1, ["charter"], []])), ("map", "bad-record", "a map", cbor({0: 1, 1: [one], 2: []})),
        ("charter", "bad-record", "a charter that is no signed object", cbor([1, [cbor({0: 1})], []])),
        ("unsigned", "missing-signature", "a charter without signatures", cbor([1, [cbor([1, cbor(p.first), []])], []])),
        ("trailing", "not-canonical", "a byte after the file", cbor([1, [one], []]) + b"\0")]:
        m.v(f"charterfile-{name}", "charterfile", expect, comment, bad)


# ---- What obeys them -------------------------------------------------------------------------------------------------

def obeyed(m, p):
    """Version 2: writer 1 was stolen and writer 2 came; recipient 1 left and recipient 2 came; class 8 came; a restorer came."""
    restorer, auditor, other = p.members
    first = p.first
    (set_id, epoch, keys), cls = first[6][0], first[8][0]
    now = sorted([p.recipients[0], p.recipients[2]], key=lambda r: r.id)
    second = following(m, first, f5=[[p.w0.public, [7]], [p.w2.public, [7, 8]]], f6=[[set_id, epoch + 1, [r.public for r in now]]],
                       f8=[cls, [8, *cls[1:]]], f10=[[1, restorer.public, []], [2, auditor.public, []]], f12=[revocation(p.w1, COMPROMISED)])
    anchor, history = h(cbor(first)), [p.made(first), p.made(second)]
    commitment = forge.kdf("exclave 2026 run commitment v1", m.RUN_KEY)

    def stanzas(recipients):
        return [r.stanza(anchor, m.RUN, commitment, m.RUN_KEY) for r in recipients]
    value = m.but(m.f.envelope_value(m.RUN, m.RUN_KEY, "public"), f1=anchor, f10=stanzas(p.recipients[:2]))
    new = m.but(value, f5=2, f7=epoch + 1, f10=stanzas(now))

    def case(name, expect, comment, value, sign, identity=p.recipients[0], **changes):
        envelope = signed("exclave envelope v1", cbor(m.but(value, **changes)), sign)
        m.v(f"obeyed-{name}", "obeyed", expect, comment, cbor([history, envelope]), m.RUN_KEY if expect == "success" else None,
            anchor=anchor, run=m.RUN, identity=identity.seed)
    case("old", "success", "an envelope of version 1, which version 2 doesn't change", value, p.w0)
    case("new", "success", "an envelope of version 2", new, p.w2)
    case("left", "success", "a recipient that left opens what was sealed before", value, p.w0, p.recipients[1])
    case("revoked-writer", "success", "a revoked writer's envelope of version 1 serves whatever head counts", value, p.w1)
    case("left-new", "not-a-recipient", "a recipient that left opens nothing of version 2", new, p.w0, p.recipients[1])
    case("version-3", "wrong-charter", "it obeys a version that nobody shows", new, p.w0, f5=3)
    case("old-epoch", "wrong-charter", "version 2 with the epoch of version 1", new, p.w0, f7=epoch)
    case("old-recipients", "bad-stanzas", "version 2 with the stanzas of version 1", new, p.w0, f10=stanzas(p.recipients[:2]))
    case("not-yet", "unknown-signer", "a writer that came with version 2 signs an envelope of version 1", value, p.w2)
    case("no-more", "unknown-signer", "a writer that version 2 revokes signs an envelope of version 2", new, p.w1)
    case("class-not-yet", "wrong-charter", "a class that came with version 2, in an envelope of version 1", value, p.w0, f4=8)
    case("class-of-another", "unknown-signer", "a class that the writer may not write", new, p.w0, f4=8)
    again = m.but(new, f7=epoch)
    case("rewrapped", "success", "a restorer wraps a run of an older epoch for the set as it is", again, restorer, p.recipients[2])
    case("rewrapped-epoch", "wrong-charter", "a restorer names an epoch that isn't there yet", new, restorer, f7=epoch + 2)
    case("rewrapped-recipients", "bad-stanzas", "a restorer wraps for the set as it was", again, restorer, f10=stanzas(p.recipients[:2]))
    case("rewrapped-not-yet", "unknown-signer", "a restorer that came with version 2 obeys version 1", value, restorer)
    case("rewrapped-auditor", "unknown-signer", "an auditor wraps a run anew", new, auditor)
    grants(m, p, history, anchor, commitment, restorer, auditor)


def grants(m, p, history, anchor, commitment, restorer, auditor):
    ally, other = p.recipients[1], p.recipients[0]

    def sealed(run, kind=b"exclave grant v1", who=ally):
        info = b"".join(len(x).to_bytes(2) + x for x in (kind, anchor, run, who.id, commitment))
        both = forge.HPKE.encrypt(m.RUN_KEY, who.secret.public_key(), info=info)
        return [run, commitment, both[:1120], both[1120:]]
    heads = sorted(m.draw(f"granted {i}", 32) for i in range(2))
    lines = sorted([sealed(m.RUN), sealed(m.OTHER_RUN)])
    value = {0: 1, 1: anchor, 2: 2, 3: ally.public, 4: heads, 5: lines, 6: 1_750_100_000, 7: 1_750_200_000}

    def case(name, expect, comment, sign=restorer, identity=ally, run=m.RUN, kind="exclave grant v1", **changes):
        grant = signed(kind, cbor(m.but(value, **changes)), sign)
        m.v(f"grant-{name}", "grant", expect, comment, cbor([history, grant]), m.RUN_KEY if expect == "success" else None,
            anchor=anchor, run=run, identity=identity.seed)
    case("good", "success", "two runs of two snapshots")
    case("no-end", "success", "without an end", f7=None)
    case("auditor", "unknown-signer", "signed by an auditor", auditor)
    case("root", "unknown-signer", "signed by a root", p.r0)
    case("not-yet", "unknown-signer", "it obeys version 1, which knows no restorer", f2=1)
    case("version-3", "wrong-charter", "it obeys a version that nobody shows", f2=3)
    case("type", "bad-signature", "signed as an exclave envelope v1", kind="exclave envelope v1")
    case("other-archive", "wrong-archive", "a grant of another archive", f1=m.OTHER_ANCHOR)
    case("no-heads", "bad-record", "no snapshots", f4=[])
    case("no-runs", "bad-record", "no runs", f5=[])
    case("heads-order", "bad-order", "the snapshots descend", f4=heads[::-1])
    case("runs-order", "bad-order", "the runs descend", f5=lines[::-1])
    case("heads-257", "too-long", "257 snapshots", f4=sorted(m.draw(f"granted {i}", 32) for i in range(257)))
    case("other-recipient", "not-a-recipient", "an identity that nothing was given to", identity=other)
    case("other-run", "not-found", "a run that isn't given", run=bytes(16))
    case("info", "bad-tag", "the key is wrapped as an envelope's stanza is", f5=sorted([sealed(m.RUN, b"exclave envelope v1"), lines[1] if lines[0][0] == m.RUN else lines[0]]))
    case("swapped", "bad-tag", "a run bears another run's wrapped key", f5=[[lines[0][0], *lines[1][1:]], [lines[1][0], *lines[0][1:]]])
    case("unknown-field", "bad-record", "a field 8", f8=0)


def revoked(m, p):
    """Writer 1 is revoked in version 2; what of its heads counts."""
    f, first = m.f, p.first
    anchor, run = h(cbor(first)), m.a_run()
    life, other = m.draw("life 0", 16), m.draw("life 1", 16)
    sealed = forge.sealed_value(f, [m.RUN, 0, 0, 100, 300, 1, bytes(32)], 0, 1_750_000_000, [0] * 7)

    def head(seq, previous=None, who=p.w1, incarnation=life, version=1, debt=0):
        value = forge.head_value(f, run, seq, previous and h(previous), [b"page"], sealed)
        value = value | {1: anchor, 3: who.id, 4: incarnation, 8: version, 11: debt}
        return cbor(value), signed("exclave head v1", cbor(value), who)
    zero = head(0)
    one = head(1, zero[0])
    two = head(2, one[0])
    honest = head(0, who=p.w0, incarnation=other)

    def pin(one, seq, incarnation=life):
        return [incarnation, seq, h(one[0])]

    def case(name, expect, comment, heads, pins=(), counting=(), reason=RETIRED, revokes=True):
        change = dict(f5=[[p.w0.public, [7]], [p.w2.public, [7]]], f12=[revocation(p.w1, reason, *pins)]) if revokes else {}
        second = following(m, first, **change)
        output = b"".join(sorted(h(one[0]) for one in counting)) if expect == "success" else None
        m.v(f"revoked-{name}", "revoked", expect, comment, cbor([[p.made(first), p.made(second)], [one[1] for one in heads]]), output, anchor=anchor)
    case("nobody", "success", "nobody is revoked: all heads count", [zero, one, honest], counting=[zero, one, honest], revokes=False)
    case("no-pins", "success", "without pins none of the writer's heads counts", [zero, one, honest], counting=[honest])
    case("pin", "success", "what the pin holds counts, and what it reaches; what follows it is void", [two, zero, one, honest], [pin(one, 1)], [zero, one, honest])
    beside, ahead = head(1, zero[0], debt=1), head(9, one[0])
    case("beside", "success", "a head beside the pin, in its place, is void and no fork", [zero, one, beside], [pin(one, 1)], [zero, one])
    case("ahead", "success", "a head far ahead, which names the pinned one, is void", [zero, one, ahead], [pin(one, 1)], [zero, one])
    abroad = head(0, incarnation=other)
    case("other-life", "success", "another incarnation of the writer, which nobody pinned, is void", [zero, abroad], [pin(zero, 0)], [zero])
    case("two-lives", "success", "a pin for each incarnation", [zero, one, abroad], [pin(zero, 0), pin(abroad, 0, other)], [zero, abroad])
    case("gap", "success", "a head is missing below the pin: what lies below it isn't reached", [two, zero], [pin(two, 2)], [two])
    upward = head(1, ahead[0])
    case("upward", "success", "the pinned head names one of a higher seq, which isn't reached", [upward, ahead], [pin(upward, 1)], [upward])
    into = head(1, abroad[0])
    case("into-other-life", "success", "the pinned head names one of another incarnation, which isn't reached", [into, abroad], [pin(into, 1)], [into])
    case("pin-lost", "not-found", "the pinned head is nowhere", [zero], [pin(one, 1)])
    case("pin-seq", "not-found", "the pin gives the head another seq", [zero, one], [pin(one, 2)])
    case("pin-life", "not-found", "the pin gives the head another incarnation", [zero], [pin(zero, 0, other)])
    case("pin-writer", "not-found", "the pinned head is another writer's", [zero, honest], [pin(honest, 0, other)])
    case("fork", "fork", "two heads in one place of a writer that isn't revoked", [honest, head(0, who=p.w0, incarnation=other, debt=1)])
    fresh = head(0, who=p.w2, version=2)
    case("new-writer", "success", "the writer that came with version 2", [fresh, honest], counting=[fresh, honest])
    case("not-yet", "unknown-signer", "a writer that came with version 2 obeys version 1", [head(0, who=p.w2)])
    case("no-more", "unknown-signer", "the revoked writer obeys version 2", [head(0, version=2)])
    case("version-3", "wrong-charter", "a head obeys a version that nobody shows", [head(0, who=p.w0, version=3)])
