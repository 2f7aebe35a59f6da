"""collection_vectors.py: the vectors of retention, marks, sweeps and holds (FORMAT.md section 23), for make_vectors.py, whose module it is given.

Of each group the first lines succeed; the others differ from one of them in one thing.
"""

import charter_vectors
import forge
from charter_vectors import COMPROMISED, RETIRED, following, revocation
from forge import cbor, h, signed

RULES = [7, 3, 1, 7, 0, 24, 14, 8, 24, 10]
REAPER, ADMINISTRATOR, AUDITOR, COLLECTION = 5, 0, 2, 0
DAY = 86_400


def vectors(m):
    people = charter_vectors.People(m)
    retention(m, people)
    records(m, people)


def retention(m, p):
    cls = p.first[8][0]
    value = m.but(p.first, f8=[cls, [8, *cls[1:]]])

    def rules(**changes):
        line = list(RULES)
        for at, number in changes.items():
            line[int(at[1:])] = number
        return line
    for name, expect, comment, field in [
        ("one", "success", "rules for one of two classes", [RULES]),
        ("two", "success", "rules for two classes, the second with the greatest numbers", [RULES, [8] + [1_000_000] * 9]),
        ("none", "bad-record", "an empty list of rules", []),
        ("order", "bad-order", "classes descend", [[8, *RULES[1:]], RULES]),
        ("twice", "bad-order", "a class stands twice", [RULES, RULES]),
        ("stranger", "bad-record", "a class that isn't there", [[9, *RULES[1:]]]),
        ("last", "bad-retention", "two snapshots", [rules(f1=2)]),
        ("verified", "bad-retention", "none that is verified", [rules(f2=0)]),
        ("age", "bad-retention", "six days", [rules(f3=6)]),
        ("yearly", "bad-retention", "1,000,001 years", [rules(f9=1_000_001)]),
        ("short", "bad-record", "nine numbers", [RULES[:9]]),
        ("negative", "bad-record", "a negative number", [rules(f5=-1)]),
    ]:
        bad = m.but(value, f15=field)
        m.v(f"charter-retention-{name}", "charter", expect, comment, p.made(bad), h(cbor(bad)) if expect == "success" else None)


