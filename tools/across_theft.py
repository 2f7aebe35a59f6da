#!/usr/bin/env python3
"""A thief with an agent's own credentials at a locked bucket (THREATS A7, A8): 2+2 at three directories and a bucket of Ceph with
versions and a retention that nobody may lift. He deletes, overwrites, squats, shortens and changes what he can; then two
directories are lost, so that every stripe needs the bucket's shards, and the dataset must come back bit for bit.

    tools/across_theft.py --binary FILE [TEST ...]

Standard library only. Debian's Ceph is needed; tools/real-servers installs it and runs this.
"""

import argparse, datetime, json, os, random, shutil, signal, subprocess, sys, tempfile, unittest
import urllib.parse
import xml.etree.ElementTree as ElementTree
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "servers"))

from across_servers import Across
from across_world import DONE, FINDINGS, MIB, Archive, Ceph, Directory, tree_of
from s3_bucket import S3, BUCKET_XMLNS, document

DENIED = 403
# What the run-book (docs/runbooks/locks.md) gives an agent: it may put, read and look beneath, and nothing else.
AGENT_MAY = {
    "objects": ["s3:PutObject", "s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectRetention"],
    "bucket": ["s3:ListBucket", "s3:ListBucketVersions", "s3:GetBucketVersioning", "s3:GetBucketObjectLockConfiguration",
               "s3:GetLifecycleConfiguration"],
}
# Whoever puts an object owns it, and an owner may change its lock; so that is denied by name.
AGENT_MAY_NOT = ["s3:PutObjectRetention", "s3:PutObjectLegalHold", "s3:PutObjectAcl", "s3:PutObjectVersionAcl",
                 "s3:BypassGovernanceRetention", "s3:DeleteObject", "s3:DeleteObjectVersion"]


class There(Directory):
    name = "there"


class Yonder(Directory):
    name = "yonder"


class Locked(Ceph):
    """The bucket that locks, with the owner's credentials or an agent's."""

    name = "ceph-locked"
    agent: tuple[str, str] | None = None

    def address(self, prefix: str) -> str:
        return f"s3://{self.endpoint['S3_LOCKED_BUCKET']}/{prefix}"

    def keys(self) -> tuple[str, str]:
        return self.agent or (self.endpoint["S3_ACCESS_KEY"], self.endpoint["S3_SECRET_KEY"])

    def settings(self) -> str:
        access, secret = self.keys()
        return (f'endpoint = "{self.endpoint["S3_ENDPOINT"]}"\nregion = "{self.endpoint["S3_REGION"]}"\n'
                f'credentials.s3 = {{ access_key = "{access}", secret_key = "{secret}" }}\n')

    def bucket(self, keys: tuple[str, str]) -> S3:
        return S3(self.endpoint["S3_ENDPOINT"], self.endpoint["S3_REGION"], self.endpoint["S3_LOCKED_BUCKET"], *keys)

    def owner(self) -> S3:
        return self.bucket((self.endpoint["S3_ACCESS_KEY"], self.endpoint["S3_SECRET_KEY"]))

    def stop(self):
        """Its gateway doesn't end by itself any more once it has run a rule of the lifecycle; all it holds is in memory."""
        if self.process is not None:
            self.kill()

    def admin(self, *words: str) -> str:
        environment = os.environ | {"CEPH_CONF": str(self.folder / "ceph.conf")}
        return subprocess.run(["radosgw-admin", *words], check=True, capture_output=True, text=True, env=environment, timeout=120).stdout

    def hire(self) -> None:
        """A user who may do what an agent needs."""
        keys = ("agentaccess", "agentsecret")
        self.admin("user", "create", "--uid=agent", "--display-name=agent", f"--access-key={keys[0]}", f"--secret-key={keys[1]}")
        name = f"arn:aws:s3:::{self.endpoint['S3_LOCKED_BUCKET']}"
        statement = lambda effect, actions, resource: {"Effect": effect, "Principal": {"AWS": ["arn:aws:iam:::user/agent"]},
                                                       "Action": actions, "Resource": [resource]}
        policy = {"Version": "2012-10-17",
                  "Statement": [statement("Allow", AGENT_MAY["objects"], f"{name}/*"), statement("Allow", AGENT_MAY["bucket"], name),
                                statement("Deny", AGENT_MAY_NOT, f"{name}/*")]}
        code, answer = self.owner().request("PUT", "", "policy", json.dumps(policy).encode())
        assert code // 100 == 2, (code, answer)
        self.agent = keys


