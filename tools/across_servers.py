#!/usr/bin/env python3
"""One dataset over four stores of four kinds at once, 2+2: a directory, Ceph, Azurite and rclone's WebDAV. They are
stopped, emptied and killed while the real program works with them.

    tools/across_servers.py --binary FILE [TEST ...]

Standard library only. AZURITE names the npm folder, as for servers/azurite.sh; tools/real-servers installs it and runs
this. Each server is a process group of its own, so that it can be stopped and started again alone, on the same port.
"""

import argparse, hashlib, json, os, random, shutil, signal, stat, subprocess, sys, tempfile, time, unittest
from pathlib import Path
from typing import NamedTuple

PASSPHRASE = "only-for-this-test"
MIB = 1 << 20
START_SECONDS = 120
RUN_SECONDS = 240
# README: exit codes.
DONE, FINDINGS, UNRECOVERABLE, STALE = 0, 3, 4, 6


# ---- Stores ----------------------------------------------------------------------------------------------------------

class Store:
    """One store, and how to lose it. `prefix` is an archive's part of it."""

    def __init__(self, name: str, folder: Path):
        self.name, self.folder = name, folder

    def start(self):
        pass

    def await_start(self):
        pass

    def stop(self):
        raise NotImplementedError

    def address(self, prefix: str) -> str:
        raise NotImplementedError

    def settings(self) -> str:
        """What a table of --credentials says of it."""
        raise NotImplementedError


class Directory(Store):
    def __init__(self, name: str, folder: Path):
        super().__init__(name, folder)
        folder.mkdir()

    def start(self):
        if (gone := self.folder.with_suffix(".gone")).exists():
            gone.rename(self.folder)

    def stop(self):
        if self.folder.exists():
            self.folder.rename(self.folder.with_suffix(".gone"))

    def address(self, prefix: str) -> str:
        (self.folder / prefix).mkdir(exist_ok=True)
        return f"file://{self.folder}/{prefix}"

    def settings(self) -> str:
        return ""


class Server(Store):
    """A starter of tools/servers. What it publishes is read anew at each start and must be what it was."""

    starter: str

    def __init__(self, name: str, folder: Path):
        super().__init__(name, folder)
        self.process: subprocess.Popen | None = None
        self.endpoint: dict[str, str] = {}

    def start(self):
        if self.process is not None:
            return
        (self.folder / "endpoint.env").unlink(missing_ok=True)
        script = Path(__file__).parent / "servers" / f"{self.starter}.sh"
        with open(self.folder.with_suffix(".out"), "a") as out:
            self.process = subprocess.Popen([script, self.folder], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)

    def await_start(self):
        deadline = time.monotonic() + START_SECONDS
        while not (self.folder / "endpoint.env").exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start: {self.folder.with_suffix('.out').read_text()[-2000:]}")
            time.sleep(0.05)
        lines = (self.folder / "endpoint.env").read_text().splitlines()
        endpoint = dict(line.split("=", 1) for line in lines)
        if self.endpoint and endpoint != self.endpoint:
            raise RuntimeError(f"{self.name} is another after its restart: {endpoint} and not {self.endpoint}")
        self.endpoint = endpoint

    def stop(self):
        """As its operator would: what it took in is on its disk afterwards."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def kill(self):
        """As a power cut would, for the process: it and all its children, without a word."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None


class Ceph(Server):
    starter = "ceph-rgw"

    def address(self, prefix: str) -> str:
        return f"s3://{self.endpoint['S3_BUCKET']}/{prefix}"

    def settings(self) -> str:
        of = self.endpoint
        return (f'endpoint = "{of["S3_ENDPOINT"]}"\nregion = "{of["S3_REGION"]}"\n'
                f'credentials.s3 = {{ access_key = "{of["S3_ACCESS_KEY"]}", secret_key = "{of["S3_SECRET_KEY"]}" }}\n')


class Azurite(Server):
    starter = "azurite"

    def address(self, prefix: str) -> str:
        return f"az://{self.endpoint['AZURE_CONTAINER']}/{prefix}"

    def settings(self) -> str:
        of = self.endpoint
        return (f'endpoint = "{of["AZURE_ENDPOINT"]}"\n'
                f'credentials.azure = {{ account = "{of["AZURE_ACCOUNT"]}", key = "{of["AZURE_KEY"]}" }}\n')


