"""Tests of rescue.py with archives that forge.py makes, and of the files in tests/vectors.

    .venv/bin/python -m unittest discover -s tools
"""

import contextlib, errno, hashlib, hmac, io, os, random, shutil, signal, subprocess, sys, tempfile, unittest, unittest.mock
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import forge
import rescue
import vector_runner
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VECTORS = Path(__file__).resolve().parent.parent / "tests" / "vectors"


class Newest(unittest.TestCase):
    """Which heads are newest, from links alone (FORMAT sections 11 and 14)."""

    LIFE, LATER = (b"w", b"1"), (b"w", b"2")

    def head(self, name: bytes, dataset: bytes, chain, seq: int, previous: bytes | None = None, tips=()):
        return rescue.Head(name, dataset, chain, seq, [*tips, *([previous] if previous else [])], {6: previous} if previous else {})

    def newest(self, dataset: bytes, *heads) -> list[bytes]:
        return sorted(h.hash for h in rescue.newest({h.hash: h for h in heads}, dataset))

    def test_a_head_that_reached_no_site_hides_no_ancestor(self):
        """Killed before the first put of `lost`, then rolled back: a new life names `c`, which names `lost`."""
        a, c = self.head(b"a", b"deeds", self.LIFE, 0), self.head(b"c", b"ships", self.LIFE, 2, b"lost")
        new = self.head(b"n", b"deeds", self.LATER, 0, tips=[b"c"])
        self.assertEqual((self.newest(b"deeds", a, c, new), self.newest(b"ships", a, c, new)), ([b"n"], [b"c"]))

    def test_a_predecessor_elsewhere_hides_no_ancestor(self):
        a, c = self.head(b"a", b"deeds", self.LIFE, 0), self.head(b"c", b"ships", self.LIFE, 1, b"f")
        foreign, new = self.head(b"f", b"ships", self.LATER, 0), self.head(b"n", b"deeds", self.LATER, 1, b"f", [b"c"])
        self.assertEqual(self.newest(b"deeds", a, c, foreign, new), [b"n"])

    def test_nobody_stands_in_at_a_fork(self):
        sides = [self.head(b"a", b"deeds", self.LIFE, 0), self.head(b"b", b"deeds", self.LIFE, 0)]
        c, new = self.head(b"c", b"ships", self.LIFE, 2, b"lost"), self.head(b"n", b"deeds", self.LATER, 0, tips=[b"c"])
        self.assertEqual(self.newest(b"deeds", *sides, c, new), [b"a", b"b", b"n"])


class Primitives(unittest.TestCase):
    def test_xwing_derives_the_public_key_of_the_draft(self):
        # draft-connolly-cfrg-xwing-kem, appendix C, first vector: its seed, and the beginning and end of its public key.
        seed = bytes.fromhex("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26")
        public = rescue.XWing(seed).public.hex()
        self.assertTrue(public.startswith("e2236b35a8c24b39b10aa1323a96a919a2ced88400633a7b07131713fc14b2b5"))
        self.assertTrue(public.endswith("06eff389b27dce59844570216223593d4ba32d9abac8cd049040ef6534"))

    def test_hpke_from_its_parts(self):
        """RFC 9180 base mode over X-Wing, built by hand, opens what the library seals: no library is needed in thirty years."""
        seed, info, secret = b"\7" * 32, b"some info", b"a run key of 32 bytes, as it is."
        _, enc, sealed = [None, *split(forge.HPKE.encrypt(secret, forge.Recipient(seed).secret.public_key(), info=info))]
        key = rescue.XWing(seed)
        parts = (key.kem.decapsulate(enc[:1088]), key.dh.exchange(x25519.X25519PublicKey.from_public_bytes(enc[1088:])),
                 enc[1088:], key.public[1184:], b"\\.//^\\")
        shared, suite = hashlib.sha3_256(b"".join(parts)).digest(), b"HPKE" + bytes.fromhex("647a00010002")

        def extract(salt, label, material):
            return hmac.new(salt, b"HPKE-v1" + suite + label + material, "sha256").digest()

        def expand(prk, label, context, size):
            return hmac.new(prk, size.to_bytes(2) + b"HPKE-v1" + suite + label + context + b"\1", "sha256").digest()[:size]
        context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
        prk = extract(shared, b"secret", b"")
        opened = AESGCM(expand(prk, b"key", context, 32)).decrypt(expand(prk, b"base_nonce", context, 12), sealed, b"")
        self.assertEqual(opened, secret)
        self.assertEqual(key.unseal(enc, sealed, info), secret)

    def test_code_rows_of_the_specification(self):
        self.assertEqual(rescue.code_rows([2, 3], 2), [[3, 2], [2, 3]])
        self.assertEqual(rescue.code_rows([0, 1, 5], 1), [[1], [1], [1]])
        for k in (1, 2, 3, 7, 32):
            self.assertEqual(rescue.code_rows(range(k), k), [[int(i == j) for j in range(k)] for i in range(k)])

    def test_matrix_and_interpolation_agree(self):
        data = [bytes(random.Random(i).randbytes(64)) for i in range(11)]
        for index in (11, 12, 20, 31):
            self.assertEqual(rescue.combine(rescue.code_rows([index], 11)[0], data), forge.parity(data, index))

    def test_chaining_values_lead_to_the_payload_hash(self):
        for groups in (1, 2, 3, 5):
            payload = random.Random(groups).randbytes(groups * 65536)
            trailer = forge.shard(bytes(116), 0, bytes(32), payload)[152 + len(payload):]
            self.assertEqual(rescue.trailer_root(trailer), rescue.hash_of(payload))

    def test_cbor_reads_what_the_forge_writes(self):
        value = {0: [1, 23, 24, 255, 256, 65535, 65536, 2**32, 2**64 - 1], 1: [-1, -24, -25, -2**63], 2: b"x" * 300, 3: "ä", 4: {}}
        self.assertEqual(rescue.cbor(forge.cbor(value)), value)