class Thief:
    """What he can do with credentials that he stole."""

    def __init__(self, bucket: S3, prefix: str, dice: random.Random):
        self.bucket, self.prefix, self.dice = bucket, prefix, dice

    def versions(self) -> dict[str, list[tuple[str, int | None]]]:
        """Of every key below the prefix its versions, the newest first; a delete marker has no length."""
        found, query = {}, f"prefix={urllib.parse.quote(self.prefix, safe='')}&versions"
        key_marker = version_marker = None
        while True:
            more = "" if key_marker is None else f"&key-marker={urllib.parse.quote(key_marker, safe='')}&version-id-marker={version_marker}"
            code, answer = self.bucket.request("GET", "", query + more)
            assert code == 200, (code, answer)
            root = ElementTree.fromstring(answer)
            text = lambda element, name: element.findtext(f"{{{BUCKET_XMLNS}}}{name}")
            for element in root:
                if element.tag.endswith(("}Version", "}DeleteMarker")):
                    size = text(element, "Size") if element.tag.endswith("}Version") else None
                    found.setdefault(text(element, "Key"), []).append((text(element, "VersionId"), None if size is None else int(size)))
            if text(root, "IsTruncated") != "true":
                return found
            key_marker, version_marker = text(root, "NextKeyMarker"), text(root, "NextVersionIdMarker")

    def delete(self, key: str) -> int:
        return self.bucket.request("DELETE", key)[0]

    def delete_version(self, key: str, version: str) -> set[int]:
        """With and without a word that lifts a weaker lock."""
        query = f"versionId={urllib.parse.quote(version, safe='')}"
        return {self.bucket.request("DELETE", key, query, headers=headers)[0]
                for headers in ({}, {"x-amz-bypass-governance-retention": "true"})}

    def overwrite(self, key: str, size: int) -> int:
        return self.bucket.request("PUT", key, "", self.dice.randbytes(size))[0]

    def shorten(self, key: str, version: str) -> set[int]:
        query = f"retention&versionId={urllib.parse.quote(version, safe='')}"
        codes, hour = set(), datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
        for mode in ("COMPLIANCE", "GOVERNANCE"):
            for until in ("2026-01-01T00:00:00Z", hour.strftime("%Y-%m-%dT%H:%M:%SZ")):
                body = document("Retention", f"<Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate>")
                codes.add(self.bucket.request("PUT", key, query, body)[0])
                codes.add(self.bucket.request("PUT", key, query, body, {"x-amz-bypass-governance-retention": "true"})[0])
        return codes

    def locked_until(self, key: str, version: str) -> datetime.datetime:
        code, answer = self.bucket.request("GET", key, f"retention&versionId={urllib.parse.quote(version, safe='')}")
        assert code == 200, (code, answer)
        text = next(element.text for element in ElementTree.fromstring(answer) if element.tag.endswith("RetainUntilDate"))
        return datetime.datetime.fromisoformat(text[:19] + "+00:00")

    def expire(self) -> int:
        """A rule of the lifecycle by which everything is deleted, old versions too."""
        rule = ("<Rule><ID>thief</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status><Expiration><Days>1</Days></Expiration>"
                "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration></Rule>")
        return self.bucket.request("PUT", "", "lifecycle", document("LifecycleConfiguration", rule))[0]

    def suspend(self) -> int:
        return self.bucket.request("PUT", "", "versioning", document("VersioningConfiguration", "<Status>Suspended</Status>"))[0]

    def remove_bucket(self) -> int:
        return self.bucket.request("DELETE")[0]


