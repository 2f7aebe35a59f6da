"""The stores of process_tests.Kit: two that want a login and know who may write, beside World's folders.

    Bucket      moto, which checks every signature and keeps two users apart: the agent, and one that can list and read
    Dav         rclone over TLS, with a certificate of its own that nobody but a pin vouches for, and two users

Both listen on loopback only and are ended by their process ids.
"""

import base64, datetime, hashlib, os, re, secrets, socket, subprocess, time, urllib.parse, urllib.request
from pathlib import Path

from kill_world import World

START_SECONDS = 60
MOTO = Path(os.environ.get("MOTO", Path(__file__).parents[1] / ".cache" / "moto"))
RCLONE = Path("/usr/bin/rclone")
READER = """{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}]}"""
AGENT = """{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:*"], "Resource": "*"}]}"""


def missing() -> str | None:
    """What these stores need and isn't there."""
    if not (MOTO / "bin" / "moto_server").is_file():
        return f"moto isn't in {MOTO}: tools/real-servers install"
    return None if RCLONE.is_file() else "rclone isn't installed"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Store:
    """A server below a folder; `writing` and `reading` are tables of a file of credentials by address."""
    name: str
    table: str
    writing: str
    reading: str

    def __init__(self, folder: Path):
        self.folder, self.port = folder / self.name, free_port()
        self.folder.mkdir(parents=True)

    def run(self, *words, **environment: str):
        with open(self.folder / "log", "a") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                                            env={"PATH": os.environ["PATH"], "HOME": str(self.folder)} | environment)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{self.name} did not start: {(self.folder / 'log').read_text()[-2000:]}") from None
                time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


class Bucket(Store):
    name = "bucket"

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.run(MOTO / "bin" / "moto_server", "-H", "127.0.0.1", "-p", str(self.port))
        self.url = f"http://127.0.0.1:{self.port}"
        self.ask("PUT", "/register", service="s3")
        agent, reader = self.user("agent", AGENT), self.user("reader", READER)
        # From now on every request is held to its signature and to what its user may do.
        self.ask("POST", "/moto-api/reset-auth", b"0")
        self.table = f'endpoint = "{self.url}"\nsigning_region = "us-east-1"\n'
        self.address = "s3://register/exclave"
        self.writing, self.reading = (self.credentials(*keys) for keys in (agent, reader))

    def credentials(self, key: str, secret: str) -> str:
        return f'["{self.address}"]\nendpoint = "{self.url}"\ncredentials.s3 = {{ access_key = "{key}", secret_key = "{secret}" }}\n'

    def ask(self, verb: str, path: str, body: bytes = b"", service: str = "iam") -> str:
        """Nobody checks it yet; the service is told by the scope."""
        scope = f"AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
        # moto's own interface isn't a service, and wants bytes.
        headers = {"Content-Type": "application/octet-stream"} if "moto-api" in path else {"Authorization": scope}
        request = urllib.request.Request(self.url + path, body, headers, method=verb)
        return urllib.request.urlopen(request, timeout=30).read().decode()

    def user(self, name: str, policy: str) -> tuple[str, str]:
        def act(action: str, **more: str) -> str:
            words = {"Action": action, "Version": "2010-05-08", "UserName": name} | more
            return self.ask("POST", "/", urllib.parse.urlencode(words).encode())
        act("CreateUser")
        act("PutUserPolicy", PolicyName="p", PolicyDocument=policy)
        said = act("CreateAccessKey")
        return re.search("<AccessKeyId>(.*?)<", said)[1], re.search("<SecretAccessKey>(.*?)<", said)[1]


class Dav(Store):
    name = "dav"

    def __init__(self, folder: Path):
        super().__init__(folder)
        (self.folder / "data" / "exclave").mkdir(parents=True)
        pin = self.certificate()
        self.address = f"https://127.0.0.1:{self.port}/exclave"
        users = {name: secrets.token_hex(8) for name in ("agent", "reader")}
        # RFC 2307's salted SHA-1 is what rclone's basic file takes beside bcrypt and MD5.
        lines = [f"{name}:{{SHA}}{base64.b64encode(hashlib.sha1(word.encode()).digest()).decode()}" for name, word in users.items()]
        (self.folder / "htpasswd").write_text("\n".join(lines) + "\n")
        self.serve()
        self.table = f'pin = "{pin}"\n'
        self.writing, self.reading = (f'["{self.address}"]\ncredentials.basic = {{ user = "{name}", password = "{users[name]}" }}\n'
                                      for name in ("agent", "reader"))

    def serve(self):
        self.run(RCLONE, "serve", "webdav", "--config", "/dev/null", "--addr", f"127.0.0.1:{self.port}", "--vfs-cache-mode", "off", "--cert",
                 "cert.pem", "--key", "key.pem", "--htpasswd", "htpasswd", "data")

    def change_reader(self):
        """The reader gets another password, as when an operator changes it and tells nobody."""
        lines = (self.folder / "htpasswd").read_text().splitlines()
        (self.folder / "htpasswd").write_text(lines[0] + "\nreader:{SHA}" + base64.b64encode(hashlib.sha1(b"another").digest()).decode() + "\n")
        self.stop()
        self.serve()

    def certificate(self) -> str:
        """Valid for a year around now, for a name that isn't this host's; its pin."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
        name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "nowhere.invalid")])
        half = datetime.timedelta(days=180)
        made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        made = made.not_valid_before(now - half).not_valid_after(now + half).sign(key, hashes.SHA256())
        (self.folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        (self.folder / "key.pem").write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        info = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return f"sha256/{base64.b64encode(hashlib.sha256(info).digest()).decode()}"


class StoresWorld(World):
    """Two folders and both stores, of which any two restore."""

    def __init__(self, folder: Path, *more):
        self.stores: list[Store] = []
        try:
            for kind in (Bucket, Dav):
                self.stores.append(kind(folder / "stores"))
            for name, texts in (("writing", [s.writing for s in self.stores]), ("reading", [s.reading for s in self.stores])):
                path = folder / f"{name}.toml"
                path.touch(0o600)
                path.write_text("".join(texts))
            super().__init__(folder, *more)
        except BaseException:
            self.stop()
            raise

    def settings(self) -> str:
        text = 'credentials = "writing.toml"\nread_credentials = "reading.toml"\n' + super().settings()
        return text + "".join(f'[[site]]\nname = "{store.name}"\naddress = "{store.address}"\n{store.table}' for store in self.stores)

    def stop(self):
        for store in self.stores:
            store.stop()

    def close(self):
        self.stop()
        super().close()
