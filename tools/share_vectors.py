"""share_vectors.py: the vectors of FORMAT.md section 17, for make_vectors.py, whose functions `v` and `f` they are given."""

import copy

import forge
import rescue
from forge import cbor, kdf


def flip(data: bytes, at: int) -> bytes:
    return put(data, at % len(data), bytes([data[at] ^ 1]))


def put(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new):]


def but(value: dict, **changes) -> dict:
    return copy.deepcopy(value) | {int(key[1:]): new for key, new in changes.items()}


def share_sets(v, f):
    draw = f.draw
    one, two = [f"office {x}" for x in range(1, 4)], [f"embassy {x}" for x in range(1, 5)]
    shape = [("national offices", 2, [(who, 0) for who in one]), ("allied embassies", 2, [(who, 1) for who in two])]
    value, shares = forge.share_set(draw, f.recipients[0], shape, 2)
    single, singles = forge.share_set(draw, f.recipients[0], [("custodians", 3, [(f"custodian {x}", 2) for x in range(1, 6)])], 1,
                                      set_id=draw("single set", 8))
    people = value[5][0][3]

    def with_group(at=0, **change):
        """The set with fields of one group replaced: f0 the name, f1 the threshold, f2 the commitment, f3 the custodians."""
        groups = copy.deepcopy(value[5])
        for key, new in change.items():
            groups[at][int(key[1:])] = new
        return but(value, f5=groups)
    good = cbor(value)
    v("shareset-good", "shareset", "success", "2 of 3 offices and 2 of 4 embassies", good, good)
    v("shareset-single", "shareset", "success", "one group, 3 of 5", cbor(single), cbor(single))
    many = [[f"group {at}", 16, draw("g", 32), [[f"custodian {at} {x}", 0, draw("c", 32)] for x in range(16)]] for at in range(16)]
    v("shareset-largest", "shareset", "success", "16 of 16 groups, each 16 of 16", cbor(but(value, f4=16, f5=many)))
    long = many + [["group 16", 2, draw("g", 32), [["a", 0, draw("c", 32)], ["b", 0, draw("c", 32)]]]]
    stranger = lambda body: with_group(f3=[people[0], [people[1][0], body, people[1][2]], people[2]])
    for name, expect, comment, bad in [
        ("version-2", "bad-version", "version 2", but(value, f0=2)), ("id-16", "bad-record", "an id of 16 bytes", but(value, f1=draw("id", 16))),
        ("no-groups", "bad-record", "no groups", but(value, f5=[])), ("no-custodians", "bad-record", "a group without custodians", with_group(f3=[])),
        ("epoch-2-32", "bad-record", "an epoch of 2^32", but(value, f2=2**32)), ("surplus", "bad-record", "an unknown field", but(value, f6=1)),
        ("groups-17", "too-long", "17 groups", but(value, f4=2, f5=long)),
        ("custodians-17", "too-long", "17 custodians in a group", with_group(f3=[[f"o {x}", 0, draw("c", 32)] for x in range(17)])),
        ("needs-1", "bad-threshold", "one of two groups is enough", but(value, f4=1)), ("needs-3", "bad-threshold", "three of two groups", but(value, f4=3)),
        ("single-needs-2", "bad-threshold", "two of one group", but(single, f4=2)), ("t-1", "bad-threshold", "one custodian is enough", with_group(f1=1)),
        ("t-0", "bad-threshold", "no custodian is needed", with_group(f1=0)), ("t-4", "bad-threshold", "four of three custodians", with_group(f1=4)),
        ("name-empty", "bad-record", "a custodian without a name", with_group(f3=[["", 0, people[0][2]], *people[1:]])),
        ("name-81", "bad-record", "a group's name of 81 bytes", with_group(f0="x" * 81)), ("name-control", "bad-record", "an escape in a name", with_group(f0="a\x1b[2J")),
        ("name-c1", "bad-record", "a control character above 127 in a name", with_group(f0="a\x85")),
        ("group-twice", "bad-record", "two groups of one name", with_group(at=1, f0="national offices")),
        ("custodian-twice", "bad-record", "one custodian in both groups", with_group(at=1, f3=[[people[0][0], 1, draw("c", 32)], *value[5][1][3][1:]])),
        ("hyperscale", "bad-custodian", "a hyperscale cloud as custodian", stranger(3)), ("non-allied", "bad-custodian", "a body that isn't allied", stranger(4)),
        ("body-5", "bad-record", "a body that isn't defined", stranger(5))]:
        v(f"shareset-{name}", "shareset", expect, comment, cbor(bad))
    v("shareset-too-long", "shareset", "too-long", "64 KiB and a byte", bytes(65537))
    share_texts(v, shares[1][2])
    wrapped(v, f, shares[1][2])
    combinations(v, f, value, shares, single, singles, shape)
    key_file = forge.keyfile("share", shares[1][2][:16] + commitment_of(shares[1][2]), shares[1][2][16:], b"correct horse", draw("share salt", 16), f.anchor)
    known = dict(passphrase=b"correct horse")
    v("keyfile-share", "keyfile", "success", "a custodian's share", key_file, shares[1][2][16:], **known)
    header = shares[1][2][:16].hex().encode()
    v("keyfile-share-header", "keyfile", "bad-keyfile", "x is above m", key_file.replace(header, header[:28] + b"15" + header[30:]), **known)
    v("keyfile-share-other", "keyfile", "wrong-key", "another custodian's header", key_file.replace(header, shares[1][3][:16].hex().encode()), **known)