def find(inside, name: str):
    """What bears a name, however deep."""
    if isinstance(inside, dict):
        return inside[name] if name in inside else next((found for part in inside.values() if (found := find(part, name)) is not None), None)
    return next((found for part in inside if (found := find(part, name)) is not None), None) if isinstance(inside, list) else None


class Theft(Across):
    def begin(self, name: str, hired: bool) -> tuple[Archive, Locked, Thief]:
        here, there, yonder, ceph = self.up(Directory, There, Yonder, Locked)
        ceph.agent = None
        if hired:
            ceph.hire()
        archive = self.archive(name, 16 * MIB, '[class]\npayload = "1MiB"\n[every_dataset]\nchunk = "256KiB"\n')
        checks = {one["name"]: one["probe"] for one in archive.expect(DONE, "site", "check").listed()}
        self.assertEqual(checks[ceph.name]["versioning"], {"status": "known", "value": "enabled"}, checks[ceph.name])
        self.assertEqual(checks[ceph.name]["object_lock"], {"status": "known", "value": {"by-default": {"mode": "compliance", "days": 1}}})
        said = archive.replicate(DONE)
        self.assertEqual((said["outcome"], said["head_sites"], said["debt_shards"]), ("committed", 4, 0), said)
        return archive, ceph, Thief(ceph.bucket(ceph.keys()), f"{name}/", random.Random(name))

    def ours(self, thief: Thief) -> dict[str, tuple[str, int]]:
        """Every key with the version that is ours: the only one with bytes, before he came."""
        return {key: versions[0] for key, versions in thief.versions().items()
                if len(versions) == 1 and versions[0][1] is not None and f"/probe/" not in key}

    def poisoned(self, archive: Archive, junk: int):
        """What comes back is what is there, and that somebody was there is told."""
        self.stores[0].stop(), self.stores[1].stop()
        done, tree = archive.restore(FINDINGS)
        self.assertEqual(tree, tree_of(archive.source), str(done))
        self.assertIn("ALARM: ceph-locked: ", done.err)
        self.all_up()
        done = archive.expect(FINDINGS, "audit", "--mode", "full")
        self.assertIn('"poisoned"', done.out, str(done))
        facts = find(done.said(), "facts")
        # Everything is there: of every record and shard the right bytes were shown. What he put beside ours isn't.
        self.assertEqual((facts["shards_not_ok"], facts["records_lost"], facts["records_below_quorum"]), (0, 0, 0), str(done))
        self.assertEqual(facts["records_not_ok"], junk, str(done))

    def kept(self, archive: Archive, *words: str) -> dict:
        """What the keeper's verb says of the bucket. That somebody was there is a finding for him too."""
        said = archive.expect(FINDINGS, "lock", *words).said()
        return next(site for site in said["sites"] if site["site"] == "ceph-locked")

    def test_an_owner_s_credentials_are_stolen(self):
        """The worst case: an agent that was given the credentials of the bucket's owner."""
        archive, ceph, thief = self.begin("owner", hired=False)
        ours = self.ours(thief)
        self.assertGreater(len(ours), 15)
        # Bytes cannot be taken away, nor the time they are locked for.
        for number, (key, (version, size)) in enumerate(ours.items()):
            self.assertEqual(thief.delete_version(key, version), {DENIED}, key)
            codes = thief.shorten(key, version)
            self.assertFalse([code for code in codes if code // 100 == 2], f"{key}: {codes}")
            # They can be hidden: by a marker, by other bytes of the same length, by many of either.
            if number % 3 != 0:
                for _ in range(1 + number % 5):
                    self.assertEqual(thief.overwrite(key, size if number % 2 else 7), 200)
            if number % 3 != 1:
                self.assertEqual(thief.delete(key), 204)
        # One name is piled up beyond a page of a listing.
        shard = next(key for key in ours if "/shards/" in key)
        for _ in range(1100):
            self.assertEqual(thief.delete(shard), 204)
        # Names that may come next are taken.
        # What lies in a log under a name of no known state is passed over: anyone may put things there.
        records = [key for key in ours if "/shards/" not in key]
        for key in records:
            folder = key.rsplit("/", 1)[0]
            self.assertEqual(thief.overwrite(f"{folder}/{thief.dice.randbytes(8).hex()}", 100), 200)
            self.assertEqual(thief.overwrite(f"{folder}/{key.rsplit('/', 1)[1][:-16]}{thief.dice.randbytes(8).hex()}", 100), 200)
        # Versions stay on, and the bucket stays.
        self.assertNotEqual(thief.suspend() // 100, 2)
        self.assertNotEqual(thief.remove_bucket() // 100, 2)
        # An owner may set a rule. It runs, a day being a second here, and takes nothing that is locked.
        self.assertEqual(thief.expire(), 200)
        for _ in range(2):
            ceph.admin("lc", "process")
        left = {key: {version for version, _ in versions} for key, versions in thief.versions().items()}
        self.assertEqual([key for key, (version, _) in ours.items() if version not in left.get(key, ())], [])
        self.poisoned(archive, 2 * sum("/log/" not in key for key in records))

        # A keeper extends the locks of what snapshots need, beneath it all, and then has nothing left to do.
        found = self.kept(archive, "show", "--for", "3")
        self.assertEqual((found["missing"], found["unlocked"], found["failed"]), (0, 0, 0), found)
        self.assertGreaterEqual(found["beneath"], len(ours), found)
        self.assertEqual(found["short"], found["objects"], found)
        found = self.kept(archive, "extend", "--for", "3")
        self.assertEqual((found["extended"], found["failed"]), (found["objects"], 0), found)
        self.assertEqual(self.kept(archive, "extend", "--for", "3")["short"], 0)
        almost = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=2.9)
        self.assertEqual([key for key, (version, _) in ours.items() if thief.locked_until(key, version) < almost], [])

        # The agent goes on meanwhile, into the same bucket.
        self.change(archive)
        said = archive.replicate(FINDINGS)
        self.assertEqual((said["outcome"], said["debt_shards"]), ("committed", 0), said)
        self.poisoned(archive, 2 * sum("/log/" not in key for key in records))

    def test_an_agent_s_credentials_are_stolen(self):
        """As the run-book sets a bucket up."""
        archive, ceph, thief = self.begin("agent", hired=True)
        ours = self.ours(thief)
        self.assertGreater(len(ours), 15)
        for number, (key, (version, size)) in enumerate(ours.items()):
            self.assertEqual(thief.delete(key), DENIED, key)
            self.assertEqual(thief.delete_version(key, version), {DENIED}, key)
            self.assertEqual(thief.shorten(key, version), {DENIED}, key)
            # Who may put may lay something on top.
            self.assertEqual(thief.overwrite(key, size if number % 2 else 7), 200)
        self.assertEqual((thief.expire(), thief.suspend(), thief.remove_bucket()), (DENIED, DENIED, DENIED))
        # He is no keeper.
        found = self.kept(archive, "extend", "--for", "3")
        self.assertEqual((found["extended"], found["failed"]), (0, found["objects"]), found)
        self.poisoned(archive, 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", type=Path, metavar="FILE", required=True)
    parser.add_argument("tests", nargs="*", metavar="TEST")
    options = parser.parse_args()
    # unittest takes SystemExit for a failure and goes on.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    Across.binary, Across.folder = options.binary.resolve(), Path(tempfile.mkdtemp(prefix="exclave-theft-"))
    try:
        names = [f"__main__.Theft.{name}" for name in options.tests] or ["__main__.Theft"]
        result = unittest.TextTestRunner(verbosity=2).run(unittest.defaultTestLoader.loadTestsFromNames(names))
    finally:
        for store in Across.known.values():
            store.stop()
        shutil.rmtree(Across.folder, ignore_errors=True)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
