"""Programs that take a tree away and bring it back, each used the same way: found, save, save again, restore.

Every program works in a folder of its own with its own home, caches and passphrase, and is measured as whole processes.
Ours writes six sites at 4+2, half as many bytes again as it reads; the others write one repository. `cp -a` is what the
machine needs to have the bytes twice and nothing else.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import time

PASSPHRASE = "bench"


class Figure:
    """One whole process: wall and processor seconds, and the peak resident set in MiB, all as the kernel says (wait4)."""

    def __init__(self, wall_s, cpu_s, peak_mib):
        self.wall_s, self.cpu_s, self.peak_mib = wall_s, cpu_s, peak_mib


def measure(arguments, env=None, folder=None):
    """Runs a process to its end, which must be a good one."""
    begun = time.monotonic()
    child = subprocess.Popen([str(word) for word in arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, env=env, cwd=folder)
    said = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stderr.close()
    if child.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))} ended with {child.returncode}:\n{said.decode(errors='replace')}")
    return Figure(time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


class Peer:
    """A program in a folder of its own. `compress` is whether it compresses as by default, or not at all."""

    name = ""

    def __init__(self, program, compress):
        self.program, self.compress = program, compress

    def version(self):
        said = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True)
        return said.stdout.split("\n")[0].strip()

    def found(self, folder):
        """Makes what the program saves to, below `folder`."""
        self.folder = folder
        self.target = folder / "restored"
        self.env = dict(os.environ, HOME=str(folder), XDG_CACHE_HOME=str(folder / "cache"),
                        XDG_CONFIG_HOME=str(folder / "config"), XDG_STATE_HOME=str(folder / "state"))

    def run(self, *arguments):
        return measure([self.program, *arguments], self.env, self.folder)

    def after(self):
        """Further measurements that only this program has, by name; the target is there and will be removed."""
        return {}


class Exclave(Peer):
    """As many local sites as the code has shards."""

    def __init__(self, program, compress, code="4+2"):
        super().__init__(program, compress)
        self.code = code
        self.name = "exclave" if code == "4+2" else f"exclave {code}"

    def found(self, folder):
        super().found(folder)
        self.env["EXCLAVE_PASSPHRASE"] = PASSPHRASE
        self.env.pop("EXCLAVE_CONFIG", None)
        self.sites = [folder / f"site-{number}" for number in range(sum(map(int, self.code.split("+"))))]
        for site in self.sites:
            site.mkdir()
        self.addresses = [word for site in self.sites for word in ("--site", f"file://{site}")]
        self.key, config = folder / "recovery.key", folder / "exclave.toml"
        self.settings = ["--config", config]
        self.run("key", "generate", "--out", self.key)
        self.run(*self.settings, "init", *self.addresses, "--code", self.code, "--recovery", self.key,
                 "--root", folder / "root.key", "--state-dir", folder / "agent")
        if not self.compress:
            with open(config, "a") as out:
                out.write("\n[every_dataset]\ncompression = 0\n")

    def save(self, source):
        return self.run(*self.settings, "replicate", source)

    def restore(self):
        return self.run("restore", "--identity", self.key, *self.addresses, "--to", self.target)

    def after(self):
        if self.code != "4+2":
            return {}
        shutil.rmtree(self.target)
        for site in self.sites[:2]:
            shutil.rmtree(site)
            site.mkdir()
        return {"restore, two sites lost": self.restore()}


class Restic(Peer):
    """Format 2 of the repository, which can compress."""

    name = "restic"

    def version(self):
        return subprocess.run([self.program, "version"], capture_output=True, text=True, check=True).stdout.strip()

    def found(self, folder):
        super().found(folder)
        self.env.update(RESTIC_REPOSITORY=str(folder / "repository"), RESTIC_PASSWORD=PASSPHRASE,
                        RESTIC_COMPRESSION="auto" if self.compress else "off")
        self.run("init", "--repository-version", "2")

    def save(self, source):
        return self.run("backup", source)

    def restore(self):
        return self.run("restore", "latest", "--target", self.target)


class Rustic(Peer):
    """The same format as restic's, another program."""

    name = "rustic"

    def found(self, folder):
        super().found(folder)
        self.env.update(RUSTIC_REPOSITORY=str(folder / "repository"), RUSTIC_PASSWORD=PASSPHRASE,
                        RUSTIC_NO_PROGRESS="true")
        self.run("init", *([] if self.compress else ["--set-compression", "0"]))

    def save(self, source):
        return self.run("backup", source)

    def restore(self):
        return self.run("restore", "latest", self.target)


class Borg(Peer):
    """Its faster encryption of the two that authenticate what it writes."""

    name = "borg"

    def found(self, folder):
        super().found(folder)
        self.env.update(BORG_REPO=str(folder / "repository"), BORG_PASSPHRASE=PASSPHRASE, BORG_BASE_DIR=str(folder))
        self.run("init", "--encryption", "repokey-blake2")
        self.number = 0

    def save(self, source):
        self.number += 1
        return self.run("create", "--compression", "lz4" if self.compress else "none", f"::{self.number}", source)

    def restore(self):
        self.target.mkdir()
        return measure([self.program, "extract", f"::{self.number}"], self.env, self.target)


class Copy(Peer):
    """`cp -a`, there and back."""

    name = "cp -a"

    def __init__(self):
        super().__init__("cp", False)

    def found(self, folder):
        super().found(folder)
        self.saved = folder / "saved"

    def save(self, source):
        return self.run("-a", source, self.saved)

    def restore(self):
        return self.run("-a", self.saved, self.target)


PEERS = {peer.name: peer for peer in (Restic, Borg, Rustic)}


def restored_tree(target, source):
    """Where a program put the source's copy: at the target, or below it by its whole path."""
    below = target / str(pathlib.Path(source).resolve()).lstrip("/")
    return below if below.is_dir() else target