def commitment_of(share):
    return kdf("exclave 2026 share commitment v1", share)


def share_texts(v, share):
    words = rescue.WORDS.split()
    text, digits = forge.share_words(share, words), forge.share_digits(share)
    typed, groups = text.split(), digits.split()

    def case(name, expect, comment, source, output=None):
        v(f"sharetext-{name}", "sharetext", expect, comment, source.encode(), output)

    def line(tokens, width):
        return "\n".join(" ".join(tokens[at:at + width]) for at in range(0, len(tokens), width)) + "\n"

    def swapped(tokens, a, b):
        tokens = list(tokens)
        tokens[a], tokens[b] = tokens[b], tokens[a]
        return tokens
    case("words", "success", "seven lines of six words", text, share)
    case("digits", "success", "six lines of five groups", digits, share)
    case("words-short", "success", "first four letters, in upper case, on one line", " ".join(word[:4] for word in typed).upper(), share)
    case("digits-joined", "success", "150 digits without spaces, as a QR code holds them", "".join(groups), share)
    other = words[(words.index(typed[8]) + 1) % 2048]
    case("word-other", "bad-check", "line 2, word 3 is another word of the list", line([*typed[:8], other, *typed[9:]], 6))
    case("word-unknown", "bad-word", "line 2, word 3 isn't in the list", line([*typed[:8], "exclave", *typed[9:]], 6))
    case("word-five-letters", "bad-word", "five letters of a longer word", line([*typed[:8], "aband", *typed[9:]], 6))
    case("words-swapped", "bad-check", "two words of line 4 changed places", line(swapped(typed, 18, 20), 6))
    case("words-check-swapped", "bad-check", "the check word of line 4 changed places with the first", line(swapped(typed, 18, 23), 6))
    case("lines-swapped", "bad-check", "lines 2 and 5 changed places", line([*typed[:6], *typed[24:30], *typed[12:24], *typed[6:12], *typed[30:]], 6))
    case("word-missing", "bad-check", "line 3 lacks a word, so the next line's first moves up", line([*typed[:14], *typed[15:]], 6))
    case("words-cut", "bad-length", "the last line is missing", line(typed[:36], 6))
    case("words-cut-short", "bad-length", "the last word is missing", line(typed[:41], 6))
    case("words-more", "bad-length", "a line too many", line(typed + typed[:6], 6))
    case("empty", "bad-length", "nothing", "\n")
    case("words-last-bit", "bad-padding", "the bit behind the share is set", forge.share_words(share, words, lambda n: n[:-1] + [n[-1] | 1]))
    case("version-0", "bad-version", "version 0", forge.share_words(put(share, 0, b"\0"), words))
    case("version-2", "bad-version", "version 2, as digits", forge.share_digits(put(share, 0, b"\2")))
    for name, comment, at, byte in [("needs", "3 of 2 groups", 13, 0x21), ("needs-1", "1 of 2 groups", 13, 0x01), ("group", "the third of 2 groups", 14, 0x22),
                                    ("x", "x = 5 of 4", 14, 0x14), ("t-1", "t = 1", 15, 0x03), ("t-5", "t = 5 of 4", 15, 0x43)]:
        case(f"header-{name}", "bad-threshold", comment, forge.share_words(put(share, at, bytes([byte])), words))
    case("group-other", "bad-check", "line 3, group 2 is off by one", line([*groups[:11], f"{(int(groups[11]) + 1) % 65536:05}", *groups[12:]], 5))
    case("groups-swapped", "bad-check", "two groups of line 1 changed places", line(swapped(groups, 0, 3), 5))
    case("group-65536", "bad-word", "a group of 65536", line([*groups[:11], "65536", *groups[12:]], 5))
    case("group-letter", "bad-word", "the letter O for a zero", line([*groups[:11], "O1234", *groups[12:]], 5))
    case("digit-missing", "bad-word", "the fourth digit is missing: groups shift, and one is above 65535", "".join(groups)[:3] + "".join(groups)[4:])
    case("digits-cut", "bad-length", "the last group is missing", line(groups[:29], 5))


