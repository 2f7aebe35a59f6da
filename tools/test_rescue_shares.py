"""Tests of rescue.py with a split recovery key [section 17]: words, digits and files, typed and from files.

    .venv/bin/python -m unittest discover -s tools
"""

import contextlib, io, os, shutil, subprocess, sys, tempfile, unittest, unittest.mock
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import forge
import rescue

WORDS = rescue.WORDS.split()
SHAPE = [("offices", 2, [(f"office {x}", 0) for x in range(1, 4)]), ("embassies", 2, [(f"embassy {x}", 1) for x in range(1, 5)])]


class Shares(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="rescue-shares-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.forge = forge.Forge("test")
        self.files = forge.demo(self.forge)
        self.forge.write(self.folder)
        self.set, self.shares = forge.share_set(self.forge.draw, self.forge.recipients[0], SHAPE, 2)
        (self.folder / "shares.set").write_bytes(forge.cbor(self.set))
        self.runs = 0

    def restore(self, *names, typed: str = "", shares_only=False, **env):
        """(exit code, standard error) of a process without a terminal."""
        self.runs += 1
        self.out = self.folder / f"out{self.runs}"
        more = names.index("--ceremony-key") if "--ceremony-key" in names else len(names)
        given = [part for name in names[:more] for part in ("--share", str(name))] + list(names[more:])
        sites = [str(self.folder / f"site{site}") for site in (0, 2)]
        anchor = [] if shares_only else ["--anchor", self.forge.anchor.hex()]
        command = [sys.executable, rescue.__file__, "restore", "--to", self.out, *given, "--set", self.folder / "shares.set", *anchor, "--site", *sites]
        done = subprocess.run([str(part) for part in command], input=typed, capture_output=True, text=True, env=os.environ | env, start_new_session=True)
        return done.returncode, done.stderr

    def text(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def whole(self):
        for name, data in self.files.items():
            self.assertEqual((self.out / name).read_bytes(), data, name)

    def test_words_digits_and_files_open_the_archive_together(self):
        (_, office2, office3), (embassy1, _, _, embassy4) = self.shares
        words = self.text("words", forge.share_words(office2, WORDS))
        digits = self.text("digits", forge.share_digits(embassy1))
        public = embassy4[:16] + rescue.share_commitment(embassy4)
        file = self.text("file", forge.keyfile("share", public, embassy4[16:], b"locked", bytes(16), self.forge.anchor).decode())
        typed = forge.share_words(office3, WORDS)
        code, err = self.restore(words, digits, "-", file, typed=typed, shares_only=True, EXCLAVE_PASSPHRASE="locked")
        self.assertEqual(code, 0, err)
        self.whole()
        # Two on standard input, one after the other.
        typed = forge.share_digits(office2) + forge.share_words(office3, WORDS)
        code, err = self.restore("-", "-", digits, file, typed=typed, EXCLAVE_PASSPHRASE="locked")
        self.assertEqual(code, 0, err)
        self.whole()

    def test_shares_that_came_by_wire_open_with_the_ceremonys_key(self):
        ceremony, other = forge.Recipient(b"\1" * 32), forge.Recipient(b"\2" * 32)
        key = self.text("ceremony", forge.keyfile("ceremony", ceremony.public, ceremony.seed, b"once", bytes(16)).decode())
        given = [self.shares[0][0], self.shares[0][1], self.shares[1][0], self.shares[1][1]]
        names = [self.text(f"wrapped{at}", forge.wrapped_share(share, ceremony).decode()) for at, share in enumerate(given)]
        code, err = self.restore(*names, "--ceremony-key", key, EXCLAVE_PASSPHRASE="once")
        self.assertEqual(code, 0, err)
        self.whole()
        code, err = self.restore(*names)
        self.assertEqual((code, "--ceremony-key FILE" in err), (2, True), err)
        names[2].write_bytes(forge.wrapped_share(given[2], other))
        code, err = self.restore(*names, "--ceremony-key", key, EXCLAVE_PASSPHRASE="once")
        self.assertEqual((code, "not-a-recipient" in err, "wrapped2" in err), (5, True, True), err)

    def test_bad_shares_are_named_and_do_not_stand_in_the_way(self):
        other, foreign = forge.share_set(self.forge.draw, self.forge.recipients[0], SHAPE, 2, epoch=1, set_id=bytes(8))
        altered = self.shares[1][2][:-1] + bytes([self.shares[1][2][-1] ^ 1])
        given = [self.shares[0][0], self.shares[0][2], altered, foreign[1][0], self.shares[1][0], self.shares[1][0], self.shares[1][3]]
        names = [self.text(f"share{at}", forge.share_digits(share)) for at, share in enumerate(given)]
        code, err = self.restore(*names)
        self.assertEqual(code, 0, err)
        self.whole()
        for part in ("altered-share: the share of embassy 3", "foreign-share: share 1 of group 2", "repeated-share: the share of embassy 1"):
            self.assertIn(part, err)
        code, err = self.restore(*names[:4])
        self.assertEqual((code, "too-few-shares" in err, "embassies: 0 of the 2 needed" in err), (4, True, True), err)
        self.assertFalse(self.out.exists())

    def test_a_line_that_is_typed_wrongly_is_named(self):
        typed = forge.share_words(self.shares[0][0], WORDS).split()
        typed[14] = WORDS[(WORDS.index(typed[14]) + 1) % 2048]
        code, err = self.restore("-", typed=" ".join(typed))
        self.assertEqual((code, "bad-check" in err, "line 3" in err), (5, True, True), err)
        code, err = self.restore("-")
        self.assertEqual((code, "an empty share" in err), (5, True), err)

    def test_typing_goes_on_at_the_line_that_was_wrong(self):
        lines = forge.share_words(self.shares[0][0], WORDS).splitlines()
        asked = iter([lines[0], "abandon", lines[2], *lines[1:4], "exclave " * 6, *lines[4:]])
        err = io.StringIO()
        with unittest.mock.patch("getpass.getpass", lambda _: next(asked)), contextlib.redirect_stderr(err):
            self.assertEqual(rescue.type_share(), self.shares[0][0])
        self.assertEqual(err.getvalue().count("line 2"), 2, err.getvalue())
        self.assertIn("line 5, word 1: not a word of the list", err.getvalue())

    def test_every_subset_of_a_small_split(self):
        for of in range(2, 6):
            for threshold in range(2, of + 1):
                shape = [("all", threshold, [(f"one {x}", 2) for x in range(of)])]
                share_set, (shares,) = forge.share_set(self.forge.draw, self.forge.recipients[1], shape, 1)
                share_set = rescue.read_share_set(forge.cbor(share_set))
                for mask in range(1 << of):
                    chosen = [share for at, share in enumerate(shares) if mask >> at & 1]
                    good, findings = rescue.check_shares(share_set, chosen)
                    self.assertEqual((good, findings), (chosen, []))
                    if len(chosen) >= threshold:
                        self.assertEqual(rescue.combine_shares(share_set, good), self.forge.recipients[1].seed)
                    else:
                        with self.assertRaises(rescue.Refused) as refused:
                            rescue.combine_shares(share_set, good)
                        self.assertEqual(refused.exception.kind, "too-few-shares")

    def test_the_list_of_words_is_that_of_the_specification(self):
        source = (Path(__file__).resolve().parent.parent / "FORMAT.md").read_text()
        block = source.split("### The word list")[1].split("```")[1].split(None, 1)[1]
        self.assertEqual(block.split(), rescue.word_list())


if __name__ == "__main__":
    unittest.main()