def split(sealed: bytes):
    return sealed[:1120], sealed[1120:]


class Vectors(unittest.TestCase):
    def test_each_vector_ends_as_it_says(self):
        paths = sorted(VECTORS.glob("*.vec"))
        self.assertGreaterEqual(len(paths), 400)
        for path in paths:
            with self.subTest(path.stem):
                outcome, expected = vector_runner.run(path)
                self.assertEqual(outcome, expected)

    def test_each_kind_that_a_layer_can_give_has_a_vector(self):
        kinds = {vector_runner.Vector(p.read_text()).text("expect") for p in VECTORS.glob("*.vec")}
        # This one is about whole archives: see Restore below.
        self.assertEqual(set(rescue.KINDS) - kinds, {"ledger-conflict"})

    def test_the_readme_lists_the_kinds(self):
        rows = [f"| `{kind}` | {meaning} |" for kind, meaning in rescue.KINDS.items()]
        self.assertIn("\n".join(rows), (VECTORS / "README.md").read_text())

    def test_damaged_vectors_are_refused_or_read_but_never_crash(self):
        dice = random.Random(1)
        for path in sorted(VECTORS.glob("*.vec")):
            v = vector_runner.Vector(path.read_text())
            if not v.body or len(v.body) > 100_000 or v.text("layer") in ("code", "stripe", "keyfile"):
                continue
            evaluate, body = vector_runner.LAYERS[v.text("layer")], v.body
            for _ in range(4):
                at = dice.randrange(len(body))
                v.body = dice.choice([body[:at], body[:at] + dice.randbytes(1) + body[at + 1:], body[:at] + dice.randbytes(3) + body[at:]])
                with self.subTest(path.stem, at=at), contextlib.suppress(rescue.Refused):
                    if v.text("layer") in ("chain", "runs", "charters", "obeyed", "grant", "kit", "logins", "revoked"):    # their bodies are the runner's own array, not the format's
                        rescue.cbor(v.body)
                    else:
                        evaluate(v)