class WebDav(Server):
    starter = "webdav-rclone"

    def address(self, prefix: str) -> str:
        return f"{self.endpoint['WEBDAV_URL']}/{prefix}"

    def settings(self) -> str:
        return f'credentials.basic = {{ user = "{self.endpoint["WEBDAV_USER"]}", password = "{self.endpoint["WEBDAV_PASSWORD"]}" }}\n'

    def empty(self):
        """All data of all archives goes; only while it is stopped."""
        shutil.rmtree(self.folder / "data")

    def shards(self, prefix: str, bytes_min: int) -> int:
        """Whole shards that lie there."""
        found = (self.folder / "data" / prefix).glob("**/shards/**/*")
        return sum(1 for path in found if path.is_file() and path.stat().st_size >= bytes_min)


# ---- Trees -----------------------------------------------------------------------------------------------------------

def tree_of(folder: Path) -> dict[str, tuple]:
    """What a snapshot must keep of a folder: path to (kind, mode, time, content)."""
    found = {}
    for path in sorted(folder.rglob("*")):
        info = path.lstat()
        if path.is_symlink():
            what = ("link", 0, info.st_mtime_ns, os.readlink(path))
        elif path.is_dir():
            what = ("folder", stat.S_IMODE(info.st_mode), info.st_mtime_ns, "")
        else:
            what = ("file", stat.S_IMODE(info.st_mode), info.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        found[str(path.relative_to(folder))] = what
    return found


def write(path: Path, data: bytes, mode: int, dice: random.Random):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    os.utime(path, ns=(0, dice.randrange(10**18, 17 * 10**17)))


def grow(folder: Path, dice: random.Random, large_bytes: int):
    """A small register: some hundred deeds that pack well, scans that don't, links, odd names, and one large file."""
    for number in range(300):
        text = b"parcel %08d, owner %016x, since 1867\n" % (number, dice.getrandbits(64))
        write(folder / "deeds" / f"{number % 17:02}" / f"deed-{number}.txt", text * dice.randint(0, 200), 0o640, dice)
    for number in range(20):
        write(folder / "Pläne" / "план" / f"scan {number}", dice.randbytes(dice.randint(1, 200_000)), 0o400, dice)
    write(folder / "empty", b"", 0o755, dice)
    write(folder / "register.db", dice.randbytes(large_bytes), 0o600, dice)
    (folder / "newest").symlink_to("deeds/00/deed-0.txt")
    (folder / "nowhere").symlink_to("/nowhere/at all")
    (folder / "no deeds").mkdir(mode=0o700)


# ---- The archive and the program -------------------------------------------------------------------------------------

class Done(NamedTuple):
    code: int
    out: str
    err: str

    def said(self) -> dict:
        return json.loads(self.out)

    def snapshot(self) -> dict:
        return self.said()["snapshots"][0]

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.out}\n{self.err}"