def wrapped(v, f, share):
    to, stranger = f.recipients[0], f.recipients[1]
    good = forge.wrapped_share(share, to)
    text = good.decode()

    def case(name, expect, comment, body, output=None):
        v(f"wrappedshare-{name}", "wrappedshare", expect, comment, body, output, ceremony=to.seed)

    def flipped(key):
        """The last hex digit of a value changed."""
        end = text.index('"\n', text.index(f"{key} = ")) - 1
        return (text[:end] + ("0" if text[end] != "0" else "1") + text[end + 1:]).encode()
    case("good", "success", "a share for a ceremony's key", good, share)
    case("enc", "bad-tag", "the encapsulated key was altered", flipped("enc"))
    case("ciphertext", "bad-tag", "the ciphertext was altered", flipped("ciphertext"))
    case("stranger", "not-a-recipient", "for another ceremony", forge.wrapped_share(share, stranger))
    case("redirected", "bad-tag", "for another ceremony, and called ours", forge.wrapped_share(share, stranger).replace(stranger.id.hex().encode(), to.id.hex().encode()))
    case("info", "bad-tag", "sealed under an envelope's info", forge.wrapped_share(share, to, b"exclave envelope v1"))
    case("version", "bad-version", "version 2 of a share", forge.wrapped_share(put(share, 0, b"\2"), to))
    case("x", "bad-threshold", "x is above m", forge.wrapped_share(put(share, 14, b"\x1f"), to))
    case("format", "bad-keyfile", "another format", text.replace("share v1", "share v2").encode())
    case("surplus", "bad-keyfile", "an unknown key", (text + 'note = "x"\n').encode())
    case("short", "bad-keyfile", "a ciphertext that is a byte short", good[:-4] + b'"\n')
    salt = f.draw("ceremony salt", 16)
    file = forge.keyfile("ceremony", to.public, to.seed, b"correct horse", salt)
    known = dict(passphrase=b"correct horse")
    v("keyfile-ceremony", "keyfile", "success", "a ceremony's key", file, to.seed, **known)
    v("keyfile-ceremony-renamed", "keyfile", "bad-passphrase", "a ceremony's key called a recovery key",
      file.replace(b'kind = "ceremony"', b'kind = "recovery"'), **known)


def combinations(v, f, value, shares, single, singles, shape):
    draw = f.draw
    words = rescue.WORDS.split()
    seed, offices, embassies = f.recipients[0].seed, shares[0], shares[1]
    again, newer = forge.share_set(draw, f.recipients[0], shape, 2, epoch=1)

    def case(name, expect, comment, given, output=None, of=value):
        texts = [forge.share_words(share, words) if at % 2 else forge.share_digits(share) for at, share in enumerate(given)]
        v(f"combine-{name}", "combine", expect, comment, cbor(texts), output, share_set=cbor(of))
    enough = [offices[0], offices[2], embassies[1], embassies[3]]
    case("good", "success", "two of each group", enough, seed)
    case("all", "success", "every share, from the last to the first", [*embassies[::-1], *offices[::-1]], seed)
    case("single", "success", "3 of 5 in one group", [singles[0][4], singles[0][0], singles[0][2]], seed, of=single)
    case("again", "success", "after a second split", [newer[0][1], newer[0][2], newer[1][0], newer[1][3]], seed, of=again)
    case("foreign", "foreign-share", "a share of another set", [*enough, singles[0][1]])
    case("old", "old-share", "a share of the split before", [newer[0][1], newer[0][2], newer[1][0], embassies[1]], of=again)
    case("new", "new-share", "a share of the next split", [*enough[:3], newer[1][3]])
    case("threshold", "wrong-share", "a share that says 3 of 3", [put(offices[0], 15, b"\x22"), *enough[1:]])
    case("structure", "wrong-share", "a share that says 2 of 3 groups", [put(offices[0], 13, b"\x12"), *enough[1:]])
    case("place", "wrong-share", "x = 4 in a group of 3", [put(put(offices[0], 14, b"\x03"), 15, b"\x13"), *enough[1:]])
    case("altered", "altered-share", "the last bit of a value is flipped", [*enough[:3], flip(enough[3], -1)])
    case("other-place", "altered-share", "a share under another's place", [*enough[:3], put(enough[3], 14, b"\x12")])
    case("repeated", "repeated-share", "the same share twice", [enough[0], enough[0], *enough[2:]])
    case("too-few", "too-few-shares", "two offices and one embassy", enough[:3])
    case("one-group", "too-few-shares", "all of one group", embassies)
    case("none", "too-few-shares", "no share at all", [])
    lying = copy.deepcopy(value)
    lying[5][1][2] = draw("lie", 32)
    case("group-commitment", "bad-commitment", "the set commits to another secret of a group", enough, of=lying)
    case("other-key", "wrong-key", "the set is for another recovery key", enough, of=but(value, f3=f.recipients[1].id))
