"""The world that across_servers.py plays in: stores of many kinds on this machine, trees to keep, and an archive over the
stores with the program itself. Standard library only.
"""

import hashlib, json, os, random, shlex, shutil, signal, stat, subprocess, time
from pathlib import Path
from typing import NamedTuple

PASSPHRASE = "only-for-this-test"
MIB = 1 << 20
START_SECONDS = 120
RUN_SECONDS = 400
# README: exit codes.
DONE, FINDINGS, UNRECOVERABLE, STALE = 0, 3, 4, 6


# ---- Stores ----------------------------------------------------------------------------------------------------------

class Store:
    """One store below a folder, and how to lose it. `prefix` is an archive's part of it."""

    name: str

    def __init__(self, folder: Path):
        self.folder = folder / self.name

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
    name = "here"

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.folder.mkdir()

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
    """A starter of tools/servers, in a process group of its own. What it publishes is read anew at each start and must be
    what it was, unless all is in its memory: then it's another store afterwards.
    """

    starter: str
    in_memory = False

    def __init__(self, folder: Path):
        super().__init__(folder)
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
        # Quoted as for a shell: without its quotes, each line is one word.
        words = shlex.split((self.folder / "endpoint.env").read_text())
        endpoint = dict(word.split("=", 1) for word in words)
        if self.endpoint and endpoint != self.endpoint:
            raise RuntimeError(f"{self.name} is another after its restart: {endpoint} and not {self.endpoint}")
        self.endpoint = endpoint

    def stop(self):
        """As its operator would: what it took in is on its disk afterwards, if it has one."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            if self.is_alive():
                raise RuntimeError(f"{self.name}: its starter has ended, and not what it had started")
            self.process = None
        if self.in_memory:
            self.endpoint = {}

    def is_alive(self) -> bool:
        """True while any process of its group is there."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self):
        """As a power cut would, for the process: it and all its children, without a word."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None


class S3(Server):
    def address(self, prefix: str) -> str:
        # Each its own: settings and credentials are found by address.
        return f"s3://{self.endpoint['S3_BUCKET']}/{self.name}/{prefix}"

    def settings(self) -> str:
        of = self.endpoint
        return (f'endpoint = "{of["S3_ENDPOINT"]}"\nregion = "{of["S3_REGION"]}"\n'
                f'credentials.s3 = {{ access_key = "{of["S3_ACCESS_KEY"]}", secret_key = "{of["S3_SECRET_KEY"]}" }}\n')


class Ceph(S3):
    name, starter = "ceph", "ceph-rgw"


class Garage(S3):
    name, starter = "garage", "garage"


class Swift(S3):
    name, starter = "swift", "swift-s3api"


class Moto(S3):
    name, starter, in_memory = "moto", "moto", True


class Azurite(Server):
    name, starter = "azure", "azurite"

    def address(self, prefix: str) -> str:
        return f"az://{self.endpoint['AZURE_CONTAINER']}/{prefix}"

    def settings(self) -> str:
        of = self.endpoint
        return (f'endpoint = "{of["AZURE_ENDPOINT"]}"\n'
                f'credentials.azure = {{ account = "{of["AZURE_ACCOUNT"]}", key = "{of["AZURE_KEY"]}" }}\n')


class Google(Server):
    """Our stand-in for it."""

    name, starter, in_memory = "google", "google-stand-in", True

    def address(self, prefix: str) -> str:
        return f"gs://{self.endpoint['GOOGLE_BUCKET']}/{prefix}"

    def settings(self) -> str:
        of = self.endpoint
        return (f'endpoint = "{of["GOOGLE_ENDPOINT"]}"\n'
                f"credentials.gcs = {{ service_account_json = '{of['GOOGLE_SERVICE_ACCOUNT_JSON']}' }}\n")


class WebDav(Server):
    name, starter = "dav", "webdav-rclone"

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

    def listed(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]

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

    def elsewhere(self, code: int, verb: str, *words: str) -> Done:
        """Without settings and state: an identity and all addresses, whoever is left to answer."""
        return self.expect(code, "--config", "/dev/null", verb, "--identity", "recovery.key", "--credentials", "credentials.toml",
                           *self.sites(), *words)

    def snapshots(self) -> list[dict]:
        """The newest first."""
        return self.elsewhere(DONE, "snapshots").listed()

    def restore(self, code: int, *words: str) -> tuple[Done, dict[str, tuple]]:
        self.restores += 1
        to = self.folder / f"restored-{self.restores}"
        done = self.elsewhere(code, "restore", "--to", str(to), *words)
        tree = tree_of(to) if to.exists() else {}
        shutil.rmtree(to, ignore_errors=True)
        return done, tree