class Restore(unittest.TestCase):
    """Whole archives, from folders."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="rescue-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.runs = 0
        os.environ["EXCLAVE_PASSPHRASE"] = "demo"

    def lay(self, forged: forge.Forge):
        self.forge = forged
        self.folder.mkdir(exist_ok=True)
        forged.write(self.folder)
        recipient = forged.recipients[0]
        (self.folder / "key.toml").write_bytes(forge.keyfile("recovery", recipient.public, recipient.seed, b"demo", bytes(16), forged.anchor))

    def lay_demo(self) -> dict[str, bytes]:
        forged = forge.Forge("test")
        files = forge.demo(forged)
        self.lay(forged)
        return files

    def rescue(self, command: str, *arguments, sites=(0, 1, 2), key="key.toml"):
        """(exit code, standard output, standard error)"""
        out, err = io.StringIO(), io.StringIO()
        keyed = ["--identity", str(self.folder / key), "--site", *(str(self.folder / f"site{s}") for s in sites)]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = rescue.main([command, *arguments, *keyed])
        return code, out.getvalue(), err.getvalue()

    def restore(self, *arguments, sites=(0, 1, 2), **more):
        self.runs += 1
        self.out = self.folder / f"out{self.runs}"
        return self.rescue("restore", "--to", str(self.out), *arguments, sites=sites, **more)

    def objects(self, pattern: str, site="*") -> list[Path]:
        found = sorted(self.folder.glob(f"site{site}/*/{pattern}"))
        self.assertTrue(found, pattern)
        return found

    def damage(self, path: Path, at: int = 5000):
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)

    def check(self, files: dict[str, bytes]):
        for name, data in files.items():
            self.assertEqual((self.out / name).read_bytes(), data, name)

    def test_all_sites_and_every_pair(self):
        files = self.lay_demo()
        for sites in ((0, 1, 2), (0, 1), (0, 2), (1, 2), (2, 1)):
            code, out, err = self.restore(sites=sites)
            self.assertEqual((code, "LOST" in out), (0, False), err)
            self.check(files)
        self.assertIn("skipped a-fifo", err)

    def test_metadata(self):
        self.lay_demo()
        self.restore()
        out = self.out
        names = sorted(p.relative_to(out).as_posix() for p in out.rglob("*"))
        self.assertEqual(names, ["a", "a/big.bin", "a/text", "empty", "link-1", "sparse", "sym", "z", "z/link-2"])
        self.assertEqual([(out / n).stat().st_mode & 0o7777 for n in ("", "a", "a/big.bin", "a/text", "z")], [0o750, 0o500, 0o640, 0o400, 0o755])
        self.assertEqual({(out / n).lstat().st_mtime_ns for n in names + [""]}, {1_600_000_000_123_456_789})
        self.assertEqual(os.readlink(out / "sym"), "../outside")
        self.assertEqual((out / "link-1").stat().st_ino, (out / "z/link-2").stat().st_ino)
        with contextlib.suppress(OSError):      # a file system may know no attributes
            os.setxattr(out / "z", "user.probe", b"")
            self.assertEqual(os.getxattr(out / "a/text", "user.exclave"), b"value")

    def test_one_site_is_not_enough(self):
        self.lay_demo()
        code, out, _ = self.restore(sites=(1,))
        self.assertEqual(code, 4)
        self.assertIn("LOST everything", out)
        self.assertIn("too-few-shards", out)
        self.assertEqual(list(self.out.iterdir()), [])

    def test_one_damaged_shard_of_each_stripe(self):
        files = self.lay_demo()
        for i, path in enumerate(self.objects("shards/*/*/*.00.*")):
            self.damage(path, 152 + 600 * i)
        for path in self.objects("shards/*/*/*.01.*"):
            self.damage(path, 10)        # a header's damage costs nothing: the ledger has the truth
        self.assertEqual(self.restore()[0], 0)
        self.check(files)

    def test_damage_in_one_stripe_costs_what_lies_in_it(self):
        files = self.lay_demo()
        run = forge.Run(self.forge, "first").id.hex()
        for index in ("00", "01"):
            for path in self.objects(f"shards/{run}/000000/0000000001.{index}.*"):
                self.damage(path)
        code, out, _ = self.restore()
        self.assertEqual(code, 4)
        self.assertIn("LOST a/big.bin: too-few-shards", out)
        self.assertFalse((self.out / "a/big.bin").exists())
        del files["a/big.bin"]
        self.check(files)

    def test_an_attempt_is_found(self):
        files = self.lay_demo()
        for path in self.objects("shards/*/*/*.00.*") + self.objects("shards/*/*/*.01.*"):
            whole = path.read_bytes()
            path.write_bytes(whole[:100])
            path.with_name(path.name + ".2").write_bytes(whole)
        self.assertEqual(self.restore(sites=(0, 1))[0], 0)
        self.check(files)

    def test_shards_may_lie_at_another_site(self):
        files = self.lay_demo()
        os.rename(self.folder / "site1", self.folder / "elsewhere")
        for path in sorted((self.folder / "elsewhere").rglob("*.01.*")):
            moved = self.folder / "site2" / path.relative_to(self.folder / "elsewhere")
            moved.parent.mkdir(parents=True, exist_ok=True)
            path.rename(moved)
        self.assertEqual(self.restore(sites=(2,))[0], 0)
        self.check(files)

    def test_an_older_head_on_request(self):
        files = self.lay_demo()
        code, out, _ = self.rescue("heads")
        self.assertEqual(code, 0)
        hashes = [line.split()[0] for line in out.splitlines() if " dataset " in line]
        self.assertEqual(len(hashes), 2)
        self.assertEqual([("older" in out.splitlines()[0]), ("newest" in out.splitlines()[2])], [True, True])
        self.assertEqual(self.restore("--head", hashes[0])[0], 0)
        self.check({"text": files["a/text"]})

    def test_a_newest_head_that_cannot_be_opened_is_passed_over_aloud(self):
        self.lay_demo()
        for path in self.objects(f"runs/{forge.Run(self.forge, 'second').id.hex()}/envelope.*"):
            path.unlink()
        code, _, err = self.restore()
        self.assertEqual(code, 6)
        self.assertIn("can't be opened: not-found", err)
        self.assertTrue((self.out / "text").exists())

    def test_a_lost_ledger_costs_its_stripes_and_the_headers_still_serve(self):
        files = self.lay_demo()
        run = forge.Run(self.forge, "first").id.hex()
        for path in self.objects(f"runs/{run}/ledger.*"):
            path.unlink()
        code, out, err = self.restore()
        self.assertEqual((code, out.count("LOST")), (4, 2))
        self.check({name: files[name] for name in ("empty", "sparse", "z/link-2")})
        code, out, err = self.rescue("stripe", run, "0", sites=(1, 2))
        self.assertEqual((code, out.startswith("data zstd offset 0 ")), (0, True))
        self.assertIn("going by the shards' headers", err)

    def test_stripe_prints_the_directory(self):
        self.lay_demo()
        code, out, err = self.rescue("stripe", forge.Run(self.forge, "second").id.hex(), "0")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual([line.split()[0] for line in out.splitlines()], ["data", "data", "page", "page", "page", "page"])
        self.assertEqual(self.rescue("stripe", forge.Run(self.forge, "second").id.hex(), "7")[0], 4)

    def test_inspect(self):
        self.lay_demo()
        path = self.objects("shards/*/*/*.02.*")[0]
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            self.assertEqual(rescue.main(["inspect", str(path)]), 0)
        self.assertIn("index      2 (parity), k 2, payload 65536 bytes", out.getvalue())
        self.damage(path)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            self.assertEqual(rescue.main(["inspect", str(path)]), 5)

    def test_signed_objects_that_were_changed_do_not_count(self):
        self.lay_demo()
        newest = self.objects("heads/*/*/00000000000000000001.*")
        for path in newest:
            self.damage(path, 300)
        code, _, err = self.restore()
        self.assertIn("bad-signature", err)
        self.assertEqual((code, (self.out / "text").exists()), (0, True))    # nobody can tell that there was a newer one
        for path in self.objects("charter/*"):
            self.damage(path, 300)
        self.assertEqual(self.restore()[0], 5)
        for path in self.objects("charter/*"):
            path.unlink()
        self.assertEqual(self.restore()[0], 4)

    def test_one_honest_copy_of_a_record_is_enough(self):
        files = self.lay_demo()
        for pattern in ("charter/*", "heads/*/*/*", "runs/*/*.*"):
            for path in self.objects(pattern, 0) + self.objects(pattern, 2):
                self.damage(path, 120)
        self.assertEqual(self.restore()[0], 0)
        self.check(files)

    def test_a_fork_is_reported_and_a_side_must_be_chosen(self):
        forged = forge.Forge("fork")
        run = forge.small(forged, lambda put: [forge.entry(b"", 1, 0o755)])
        value = rescue.cbor(rescue.split_signed(forged.objects[-1][1], 1 << 20)[0])
        forge.publish_head(forged, value | {11: 1})
        self.lay(forged)
        code, _, err = self.restore()
        self.assertEqual(code, 5)
        self.assertIn("FORK", err)
        self.assertIn("fork: ", err)
        code, out, _ = self.rescue("heads")
        self.assertEqual((code, out.count("newest")), (3, 2))
        self.assertEqual(self.restore("--head", out.split()[0])[0], 3)
        self.assertEqual(len(run.stripes), 1)

    def test_what_follows_one_side_of_a_fork_is_on_it(self):
        forged = forge.Forge("fork followed")
        forge.small(forged, lambda put: [forge.entry(b"", 1, 0o755)])
        value = rescue.cbor(rescue.split_signed(forged.objects[-1][1], 1 << 20)[0])
        other = forge.publish_head(forged, value | {11: 1})
        forge.publish_head(forged, value | {5: value[5] + 1, 6: other})
        self.lay(forged)
        code, _, err = self.restore()
        self.assertEqual(code, 5)
        self.assertIn("is on one side of a fork, 1 on another", err)

    def test_ledger_parts_that_disagree(self):
        def change(value):
            ctx, commitment, hashes = value[5][0]
            return forge.cbor(value | {5: [[ctx, commitment, [bytes(32)] + hashes[1:]]]})
        forged = forge.Forge("conflict")
        forge.small(forged, lambda put: [forge.entry(b"", 1, 0o755)], change)
        self.lay(forged)
        code, out, _ = self.restore()
        self.assertEqual(code, 4)
        self.assertIn("ledger-conflict", out)

    def lay_small(self, make_entries, **wrong):
        forged = forge.Forge("small")
        forge.small(forged, make_entries, **wrong)
        self.lay(forged)

    ROOT = staticmethod(lambda put: [forge.entry(b"", 1, 0o755)])

    def test_a_run_table_that_does_not_hold_what_the_head_needs(self):
        for change, kind in ((lambda line: line[:2] + [[9, 1]] + line[3:], "outside-live-set"), (lambda line: [bytes(16)] + line[1:], "wrong-run"),
                             (lambda line: [line[0], bytes(32)] + line[2:], "bad-commitment")):
            with self.subTest(kind):
                self.lay_small(self.ROOT, change_line=change)
                code, _, err = self.restore()
                self.assertEqual((code, f"rescue: {kind}" in err), (5, True), err)
                shutil.rmtree(self.folder)

    def lay_envelope(self, change, made=forge.Forge):
        """One run whose envelope differs in the fields that `change` gives for its run key."""
        forged = made("small")
        right = forged.envelope_value
        forged.envelope_value = lambda run, key, label: right(run, key, label) | change(key)
        forge.small(forged, self.ROOT)
        self.lay(forged)

    def test_an_envelope_is_held_to_head_and_charter(self):
        class TwoClasses(forge.Forge):
            def charter_value(self):
                value = super().charter_value()
                return value | {8: value[8] + [[8, *value[8][0][1:]]]}
        label = lambda key: {9: forge.label_box(key, bytes(32), b"secret")}
        for name, change, made, kind in (
                ("another dataset", lambda key: {3: bytes(16)}, forge.Forge, "wrong-run"),
                ("a class that isn't there", lambda key: {4: 8}, forge.Forge, "wrong-charter"),
                ("a class the writer may not write", lambda key: {4: 8}, TwoClasses, "unknown-signer"),
                ("another label than the head's", label, forge.Forge, "bad-commitment")):
            with self.subTest(name):
                self.lay_envelope(change, made)
                code, _, err = self.restore()
                self.assertEqual((code, f"rescue: {kind}" in err), (5, True), err)
                shutil.rmtree(self.folder)

    def test_a_stripe_is_held_to_the_label(self):
        right = forge.sealed_value
        with unittest.mock.patch.object(forge, "sealed_value", lambda *a: right(*a) | {2: "secret"}):
            self.lay_envelope(lambda key: {9: forge.label_box(key, bytes(32), b"secret")})
        code, out, _ = self.restore()
        self.assertEqual((code, "bad-commitment" in out), (4, True), out)

    def test_an_object_of_another_length_is_no_shard(self):
        self.lay_demo()
        for path in self.objects("shards/*/*/*", 0) + self.objects("shards/*/*/*", 1):
            path.write_bytes(path.read_bytes() + b"\0")
        code, out, err = self.restore()
        self.assertEqual((code, "too-few-shards" in out), (4, True), out + err)

    def test_a_run_key_is_compared_each_time(self):
        self.lay_demo()
        recipient = self.forge.recipients[0]
        archive = rescue.Archive([str(self.folder / "site0")], self.forge.anchor, rescue.XWing(recipient.seed))
        run = forge.Run(self.forge, "first")
        self.assertEqual(archive.run_key(run.id, run.commitment).run_key, run.key)
        with self.assertRaisesRegex(rescue.Refused, "bad-commitment"):
            archive.run_key(run.id, bytes(32))

    def test_an_index_page_must_name_its_pages_rightly(self):
        self.lay_small(self.ROOT, first=b"")
        self.assertEqual(self.restore()[0], 0)
        shutil.rmtree(self.folder)
        self.lay_small(self.ROOT, first=b"a")
        code, out, _ = self.restore()
        self.assertEqual((code, "bad-order" in out), (4, True))

    def test_a_whole_stripe_is_held_to_its_rules(self):
        self.lay_small(self.ROOT, padding=b"x")
        code, out, _ = self.restore()
        self.assertEqual((code, "bad-padding" in out), (4, True))

    def test_pages_of_extents_are_held_to_the_size(self):
        def entries(put):
            pieces = [[0, 4, [put(b"abcd")]], [4, 4, [put(b"efgh")]]]
            run = forge.Run(self.forge_of_small, "small").id
            ref = put(forge.page(255, pieces, [run]), 2)
            return [forge.entry(b"long", 0, 0o644, _10=8, _15=[ref]), forge.entry(b"short", 0, 0o644, _10=7, _15=[ref])]
        self.forge_of_small = forge.Forge("small")
        self.lay_small(entries)
        code, out, _ = self.restore()
        self.assertEqual((code, (self.out / "long").read_bytes(), (self.out / "short").exists()), (4, b"abcdefgh", False))
        self.assertIn("LOST short: bad-extents", out)

    def test_a_head_that_is_not_there(self):
        self.lay_small(self.ROOT)
        code, _, err = self.restore("--head", "00" * 32)
        self.assertEqual((code, "not-found" in err), (4, True))

    def test_no_file_is_written_through_a_link(self):
        outside = self.folder / "outside"
        outside.mkdir()

        def entries(put):
            ext = [[0, 4, [put(b"evil")]]]
            return [forge.entry(b"", 1, 0o755), forge.entry(b"link", 2, 0o777, _11=str(outside).encode()),
                    forge.entry(b"link/file", 0, 0o644, _10=4, _14=ext), forge.entry(b"link/sub", 1, 0o755), forge.entry(b"ok", 0, 0o644, _10=4, _14=ext)]
        self.lay_small(entries)
        code, out, _ = self.restore()
        self.assertEqual((code, list(outside.iterdir()), (self.out / "ok").read_bytes()), (4, [], b"evil"))
        self.assertIn("LOST link/file: bad-path", out)

    def test_a_file_is_not_a_folder(self):
        self.lay_small(lambda put: [forge.entry(b"f", 0, 0o644, _10=0), forge.entry(b"f/g", 0, 0o644, _10=0)])
        code, out, _ = self.restore()
        self.assertEqual(code, 4)
        self.assertIn("LOST f/g: bad-path", out)

    def test_members_of_a_link_group_must_agree(self):
        def entries(put):
            a, b = put(b"one"), put(b"two")
            return [forge.entry(b"a", 0, 0o644, _10=3, _13=b"a", _14=[[0, 3, [a]]]), forge.entry(b"b", 0, 0o644, _10=3, _13=b"a", _14=[[0, 3, [b]]])]
        self.lay_small(entries)
        code, out, _ = self.restore()
        self.assertEqual((code, (self.out / "a").read_bytes(), (self.out / "b").exists()), (4, b"one", False))
        self.assertIn("LOST b: bad-extents", out)

    def test_a_chunk_id_is_checked(self):
        def entries(put):
            ref = put(b"data")
            return [forge.entry(b"f", 0, 0o644, _10=4, _14=[[0, 4, [ref[:6] + [bytes(32)]]]])]
        self.lay_small(entries)
        code, out, _ = self.restore()
        self.assertEqual((code, (self.out / "f").exists()), (4, False))
        self.assertIn("LOST f: bad-chunk-id", out)

    def test_odd_things_in_a_store_do_no_harm(self):
        files = self.lay_demo()
        for path in self.objects("charter/*", 0):
            os.mkfifo(path.with_name("00000001.0000000000000000"))
            path.with_name("00000001.1111111111111111").mkdir()
            (path.parent.parent / "heads" / "x").write_bytes(b"x")
        for path in self.objects("heads/*/*/*", 0):
            path.with_name("junk").write_bytes(bytes(100_000))
        self.assertEqual(self.restore()[0], 0)
        self.check(files)

    def test_keys(self):
        self.lay_demo()
        os.environ["EXCLAVE_PASSPHRASE"] = "wrong"
        code, _, err = self.restore()
        self.assertEqual((code, "bad-passphrase" in err), (5, True))
        (self.folder / "passphrase").write_bytes(b"demo\n")
        self.assertEqual(self.restore("--passphrase-file", str(self.folder / "passphrase"))[0], 0)
        stranger, anchor = forge.Recipient(b"s" * 32), self.forge.anchor
        for name, archive in (("stranger.toml", anchor), ("lost.toml", None)):
            (self.folder / name).write_bytes(forge.keyfile("recovery", stranger.public, stranger.seed, b"wrong", bytes(16), archive))
        code, _, err = self.restore(key="stranger.toml")
        self.assertEqual((code, "not-a-recipient" in err), (5, True))
        self.assertEqual(self.restore(key="lost.toml")[0], 2)
        self.assertEqual(self.restore("--anchor", anchor.hex(), key="lost.toml")[0], 5)
        root = self.forge.roots[0]
        (self.folder / "root.toml").write_bytes(forge.keyfile("root", root.public, root.seed, b"wrong", bytes(16), anchor))
        code, _, err = self.restore(key="root.toml")
        self.assertEqual((code, "a recovery key is needed" in err), (5, True))

    def process(self, *arguments, shell="", **more):
        """rescue.py as a process of its own, without a terminal. `shell` runs before it, in the same place."""
        environment = {name: value for name, value in os.environ.items() if name != "EXCLAVE_PASSPHRASE"} | more.pop("env", {})
        command = [sys.executable, rescue.__file__, *map(str, arguments)]
        if shell:
            command = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c", shell + ' && exec "$@"', "sh", *command]
        return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True, **more)

    def one_line(self, done, code: int, *parts: str):
        self.assertEqual((done.returncode, done.stderr.count("\n")), (code, 1), done.stderr)
        for part in ("rescue: ", *parts):
            self.assertIn(part, done.stderr)

    def test_without_a_terminal_a_passphrase_must_be_given(self):
        self.lay_demo()
        keyed = ("heads", "--identity", self.folder / "key.toml", "--site", self.folder / "site0")
        for environment in ({}, {"EXCLAVE_PASSPHRASE": ""}):
            self.one_line(self.process(*keyed, env=environment), 2, "there is no terminal", "--passphrase-file FILE", "EXCLAVE_PASSPHRASE")
        self.one_line(self.process(*keyed, "--passphrase-file", self.folder / "nothing"), 2, "passphrase file", "nothing can't be read: No such file")
        self.assertEqual(self.process(*keyed, env={"EXCLAVE_PASSPHRASE": "demo"}).returncode, 0)

    def test_missing_packages_are_named(self):
        done = subprocess.run([sys.executable, "-S", "-I", rescue.__file__, "heads"], capture_output=True, text=True)
        self.one_line(done, 2, "No module named ", "cryptography (50 or later), blake3, zstandard")

    def test_what_is_named_wrongly_is_said_in_one_line(self):
        self.lay_demo()
        key, site = self.folder / "key.toml", self.folder / "site0"
        shard = self.objects("shards/*/*/*")[0]
        (self.folder / "out").write_bytes(b"a file")
        demo = {"EXCLAVE_PASSPHRASE": "demo"}
        for code, part, *arguments in (
                (2, "no such folder: ", "heads", "--identity", key, "--site", self.folder / "nowhere", key),
                (2, "nothing can't be read: No such file", "heads", "--identity", self.folder / "nothing", "--site", site),
                (2, "can't be read: Is a directory", "heads", "--identity", self.folder, "--site", site),
                (2, "is no key file: ", "heads", "--identity", shard, "--site", site),
                (2, "isn't empty", "restore", "--to", self.folder, "--identity", key, "--site", site),
                (1, "Not a directory", "restore", "--to", self.folder / "out", "--identity", key, "--site", site),
                (1, "Not a directory", "restore", "--to", self.folder / "out" / "below", "--identity", key, "--site", site, self.folder / "site1"),
                (5, "bad-magic: ", "inspect", key),
                (1, "No such file", "inspect", self.folder / "nothing")):
            with self.subTest(part):
                self.one_line(self.process(*arguments, env=demo), code, part)
        self.one_line(self.process("heads", "--identity", key, "--site", site, env={"EXCLAVE_PASSPHRASE": "wrong"}), 5, "bad-passphrase: ")
        self.assertIn("isn't 64 hex digits", self.process("heads", "--identity", key, "--site", site, "--anchor", "abc").stderr)

    def test_a_folder_that_does_not_hold_the_archive_is_told_where_it_is(self):
        files = self.lay_demo()
        archive = self.objects("charter")[0].parent
        (self.folder / "shelf").mkdir()
        os.rename(self.folder / "site1", self.folder / "shelf" / "disk")
        code, _, err = self.restore(sites=(0, 2, 7))
        self.assertEqual((code, "site7: can't be read: No such file" in err), (0, True), err)
        for site, part in ((self.folder / "shelf", "the archive isn't here, but in "), (archive, "this is the archive's own folder; give the one above it")):
            done = self.process("heads", "--identity", self.folder / "key.toml", "--site", site, env={"EXCLAVE_PASSPHRASE": "demo"})
            self.assertEqual((done.returncode, part in done.stderr, "Traceback" in done.stderr), (4, True, False), done.stderr)
        os.rename(archive, archive.parent / ("0" * 32))
        code, _, err = self.restore(sites=(0, 2))
        self.assertIn(f"holds no archive {archive.name}, but {'0' * 32}", err)
        self.assertEqual((code, len(files) > 3), (4, True))

    def test_a_folder_that_cannot_be_read_costs_only_what_lies_in_it(self):
        files, listed = self.lay_demo(), os.listdir
        for bad in ("shards", "heads", "runs", "charter"):
            def listdir(path, bad=bad):
                if f"site0/{self.forge.anchor.hex()[:32]}/{bad}" in str(path):
                    raise OSError(errno.EIO, "Input/output error")
                return listed(path)
            with self.subTest(bad), unittest.mock.patch("os.listdir", listdir):
                code, _, err = self.restore()
                self.assertEqual((code, "can't be read: Input/output error" in err), (0, True), err)
                self.check(files)

    def test_a_full_disk_is_no_loss(self):
        self.lay_demo()
        target = self.folder / "small"
        target.mkdir()
        mount = f"mount -t tmpfs -o size=160k tmpfs {target}"
        if subprocess.run(["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c", mount], capture_output=True).returncode:
            self.skipTest("no file system can be mounted here")
        sites = [self.folder / f"site{s}" for s in range(3)]
        keyed = ("--identity", self.folder / "key.toml", "--site", *sites)
        done = self.process("restore", "--to", target, *keyed, shell=mount, env={"EXCLAVE_PASSPHRASE": "demo"})
        self.one_line(done, 1, "can't be written: No space left on device", "restore again to a new or an empty folder")
        self.assertNotIn("LOST", done.stdout)

    def test_a_file_that_the_target_does_not_take_is_a_finding(self):
        files, symlink = self.lay_demo(), os.symlink
        with unittest.mock.patch("os.symlink", side_effect=OSError(errno.EPERM, "Operation not permitted")):
            code, out, _ = self.restore()
        self.assertEqual((code, "NOT TAKEN by the target, sym: Operation not permitted" in out, symlink is os.symlink), (3, True, True))
        self.check(files)

    def test_names_are_printed_whatever_they_hold(self):
        self.lay_small(lambda put: [forge.entry("имя\x1b[31m".encode(), 3, 0o644), forge.entry(b"\xff", 3, 0o644)])
        for path in self.objects("heads/*/*/*", 0):
            path.with_name("00000000000000000009.\x1b[31m").write_bytes(b"x")
        sites = [self.folder / f"site{s}" for s in range(3)]
        environment = {"EXCLAVE_PASSPHRASE": "demo", "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
        done = self.process("restore", "--to", self.folder / "out", "--identity", self.folder / "key.toml", "--site", *sites, env=environment)
        self.assertEqual((done.returncode, "\x1b" in done.stderr + done.stdout, "Traceback" in done.stderr), (0, False, False), done.stderr)

    def test_a_reader_that_goes_away_and_an_interrupt(self):
        self.lay_demo()
        command = [sys.executable, rescue.__file__, "heads", "--identity", str(self.folder / "key.toml"), "--site", str(self.folder / "site0")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"EXCLAVE_PASSPHRASE": "demo"})
        process.stdout.close()
        self.assertEqual((process.wait(60), process.stderr.read()), (1, b""))
        process.stderr.close()
        # It waits for the passphrase at a pipe that nobody writes to.
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        process = subprocess.Popen([*command, "--passphrase-file", str(pipe)], stderr=subprocess.PIPE, text=True)
        writer = os.open(pipe, os.O_WRONLY)
        process.send_signal(signal.SIGINT)
        self.assertEqual((process.wait(60), process.stderr.read().count("\n")), (130, 1))
        os.close(writer)
        process.stderr.close()

    def test_a_target_that_is_not_empty_is_left_alone(self):
        self.lay_demo()
        (self.folder / "out1").mkdir()
        (self.folder / "out1" / "mine").write_bytes(b"mine")
        self.assertEqual(self.restore()[0], 2)
        self.assertEqual([p.name for p in self.out.iterdir()], ["mine"])

    def test_datasets_by_name_and_id(self):
        self.lay_demo()
        self.assertEqual(self.restore("--dataset", "registers")[0], 0)
        self.assertEqual(self.restore("--dataset", self.forge.dataset.hex())[0], 0)
        self.assertEqual(self.restore("--dataset", "other")[0], 4)

    def test_the_forge_is_deterministic_up_to_signatures(self):
        one, two = forge.Forge("same"), forge.Forge("same")
        forge.demo(one), forge.demo(two)

        def stable(forged):
            return [o for o in forged.objects if "/shards/" in o[0] or "/ledger." in o[0] or "/live." in o[0]]
        self.assertGreater(len(stable(one)), 9)
        self.assertEqual(stable(one), stable(two))


if __name__ == "__main__":
    unittest.main()