class Archive:
    """One archive over all stores; `more` stands in the settings above its sites, `of_site` in those of one."""

    def __init__(self, folder: Path, binary: Path, stores: list[Store], more: str = "", of_site: dict[str, str] | None = None):
        self.folder, self.binary, self.stores, self.restores = folder, binary, stores, 0
        folder.mkdir()
        self.source = folder / "source"
        self.addresses = {store.name: store.address(folder.name) for store in stores}
        with open(os.open(folder / "credentials.toml", os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            for store in stores:
                if store.settings():
                    file.write(f'["{self.addresses[store.name]}"]\n{store.settings()}')
        words = self.sites()
        if more or of_site:
            (folder / "exclave.toml").write_text(self.settings(more, of_site or {}))
            words = []
        self.expect(DONE, "key", "generate", "--out", "recovery.key")
        self.expect(DONE, "init", "--recovery", "recovery.key", "--credentials", "credentials.toml", *words)

    def sites(self) -> list[str]:
        return [part for name, address in self.addresses.items() for part in ("--site", f"{name}={address}")]

    def settings(self, more: str, of_site: dict[str, str]) -> str:
        text = more
        for store in self.stores:
            text += f'[[site]]\nname = "{store.name}"\naddress = "{self.addresses[store.name]}"\n{of_site.get(store.name, "")}'
            lines = [line for line in store.settings().splitlines() if not line.startswith("credentials.")]
            # There, `region` is where the site lies.
            text += "".join(line.replace("region =", "signing_region =") + "\n" for line in lines)
        return text

    def start(self, *words: str) -> subprocess.Popen:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "EXCLAVE_PASSPHRASE": PASSPHRASE, "RUST_BACKTRACE": "1"}
        return subprocess.Popen([self.binary, "--json", *words], cwd=self.folder, env=environment, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end(self, process: subprocess.Popen) -> Done:
        try:
            out, err = process.communicate(timeout=RUN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"hung for {RUN_SECONDS} s: {process.args}: {process.communicate()}")
        done = Done(process.returncode, out, err)
        if "panicked" in err:
            raise AssertionError(str(done))
        return done

    def expect(self, code: int, *words: str) -> Done:
        done = self.end(self.start(*words))
        if done.code != code:
            raise AssertionError(f"{' '.join(words)}: expected {code}; {done}")
        return done

    def replicate(self, code: int) -> dict:
        return self.expect(code, "replicate", str(self.source)).snapshot()

    def restore(self, code: int, *words: str) -> tuple[Done, dict[str, tuple]]:
        """Elsewhere, without settings and state: an identity and all four addresses, whoever is left to answer."""
        self.restores += 1
        to = self.folder / f"restored-{self.restores}"
        done = self.expect(code, "--config", "/dev/null", "restore", "--identity", "recovery.key", "--credentials", "credentials.toml",
                           *self.sites(), "--to", str(to), *words)
        tree = tree_of(to) if to.exists() else {}
        shutil.rmtree(to, ignore_errors=True)
        return done, tree


class AcrossServers(unittest.TestCase):
    binary: Path
    folder: Path
    stores: list[Store] = []

    @classmethod
    def setUpClass(cls):
        cls.directory = Directory("here", cls.folder / "here")
        cls.ceph, cls.azurite = Ceph("ceph", cls.folder / "ceph"), Azurite("azure", cls.folder / "azure")
        cls.webdav = WebDav("dav", cls.folder / "dav")
        AcrossServers.stores = [cls.directory, cls.ceph, cls.azurite, cls.webdav]
        cls.all_up()

    @classmethod
    def all_up(cls):
        for store in cls.stores:
            store.start()
        for store in cls.stores:
            store.await_start()

    def setUp(self):
        self.all_up()

    def archive(self, name: str, large_bytes: int, more: str = "", of_site: dict[str, str] | None = None) -> Archive:
        archive = Archive(self.folder / name, self.binary, self.stores, more, of_site)
        grow(archive.source, random.Random(name), large_bytes)
        return archive

    def lose(self, *stores: Store):
        for store in stores:
            store.stop()

    def test_two_stores_are_lost_and_one_of_them_comes_back_empty(self):
        archive = self.archive("lost", 40 * MIB)
        said = archive.replicate(DONE)
        self.assertEqual((said["outcome"], said["head_sites"], said["debt_shards"]), ("committed", 4, 0))
        self.assertGreater(said["stripes"], 2)

        # Any two of four restore, with the addresses of the dead ones still in hand.
        self.lose(self.azurite, self.webdav)
        self.webdav.empty()
        self.whole(archive)
        self.all_up()

        # The one that was emptied answers again, and has no plate: nothing at it counts, and that is told. The others are
        # enough for a commit (2+2: three verified shards, heads at three sites), which owes a shard of each new stripe.
        self.change(archive)
        said = archive.replicate(FINDINGS)
        self.assertEqual((said["outcome"], said["head_sites"], said["debt_shards"]), ("committed", 3, said["stripes"]))
        self.assertEqual([trouble["site"] for trouble in said["site_troubles"]], [self.webdav.name], said)
        self.assertIn("no plate", said["site_troubles"][0]["error"])

        # What a commit promises after one site's loss (`plan`): with that site empty, any one more may go.
        self.lose(self.directory)
        self.whole(archive)

        # Two more are three of four: beyond what 2+2 promises. One of the two sites that must answer for the snapshot to be
        # known as the newest is left (a store without a plate is no site), and one of the two shards that each stripe needs.
        self.lose(self.ceph)
        self.refused(archive, STALE, "there may be a newer snapshot")
        self.refused(archive, UNRECOVERABLE, "there may be a newer snapshot", "--accept-stale")

        # It was only away.
        self.directory.start()
        self.whole(archive)

    def test_a_server_dies_in_the_middle_of_a_run(self):
        # Small stripes, and a slow line to the one that dies: it holds whole shards, torn ones and none when it does.
        archive = self.archive("died", 16 * MIB, '[class]\npayload = "1MiB"\n[every_dataset]\nchunk = "256KiB"\n',
                               {self.webdav.name: 'upload_per_second_max = "2MiB"\n'})
        process = archive.start("replicate", str(archive.source))
        while process.poll() is None and self.webdav.shards("died", MIB) < 1:
            time.sleep(0.01)
        self.assertIsNone(process.poll(), "the run was over before the server could die")
        self.webdav.kill()
        done = archive.end(process)

        # 2+2: three verified shards of each stripe and the head at three sites are a commit, and what the dead one has not
        # shown is owed: a finding. (PROVISIONAL is for stripes with two shards under a head at three sites; without two of
        # four sites no head has its quorum, and none is written.)
        self.assertEqual(done.code, FINDINGS, str(done))
        said = done.snapshot()
        self.assertEqual((said["outcome"], said["verified_min"], said["head_sites"]), ("committed", 3, 3), said)
        self.assertTrue(0 < said["debt_shards"] <= said["stripes"], said)
        self.assertEqual([trouble["site"] for trouble in said["site_troubles"]], [self.webdav.name], said)
        owed = said["debt_shards"]
        self.whole(archive)     # with the dead one still dead

        # It is back, with what it had and perhaps the torn end of what it was taking in.
        self.all_up()
        self.change(archive)
        said = archive.replicate(DONE)
        self.assertEqual((said["outcome"], said["debts_paid"], said["debt_shards"], said["head_sites"]), ("committed", owed, 0, 4), said)

        # What was paid is there: of these two sites, each shard is needed.
        self.lose(self.directory, self.ceph)
        self.whole(archive)

    def change(self, archive: Archive):
        dice = random.Random("change")
        write(archive.source / "deeds" / "new.txt", b"parcel of today\n" * 50, 0o640, dice)
        write(archive.source / "scan of today", dice.randbytes(3 * MIB), 0o600, dice)
        (archive.source / "deeds" / "03" / "deed-3.txt").unlink()

    def whole(self, archive: Archive):
        """What comes back is what is there, byte for byte."""
        done, tree = archive.restore(DONE)
        said = done.said()
        self.assertEqual((said["outcome"], said["state"], said["stale"]), ("complete", "durable", None), said)
        self.assertEqual(tree, tree_of(archive.source))

    def refused(self, archive: Archive, code: int, why: str, *words: str):
        """No file comes back, not even a wrong one, and it is said why."""
        done, tree = archive.restore(code, *words)
        self.assertIn(why, done.err)
        self.assertEqual([path for path, what in tree.items() if what[0] == "file"], [], str(done))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", type=Path, metavar="FILE", required=True)
    parser.add_argument("tests", nargs="*", metavar="TEST", help="such as test_a_server_dies_in_the_middle_of_a_run")
    options = parser.parse_args()
    # unittest takes SystemExit for a failure and goes on.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    AcrossServers.binary, AcrossServers.folder = options.binary.resolve(), Path(tempfile.mkdtemp(prefix="exclave-across-"))
    try:
        names = [f"__main__.AcrossServers.{name}" for name in options.tests] or ["__main__"]
        result = unittest.TextTestRunner(verbosity=2).run(unittest.defaultTestLoader.loadTestsFromNames(names))
    finally:
        for store in AcrossServers.stores:
            store.stop()
        shutil.rmtree(AcrossServers.folder, ignore_errors=True)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
