"""Kits: made, published, fetched, altered, and restored from on a machine that has nothing else. Run by process_tests.py."""

import json, os, random, re, shutil, socket, subprocess, tempfile, time, tomllib
from pathlib import Path

import kit_world
from kill_world import FAKETIME, Shape, tree_of
from process_world import CUSTODIANS, Card, Typing, decoder


class Kit(Typing):
    """A kit and two custodians, on a machine that has nothing else: no settings, no name server, another decade."""

    RUNBOOK = Path(__file__).parents[1] / "docs" / "runbooks" / "recovery.md"

    def setUp(self):
        if why := kit_world.missing() or (None if FAKETIME.is_file() else "libfaketime isn't installed"):
            self.skipTest(why)
        place = Path(tempfile.mkdtemp(dir=self.folder))
        self.world = kit_world.StoresWorld(place / "world", random.Random(1), self.binary, self.shim, self.mounts, Shape(2, "2+2", 2112))
        self.addCleanup(self.world.close)
        self.commits("deeds")
        (self.world.folder / "custodians.toml").write_text(CUSTODIANS)
        self.expect(0, "key", "split", "--identity", "recovery.key", "--custodians", "custodians.toml", "--out", "shares")
        self.expect(0, "charter", "new")
        draft = self.world.folder / "charter.toml"
        draft.write_text(draft.read_text() + '\n[[shares]]\nset = "shares/shares.set"\n')
        self.expect(0, "charter", "sign", "charter.toml", "--root", "exclave-root.key")
        self.expect(0, "charter", "publish", "charter.v2.charter")
        # Without its symbols the program is a quarter as long.
        stripped = self.world.folder / "stripped"
        if subprocess.run(["strip", "-o", stripped, self.binary], capture_output=True).returncode:
            stripped = self.binary
        self.expect(0, "kit", "make", "--out", "kit", "--binary", str(stripped))
        self.kit = self.world.folder / "kit"

    def expect(self, code: int, *words: str, telling: str = ""):
        done = self.world.run(*words)
        self.assertEqual((done.code, telling in done.out + done.err), (code, True), f"{done.last_words()}\n{telling}\n{done.out}{done.err}")
        return done

    def publish(self):
        self.expect(0, "kit", "sign", "kit", "--root", "exclave-root.key")
        self.expect(0, "kit", "publish", "kit")
        self.card = Card((self.world.folder / "shares/1-1-first.html").read_text())
        self.at_a = self.world.sites["a"] / self.card.anchor[:32] / "kit"

    def nowhere(self):
        """Nobody but this machine answers, no name server, and no list of authorities."""
        self.assertEqual([name for _, name in socket.if_nameindex()], ["lo"])
        if self.mounts:
            nowhere = self.world.folder / "resolv.conf"
            nowhere.write_text("nameserver 192.0.2.1\n")
            subprocess.run(["mount", "--bind", nowhere, "/etc/resolv.conf"], check=True)
            self.addCleanup(subprocess.run, ["umount", "/etc/resolv.conf"], check=True)
            empty = self.world.folder / "no-authorities"
            empty.mkdir()
            subprocess.run(["mount", "--bind", empty, "/etc/ssl"], check=True)
            self.addCleanup(subprocess.run, ["umount", "/etc/ssl"], check=True)

    def lose(self, *sites: str):
        for site in sites:
            for inside in self.world.sites[site].iterdir():
                shutil.rmtree(inside)

    def test_two_custodians_and_a_kit_ten_years_off(self):
        self.publish()
        machines = []
        for years in (10, -10):
            fresh = self.world.folder / f"machine{years}"
            (fresh / "home").mkdir(parents=True)
            subprocess.run(["cp", "-r", self.at_a / "00000001", fresh / "kit"], check=True)
            machines.append((years, fresh))
        # Both folders are gone: what is left wants a login, and one of the two knows its server by a pin alone.
        self.lose("a", "b")
        self.nowhere()
        third = Card((self.world.folder / "shares/1-3-third.html").read_text())
        block = re.findall(r"^```sh\n(.*?)^```$", self.RUNBOOK.read_text(), re.M | re.S)[4]
        self.assertIn("--kit kit", block)
        for years, fresh in machines:
            with self.subTest(years=years):
                # A trap for whoever reads more of this machine than the kit.
                (fresh / "exclave.toml").write_text("this is no configuration\n")
                environment = {"PATH": "/usr/bin:/bin", "HOME": str(fresh / "home"), "LD_PRELOAD": str(FAKETIME), "FAKETIME": f"{years * 365:+}d",
                               "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
                               "EXCLAVE_SITE_BUCKET_ACCESS_KEY": "trap", "EXCLAVE_SITE_BUCKET_SECRET_KEY": "trap"}
                script = f"export ANCHOR={self.card.anchor}\n{block}"
                code, seen = self.at_a_terminal(["/bin/bash", "-ec", script], [*self.card.words, *third.words], fresh, **environment)
                self.assertEqual(code, 0, seen)
                self.assertIn(f"this machine's clock says {time.gmtime(time.time() + years * 365 * 86_400).tm_year}", seen)
                self.assertRegex(seen, r"bucket +read +nothing +s3://[^\0]*dav +read +pin +https://")
                self.assertEqual(tree_of(fresh / "restored"), self.world.sources["deeds"].snapshot())
                self.assertEqual(list((fresh / "home").iterdir()), [])
                for line in (*self.card.words, *third.words):
                    self.assertNotIn(line, seen)

    def test_what_was_altered_is_named_and_nothing_is_restored(self):
        keyed = ("--identity", "recovery.key")
        self.expect(5, "restore", "--kit", "kit", *keyed, "--to", "out", telling="0 of 1 roots signed it")
        self.expect(5, "kit", "publish", "kit", telling="0 of 1 roots signed it")
        self.publish()
        for name in ("exclave", "credentials.sealed", "sites.toml", "charters", "rescue.py", "manifest"):
            for how in ("flipped", "shorter", "longer", "gone"):
                with self.subTest(name=name, how=how):
                    shutil.rmtree(self.world.folder / "bad", ignore_errors=True)
                    subprocess.run(["cp", "-r", self.kit, self.world.folder / "bad"], check=True)
                    path = self.world.folder / "bad" / name
                    data = bytearray(path.read_bytes())
                    data[len(data) // 2] ^= 1
                    good = path.read_bytes()
                    path.write_bytes({"flipped": bytes(data), "shorter": good[:-1], "longer": good + b"x", "gone": b""}[how])
                    if how == "gone":
                        path.unlink()
                    # What a restore doesn't need may be missing, aloud.
                    lesser = how == "gone" and name in ("exclave", "rescue.py")
                    telling = f"the kit's {name} is missing" if lesser else "manifest" if name == "manifest" else f"{name} is "
                    code = 0 if lesser else 2 if (name, how) == ("manifest", "gone") else 5
                    to = f"out-{name}-{how}"
                    self.expect(code, "restore", "--kit", "bad", *keyed, "--to", to, telling=telling)
                    self.assertEqual((self.world.folder / to).exists(), lesser)
        # Cards carry what a custodian compares.
        self.expect(0, "key", "split", "--identity", "recovery.key", "--custodians", "custodians.toml", "--out", "cards", "--kit", "kit")
        page = (self.world.folder / "cards/1-1-first.html").read_text()
        shown = json.loads(self.expect(0, "kit", "show", "kit").out)
        program = next(file["sha256"] for file in shown["files"] if file["name"] == "exclave")
        self.assertEqual((f"<td>digest of kit 1</td><td>{shown['digest']}</td>" in page, f"<td>exclave in kit 1</td><td>{program}</td>" in page), (True, True))
        # Whole, but not for whom it is.
        self.expect(0, "key", "generate", "--out", "other.key")
        anchor = self.card.anchor
        self.expect(5, "restore", "--kit", "kit", "--identity", "other.key", "--archive", anchor, "--to", "out", telling="the kit's credentials don't open")
        self.expect(5, "restore", "--kit", "kit", *keyed, "--archive", "0" * 64, "--to", "out", telling=f"it is of archive {anchor}, not of 000")
        self.expect(5, "kit", "show", "kit", "--archive", "0" * 64, telling="it is of archive")
        self.expect(2, "restore", "--kit", "kit", "--to", "out", telling="a recovery identity is needed")
        self.assertFalse((self.world.folder / "out").exists())
        # The program's own word for word, by the decoder that was written from FORMAT.md.
        told = self.world.folder / "told.toml"
        code, out, err = decoder("kit", str(self.kit), "--identity", str(self.world.folder / "recovery.key"), "--out", str(told))
        self.assertEqual((code, f"kit 1 of archive {anchor}" in out), (0, True), out + err)
        self.assertEqual((told.stat().st_mode & 0o777, tomllib.loads(told.read_text())), (0o600, tomllib.loads((self.world.folder / "reading.toml").read_text())))
        code, out, err = decoder("kit", str(self.at_a / "00000001"), "--anchor", anchor)
        self.assertEqual(code, 0, out + err)
        (self.world.folder / "bad" / "manifest").write_bytes((self.kit / "manifest").read_bytes())
        (self.world.folder / "bad" / "sites.toml").write_text("archive = 1")
        code, out, err = decoder("kit", str(self.world.folder / "bad"), "--anchor", anchor)
        self.assertEqual((code, "sites.toml isn't what the manifest says" in err), (5, True), out + err)

    def test_a_kit_is_fetched_whole_from_damaged_sites_and_publishing_goes_on(self):
        self.publish()
        again = json.loads(self.expect(0, "kit", "publish", "kit").out)
        self.assertEqual([(site["site"], site["sent"]) for site in again["sites"]], [("a", 0), ("b", 0), ("bucket", 0), ("dav", 0)])
        # One site has lost a piece, one has other bytes in it, one the manifest; each is made good, and nothing else is sent.
        torn = next((self.world.sites["a"] / self.card.anchor[:32] / "kit/00000001").glob("exclave.001.*"))
        torn.unlink()
        lies = next((self.world.sites["b"] / self.card.anchor[:32] / "kit/00000001").glob("rescue.py.*"))
        lies.write_bytes(lies.read_bytes()[::-1])
        self.expect(0, "kit", "fetch", "--to", "fetched")
        for path in self.kit.iterdir():
            self.assertEqual((self.world.folder / "fetched" / path.name).read_bytes(), path.read_bytes(), path.name)
        self.assertTrue(os.access(self.world.folder / "fetched" / "exclave", os.X_OK))
        self.assertEqual(subprocess.run(["sha256sum", "--quiet", "-c", "sha256sums"], cwd=self.world.folder / "fetched").returncode, 0)
        again = json.loads(self.expect(0, "kit", "publish", "kit").out)
        sent = {site["site"]: site["sent"] for site in again["sites"]}
        self.assertEqual((sent["bucket"], sent["dav"], sent["b"]), (0, 0, lies.stat().st_size))
        self.assertEqual(sent["a"], torn.stat().st_size)
        self.assertEqual(json.loads(self.expect(0, "kit", "publish", "kit").out)["sites"][1]["sent"], 0)
        # A second kit lies beside the first, which stays.
        self.expect(0, "kit", "make", "--out", "kit2", "--binary", "/bin/true")
        self.expect(0, "kit", "sign", "kit2", "--root", "exclave-root.key")
        self.expect(0, "kit", "publish", "kit2")
        self.assertEqual(sorted(path.name for path in self.at_a.iterdir()), ["00000001", "00000002"])
        self.assertEqual(json.loads(self.expect(0, "kit", "fetch", "--to", "newest").out)["version"], 2)
        self.assertEqual(json.loads(self.expect(0, "kit", "fetch", "--to", "older", "--version", "1").out)["version"], 1)

    def test_no_kit_has_what_the_agent_writes_with_unless_it_is_said(self):
        settings = self.world.folder / "exclave.toml"
        text = settings.read_text()
        settings.write_text(text.replace('read_credentials = "reading.toml"\n', ""))
        refused = self.expect(5, "kit", "make", "--out", "w", telling="for bucket only the credentials are known that the agent writes with")
        self.assertIn("for dav only", refused.err)
        self.expect(5, "kit", "make", "--out", "w", "--read-credentials", "writing.toml", telling="are those that the agent writes with")
        self.expect(5, "kit", "make", "--out", "w", "--accept-writing", "bucket", telling="for dav only")
        self.assertFalse((self.world.folder / "w").exists())
        made = json.loads(self.expect(0, "kit", "make", "--out", "w", "--accept-writing", "bucket", "--without-credentials", "dav").out)
        self.assertEqual({site["name"]: site["login"] for site in made["sites"]}, {"a": "open", "b": "open", "bucket": "writes", "dav": "missing"})
        settings.write_text(text)
        # What is in the kit by default can read and not write.
        (self.world.folder / "thief.toml").write_text(text.replace('"writing.toml"', '"reading.toml"'))
        check = self.world.run("--config", "thief.toml", "site", "check", "bucket")
        self.assertNotEqual(check.code, 0)
        self.assertRegex(check.out + check.err, "(?i)denied|forbidden|do not suffice")

    def test_readiness_says_what_is_stale_and_proves_the_log_in(self):
        keyed = ("--identity", "recovery.key")
        none = json.loads(self.expect(3, "readiness").out)
        self.assertEqual([finding["what"] for finding in none["findings"]], ["no site has a kit"])
        self.publish()
        quiet = json.loads(self.expect(0, "readiness").out)
        self.assertEqual((quiet["findings"], quiet["login_proven"], [site["login"] for site in quiet["sites"]]), ([], False, [None] * 4))
        self.assertIn("was not proven", self.world.run("--quiet", "readiness").out)
        good = json.loads(self.expect(0, "readiness", *keyed).out)
        self.assertEqual((good["findings"], good["login_proven"], [site["login"] for site in good["sites"]]), ([], True, [True] * 4))
        self.assertEqual([line["dataset"] for line in good["datasets"]], ["deeds"])
        self.assertIn("Nothing is stale", self.world.run("--quiet", "readiness", *keyed).out)
        by_shares = ("--share", "shares/1-1-first.share", "--share", "shares/1-3-third.share")
        self.assertTrue(json.loads(self.expect(0, "readiness", *by_shares).out)["login_proven"])

        shutil.rmtree(self.at_a / "00000001")
        self.told(json.loads(self.expect(3, "readiness").out), ("a", "it does not have kit 1"))
        self.expect(0, "kit", "publish", "kit")
        next((self.at_a / "00000001").glob("exclave.000.*")).unlink()
        self.told(json.loads(self.expect(3, "readiness").out), ("a", "does not list every piece"))
        self.expect(0, "kit", "publish", "kit")
        # The reader's password is another one by now: the agent doesn't notice, the kit is no good.
        dav = self.world.stores[1]
        dav.change_reader()
        said = json.loads(self.expect(3, "readiness", *keyed).out)
        self.told(said, ("dav", "one can't read there with the kit"))
        self.assertEqual([site["login"] for site in said["sites"]], [True, True, True, False])
        self.assertEqual(json.loads(self.expect(0, "readiness").out)["findings"], [])
        # An address of the configuration moved, a recipient joined.
        settings = self.world.folder / "exclave.toml"
        text = settings.read_text()
        settings.write_text(text.replace("[every_site]\n", '[every_site]\nsilence_max = "31s"\n'))
        self.told(json.loads(self.expect(3, "readiness").out), ("a", "in another way than the configuration"))
        settings.write_text(text)
        self.expect(0, "key", "generate", "--out", "second.key", "--public", "second.pub")
        self.expect(0, "charter", "new", "--out", "join.toml")
        draft = self.world.folder / "join.toml"
        before, behind = draft.read_text().split("[[recipients]]\n")
        draft.write_text(f"{before}[[recipients]]\n" + behind.replace("keys = [", 'keys = ["second.pub", ', 1))
        self.expect(0, "charter", "sign", "join.toml", "--root", "exclave-root.key")
        self.expect(0, "charter", "publish", "join.v3.charter")
        stale = json.loads(self.expect(3, "readiness").out)
        self.told(stale, (None, "under charter version 2, and the newest is 3"), (None, "joined, and can't log in with the kit"))
        self.expect(5, "restore", "--kit", "kit", "--identity", "second.key", "--archive", self.card.anchor, "--to", "out", telling="the kit's credentials don't open")

    def told(self, report: dict, *wanted: tuple[str | None, str]):
        for site, what in wanted:
            self.assertTrue(any(f["site"] == site and what in f["what"] and f["next"] for f in report["findings"]), f"{site}: {what} in {report['findings']}")
        self.assertEqual(len(report["findings"]) - len(wanted), 3 if "in another way" in wanted[0][1] else 0, report["findings"])