def records(m, p):
    reaper, administrator, auditor = p.members
    first_one, second_one, third_one, late = (forge.Signer(m.draw(f"authority {i}", 64)) for i in range(4))
    three = [first_one.public, second_one.public, third_one.public]
    first = m.but(p.first, f4=[2, [p.r0.public, p.r1.public]], f10=[[REAPER, reaper.public, []], [ADMINISTRATOR, administrator.public, [7]], [AUDITOR, auditor.public, []]],
                  f11=[[COLLECTION, 2, three]])
    # Version 2: the reaper and an authority were stolen, another authority came.
    second = following(m, first, f10=[[AUDITOR, auditor.public, []]], f11=[[COLLECTION, 2, [first_one.public, second_one.public, late.public]]],
                       f12=sorted([revocation(reaper, COMPROMISED), revocation(third_one, COMPROMISED)]))
    anchor = h(cbor(first))
    one = signed("exclave charter v1", cbor(first), p.r0, p.r1)
    both = [one, signed("exclave charter v1", cbor(second), p.r0, p.r1)]
    runs = sorted([m.RUN, m.OTHER_RUN])
    heads = sorted(m.draw(f"dropped {i}", 32) for i in range(2))
    stripes = [[runs[0], [0, 3, 2, 1]], [runs[1], [7, 1]]]
    now = 1_760_000_000
    mark = {0: 1, 1: anchor, 2: 1, 3: now, 4: stripes, 5: heads, 6: [[head, now - 100 * DAY] for head in heads]}
    sweep = {0: 1, 1: anchor, 2: 1, 3: h(cbor(mark)), 4: now, 5: now + 3 * DAY, 6: stripes, 7: heads}
    hold = {0: 1, 1: anchor, 2: 1, 3: [0, heads[0]], 4: now, 5: "Case 12/2027, court of Õ"}
    ended = hold | {6: h(cbor(hold))}

    def group(layer, value, signers):
        def case(name, expect, comment, value=value, signers=signers, history=(one,), kind=f"exclave {layer} v1", **changes):
            body = cbor(m.but(value, **changes))
            m.v(f"{layer}-{name}", layer, expect, comment, cbor([list(history), signed(kind, body, *signers)]), h(body) if expect == "success" else None, anchor=anchor)
        return case

    case = group("mark", mark, (reaper,))
    case("good", "success", "stripes of two runs, two snapshots and their receipts")
    case("empty", "success", "nothing to mark", f4=[], f5=[], f6=[])
    case("revoked", "success", "a reaper whose key was stolen since: to obey costs space", history=both)
    case("no-more", "unknown-signer", "it obeys version 2, which knows the reaper no more", history=both, f2=2)
    case("writer", "unknown-signer", "a writer marks", signers=(p.w0,))
    case("root", "unknown-signer", "a root marks", signers=(p.r0,))
    case("authority", "unknown-signer", "a collection authority marks", signers=(first_one,))
    case("two", "bad-record", "two signatures", signers=(reaper, p.w0))
    case("type", "bad-signature", "signed as an exclave sweep v1", kind="exclave sweep v1")
    case("other-archive", "wrong-archive", "a mark of another archive", f1=m.OTHER_ANCHOR)
    case("version-0", "wrong-charter", "charter version 0", f2=0)
    case("version-2", "wrong-charter", "a charter that nobody shows", f2=2)
    case("runs-order", "bad-order", "the runs descend", f4=stripes[::-1])
    case("run-empty", "bad-record", "a run without stripes", f4=[[runs[0], []]])
    case("live-odd", "bad-live-set", "an odd number of lengths", f4=[[runs[0], [1]]])
    case("dropped-order", "bad-order", "the snapshots descend", f5=heads[::-1])
    case("receipts-twice", "bad-order", "a receipt stands twice", f6=[[heads[0], now], [heads[0], now + 1]])
    case("field-7", "bad-record", "a field too many", f7=0)

    case = group("sweep", sweep, (first_one, second_one))
    case("good", "success", "two of three authorities release all of a mark")
    case("less", "success", "one stripe, and no snapshot", f6=[[runs[0], [0, 1]]], f7=[])
    case("three", "success", "three authorities, one of them stolen since", signers=(first_one, second_one, third_one), history=both)
    case("stolen", "missing-signature", "two authorities, one of them stolen since", signers=(first_one, third_one), history=both)
    case("one", "missing-signature", "one authority where two must", signers=(first_one,))
    case("none", "missing-signature", "no signature", signers=())
    case("reaper", "unknown-signer", "the reaper signs too", signers=(first_one, second_one, reaper))
    case("roots", "unknown-signer", "two roots", signers=(p.r0, p.r1))
    case("late", "unknown-signer", "an authority of version 2 releases under version 1", signers=(first_one, late), history=both)
    case("early", "bad-record", "a second before the end of the cool-off", f5=now + 3 * DAY - 1)
    case("nothing", "bad-record", "it releases nothing", f6=[])
    case("runs-order", "bad-order", "the runs descend", f6=stripes[::-1])
    case("dropped-twice", "bad-order", "a snapshot stands twice", f7=[heads[0], heads[0]])
    case("other-archive", "wrong-archive", "a sweep of another archive", f1=m.OTHER_ANCHOR)
    case("type", "bad-signature", "signed as an exclave mark v1", kind="exclave mark v1")

    case = group("hold", hold, (p.r0,))
    case("root", "success", "one root holds a snapshot")
    case("dataset", "success", "an authority holds a dataset", signers=(first_one,), f3=[1, m.draw("held", 16)])
    case("archive", "success", "an administrator holds everything", signers=(administrator,), f3=[2])
    case("ended", "success", "two roots end it", ended, (p.r0, p.r1))
    case("ended-by-one", "missing-signature", "one root ends it where two must", ended)
    case("ended-by-authorities", "unknown-signer", "authorities end it", ended, (first_one, second_one))
    case("writer", "unknown-signer", "a writer holds", signers=(p.w0,))
    case("reaper", "unknown-signer", "a reaper holds", signers=(reaper,))
    case("two", "bad-record", "two roots place it", signers=(p.r0, p.r1))
    case("scope", "bad-record", "a hold of something else", f3=[3])
    case("scope-length", "bad-record", "an archive's hold with an id", f3=[2, heads[0]])
    case("reason-none", "bad-record", "no reason", f5="")
    case("reason-long", "bad-record", "401 bytes of reason", f5="x" * 401)
    case("reason-line", "bad-record", "a line feed in the reason", f5="a\nb")
    case("version-3", "wrong-charter", "a charter that nobody shows", f2=3)
    case("other-archive", "wrong-archive", "a hold of another archive", f1=m.OTHER_ANCHOR)
