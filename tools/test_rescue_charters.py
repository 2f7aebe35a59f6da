"""Tests of rescue.py with charters of several versions, from folders that forge.py fills.

    .venv/bin/python -m unittest discover -s tools
"""

import contextlib, io, os, shutil, sys, tempfile, unittest, unittest.mock
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import charter_vectors
import forge
import make_vectors
import rescue
from charter_vectors import COMPROMISED, RETIRED, following, revocation
from forge import cbor, h, signed


class Charters(unittest.TestCase):
    """The demo archive, whose two writers' charter changes."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="rescue-charters-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.forge = f = forge.Forge("test")
        self.files, self.people = forge.demo(f), charter_vectors.People(make_vectors)
        self.first = f.charter_value()
        recipient = f.recipients[0]
        (self.folder / "key.toml").write_bytes(forge.keyfile("recovery", recipient.public, recipient.seed, b"demo", bytes(16), f.anchor))

    def publish(self, value: dict, *signers, site=None):
        """A version, at every site or at one."""
        self.forge.add(f"charter/{value[1]:08}", signed("exclave charter v1", cbor(value), *(signers or self.forge.roots)), site)
        return value

    def rescue(self, command: str, *arguments, sites=(0, 1, 2)):
        """(exit code, standard output, standard error)"""
        self.forge.write(self.folder)
        out, err = io.StringIO(), io.StringIO()
        keyed = ["--identity", str(self.folder / "key.toml"), "--site", *(str(self.folder / f"site{s}") for s in sites)]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), unittest.mock.patch.dict(os.environ, EXCLAVE_PASSPHRASE="demo"):
            code = rescue.main([command, *map(str, arguments), *(keyed if command != "charter" else [])])
        return code, out.getvalue(), err.getvalue()

    def restore(self, **more):
        self.out = self.folder / f"out{len(list(self.folder.glob('out*')))}"
        return self.rescue("restore", "--to", self.out, **more)

    def head_of(self, seq: int) -> bytes:
        name, data, _ = next(o for o in self.forge.objects if f"/{seq:020}." in o[0])
        return h(rescue.split_signed(data, 1 << 20)[0])

    def without(self, writer: forge.Signer, reason: int, *pins) -> dict:
        left = [w for w in self.first[5] if w[0] != writer.public]
        epochs = [[s[0], s[1] + (reason == COMPROMISED), s[2]] for s in self.first[6]]
        return self.publish(following(make_vectors, self.first, f5=left, f6=epochs, f12=[revocation(writer, reason, *pins)]))

    def test_what_one_version_says_of_another_time_stays_true(self):
        """A recipient left; what was wrapped for both is read by the charter of its time."""
        recipients = self.first[6][0]
        self.publish(following(make_vectors, self.first, f6=[[recipients[0], recipients[1] + 1, recipients[2][1:]]]))
        code, out, err = self.restore()
        self.assertEqual((code, "going by charter version 2" in err), (0, True), err)
        for name, data in self.files.items():
            self.assertEqual((self.out / name).read_bytes(), data, name)

    def test_a_pin_keeps_what_it_reaches(self):
        self.without(self.forge.writers[0], RETIRED, [self.forge.incarnation, 1, self.head_of(1)])
        code, _, err = self.restore()
        self.assertEqual((code, "void" in err), (0, False), err)
        self.assertEqual((self.out / "a/text").read_bytes(), self.files["a/text"])

    def test_what_follows_the_pin_is_void(self):
        self.without(self.forge.writers[0], COMPROMISED, [self.forge.incarnation, 0, self.head_of(0)])
        code, out, err = self.restore()
        self.assertEqual((code, "1 heads of revoked writer" in err, (self.out / "text").exists()), (0, True, True), err)
        code, out, _ = self.rescue("heads")
        self.assertEqual((code, out.count(" dataset "), self.head_of(0).hex() in out), (0, 1, True))

    def test_without_pins_nothing_is_left_and_that_is_said(self):
        self.without(self.forge.writers[0], COMPROMISED)
        code, _, err = self.restore()
        self.assertEqual((code, "2 heads of revoked writer" in err, "no valid head" in err), (4, True, True), err)

    def test_a_lost_pin_is_told(self):
        self.without(self.forge.writers[0], RETIRED, [bytes(16), 3, bytes(32)], [self.forge.incarnation, 1, self.head_of(1)])
        code, _, err = self.restore()
        self.assertEqual((code, "LOST PIN: the head " + "00" * 32 in err), (3, True), err)

    def test_two_versions_of_one_number_end_history_aloud(self):
        for change in (0, 1):
            self.publish(following(make_vectors, self.first, f3=change), site=change)
        code, _, err = self.restore()
        self.assertEqual((code, "CHARTER FORK: enough roots signed 2 different versions 2" in err, "going by version 1" in err), (3, True, True), err)
        code, _, err = self.restore(sites=(1, 2))
        self.assertEqual((code, "going by charter version 2" in err), (0, True), err)

    def test_a_version_that_is_not_signed_by_enough_is_ignored_aloud(self):
        self.publish(following(make_vectors, self.first), self.forge.roots[0])
        code, _, err = self.restore()
        self.assertEqual((code, "missing-signature: 1 of 2 signatures by roots of version 1" in err), (0, True), err)

    def test_each_site_alone_may_hide_a_version(self):
        """Together they show it. A head that obeys it gives it away when all that are left hide it."""
        second = self.publish(following(make_vectors, self.first), site=2)
        name, data, _ = next(o for o in self.forge.objects if f"/{1:020}." in o[0])
        value = rescue.cbor(rescue.split_signed(data, 1 << 20)[0])
        forge.publish_head(self.forge, value | {5: 2, 6: self.head_of(1), 8: second[1]})
        code, _, err = self.restore()
        self.assertEqual((code, "going by charter version 2" in err), (0, True), err)
        code, _, err = self.restore(sites=(0, 1))
        self.assertEqual((code, "HIDDEN CHARTER: a head obeys charter version 2, and the sites show version 1 at most" in err), (6, True), err)

    def test_a_revoked_writer_can_claim_what_it_likes(self):
        self.without(self.forge.writers[1], RETIRED)
        name, data, _ = next(o for o in self.forge.objects if f"/{1:020}." in o[0])
        value = rescue.cbor(rescue.split_signed(data, 1 << 20)[0])
        forge.publish_head(self.forge, value | {3: self.forge.writers[1].id, 8: 9}, writer=1)
        code, _, err = self.restore()
        self.assertEqual((code, "it obeys charter version 9" in err, "HIDDEN" in err), (0, True, False), err)

    def test_a_run_that_was_wrapped_anew_and_one_that_was_given(self):
        """A recipient that joined later opens nothing, then one run by a re-wrap, then the other by a grant."""
        late, restorer = self.people.recipients[2], self.people.members[0]
        (self.folder / "key.toml").write_bytes(forge.keyfile("recovery", late.public, late.seed, b"demo", bytes(16), self.forge.anchor))
        set_id, epoch, keys = self.first[6][0]
        self.publish(following(make_vectors, self.first, f6=[[set_id, epoch, [*keys, late.public]]], f10=[[1, restorer.public, []]]))
        code, _, err = self.restore()
        self.assertEqual((code, "not-a-recipient" in err), (5, True), err)
        runs, anchor = [forge.Run(self.forge, name) for name in ("first", "second")], self.forge.anchor
        everybody = sorted([*self.forge.recipients, late], key=lambda r: r.id)
        again = self.forge.envelope_value(runs[0].id, runs[0].key, "public") | {5: 2}
        again[10] = [r.stanza(anchor, runs[0].id, runs[0].commitment, runs[0].key) for r in everybody]
        self.forge.add(f"runs/{runs[0].id.hex()}/envelope", signed("exclave envelope v1", cbor(again), restorer))
        code, _, err = self.restore()
        self.assertEqual((code, (self.out / "text").exists()), (6, True), err)
        info = rescue.wrapping_info(b"exclave grant v1", anchor, runs[1].id, late.id, runs[1].commitment)
        both = forge.HPKE.encrypt(runs[1].key, late.secret.public_key(), info=info)
        grant = {0: 1, 1: anchor, 2: 2, 3: late.public, 4: [self.head_of(1)], 5: [[runs[1].id, runs[1].commitment, both[:1120], both[1120:]]], 6: 0}
        data = signed("exclave grant v1", cbor(grant), restorer)
        self.forge.objects.append((f"{anchor.hex()[:32]}/grants/{h(data).hex()[:16]}", data, 0))
        code, _, err = self.restore()
        self.assertEqual((code, "1 grants give run keys to this identity" in err), (0, True), err)
        self.assertEqual((self.out / "a/text").read_bytes(), self.files["a/text"])

    def test_a_charter_file_is_printed_and_judged(self):
        f = self.forge
        one = signed("exclave charter v1", f.charter_record, *f.roots)
        site = {0: bytes(16), 1: "new", 2: 0, 3: 0}
        value = following(make_vectors, self.first, f7=self.first[7] + [site])
        plate = signed("exclave site v1", cbor({0: 1, 1: f.anchor, 2: bytes(16)}), f.roots[0])
        strange = signed("exclave site v1", cbor({0: 1, 1: f.anchor, 2: bytes(16)}), f.writers[0])
        path = self.folder / "next.charter"

        def judged(*arguments, signers=f.roots, value=value, plates=(plate,)):
            path.write_bytes(cbor([1, [one, signed("exclave charter v1", cbor(value), *signers)], list(plates)]))
            return self.rescue("charter", path, *arguments)
        code, out, _ = judged("--archive", f.anchor.hex())
        self.assertEqual((code, f"digest {h(cbor(value)).hex()}" in out, out.count("    holds"), f"plate for site {'00' * 16}" in out), (0, True, 2, True), out)
        code, out, _ = judged(signers=f.roots[:1])
        self.assertEqual((code, "1 of 2 roots of version 1 signed, 2 must" in out, "signatures are missing still" in out), (3, True, True), out)
        self.assertIn("as the file itself says", out)
        self.assertEqual(judged("--archive", "00" * 32)[0], 5)
        code, out, _ = judged(plates=(strange,))
        self.assertEqual((code, "plate refused: unknown-signer" in out), (3, True), out)
        code, _, err = judged(value=value | {5: value[5][:1]})
        self.assertEqual((code, "bad-succession: writer " in err), (5, True), err)
        path.write_bytes(b"not a charter file")
        self.assertEqual(self.rescue("charter", path)[0], 5)


if __name__ == "__main__":
    unittest.main()
