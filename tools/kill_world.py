"""The world that kill_rounds.py plays in: one archive on folders, its datasets with a model of each, and the program.

Everything lies in one folder, state and sites each on a file system of its own (tmpfs), so that one can be full:

    exclave.toml  recovery.key
    state/              the agent's state folder
    sites/<name>/       what lies abroad
    sources/<name>/     the datasets
    copies/             older copies of the state folder
    log                 every call of the program, its exit code and what it said
"""

import os, random, shutil, signal, stat, struct, subprocess, sys, time
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

PASSPHRASE = "only-for-kill-rounds"
DOCUMENTED = {0, 1, 2, 3, 4, 5, 6, 130}     # README: exit codes
HANG_SECONDS = 120
FAKETIME = Path("/usr/lib") / f"{os.uname().machine}-linux-gnu" / "faketime" / "libfaketimeMT.so.1"


class Broken(Exception):
    """The program did what it must not; the round has failed."""


class Done(NamedTuple):
    code: int                # as in Popen: negative when a signal ended it
    out: str
    err: str
    seconds: float
    calls: int = 0           # that a fault looked at
    happened: bool = False   # the fault

    def last_words(self) -> str:
        return f"exit code {self.code}: {' / '.join((self.err.strip() or self.out.strip()).splitlines()[-4:])}"


class Fault(NamedTuple):
    """What faults.c is told."""
    path: str
    at: int = 0
    how: str = "error"
    calls: str = ""
    errno: int = 5
    lasts: bool = False

    def __str__(self) -> str:
        return f"{self.how} at call {self.at} ({self.calls or 'any'} on {self.path}{', lasting' if self.lasts else ''}, errno {self.errno})"


class Shim:
    """faults.c, compiled once."""

    def __init__(self, folder: Path):
        self.folder, self.library = folder, folder / "faults.so"
        source = Path(__file__).with_name("faults.c")
        subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-o", self.library, source, "-ldl"], check=True)

    def environment(self, fault: Fault, report: Path) -> dict[str, str]:
        report.write_bytes(bytes(16))
        return {"LD_PRELOAD": str(self.library), "FAULT_PATH": fault.path, "FAULT_CALLS": fault.calls, "FAULT_AT": str(fault.at),
                "FAULT_HOW": fault.how, "FAULT_ERRNO": str(fault.errno), "FAULT_LASTS": str(int(fault.lasts)), "FAULT_REPORT": str(report)}


# ---- Trees and their models ------------------------------------------------------------------------------------------

def tree_of(folder: Path) -> dict[str, tuple]:
    """What a snapshot must keep of a folder: path to (kind, mode, time, content)."""
    found = {}
    todo = [folder]
    while todo:
        here = todo.pop()
        for entry in os.scandir(here):
            info, path = entry.stat(follow_symlinks=False), os.path.relpath(entry.path, folder)
            if stat.S_ISLNK(info.st_mode):
                found[path] = ("link", 0, info.st_mtime_ns, os.readlink(entry.path))
            elif stat.S_ISDIR(info.st_mode):
                found[path] = ("folder", stat.S_IMODE(info.st_mode), info.st_mtime_ns, "")
                todo.append(Path(entry.path))
            else:
                found[path] = ("file", stat.S_IMODE(info.st_mode), info.st_mtime_ns, blake3(Path(entry.path).read_bytes()).hexdigest())
    return found


def difference(wanted: dict, found: dict) -> str:
    """The first paths that differ, for a report."""
    paths = [p for p in sorted(wanted.keys() | found.keys()) if wanted.get(p) != found.get(p)]
    return "; ".join(f"{p}: {wanted.get(p)} became {found.get(p)}" for p in paths[:3]) + (f"; {len(paths)} paths in all" if paths else "")


class Source:
    """A dataset that changes. The model holds what was written, not what was found."""

    BYTES_MAX = 16 << 20

    def __init__(self, folder: Path, dice: random.Random):
        self.folder, self.dice, self.next = folder, dice, 0
        self.model: dict[str, tuple] = {}
        folder.mkdir(parents=True)
        os.chmod(folder, 0o750)
        for _ in range(12):
            self.add()

    def change(self):
        """Between one and a dozen edits; about half of what changes is large enough to fill stripes."""
        for _ in range(self.dice.randint(1, 8)):
            self.dice.choice([self.add, self.add, self.edit, self.edit, self.append, self.cut, self.remove, self.rename, self.mode, self.twin, self.link])()
        files = self.paths("file")
        while sum((self.folder / p).stat().st_size for p in files) > self.BYTES_MAX:
            self.forget(files.pop(self.dice.randrange(len(files))))

    def paths(self, kind: str) -> list[str]:
        return sorted(p for p, line in self.model.items() if line[0] == kind)

    def some_file(self) -> str | None:
        files = self.paths("file")
        return self.dice.choice(files) if files else None

    def bytes(self) -> bytes:
        size = self.dice.choice([0, 1, 700, 4096, 60_000, 400_000, 1_500_000, 3_000_000])
        size = self.dice.randint(size // 2, size)
        if self.dice.random() < 0.25:
            return (b"%08d a line of a register that packs well\n" % self.dice.randrange(10**8)) * (size // 48)
        return self.dice.randbytes(size)

    def new_name(self) -> str:
        self.next += 1
        folders = [""] + [p + "/" for p in self.paths("folder")]
        return self.dice.choice(folders) + self.dice.choice(["deed", "Katasterblatt", "вид", "z"]) + f"-{self.next}"

    def add(self):
        name = self.new_name()
        if self.dice.random() < 0.15 and name.count("/") < 4:
            os.mkdir(self.folder / name)
            os.chmod(self.folder / name, mode := self.dice.choice([0o755, 0o700]))
            self.model[name] = ("folder", mode, 0, "")
        else:
            self.write(name, self.bytes(), self.dice.choice([0o644, 0o600, 0o755]))

    def write(self, name: str, data: bytes, mode: int):
        path = self.folder / name
        path.write_bytes(data)
        os.chmod(path, mode)
        self.model[name] = ("file", mode, path.stat().st_mtime_ns, blake3(data).hexdigest())

    def rewrite(self, how):
        if (name := self.some_file()) is not None:
            self.write(name, how((self.folder / name).read_bytes()), self.model[name][1])

    def edit(self):
        def how(data: bytes) -> bytes:
            at = self.dice.randint(0, len(data))
            return data[:at] + self.dice.randbytes(self.dice.randint(1, 200)) + data[at + self.dice.randint(0, 200):]
        self.rewrite(how)

    def append(self):
        self.rewrite(lambda data: data + self.bytes())

    def cut(self):
        self.rewrite(lambda data: data[:self.dice.randint(0, len(data))])

    def remove(self):
        if (name := self.some_file()) is not None and len(self.model) > 3:
            self.forget(name)

    def forget(self, name: str):
        os.unlink(self.folder / name)
        del self.model[name]

    def rename(self):
        if (name := self.some_file()) is not None:
            to = self.new_name()
            os.rename(self.folder / name, self.folder / to)
            self.model[to] = self.model.pop(name)

    def mode(self):
        if (name := self.some_file()) is not None:
            kind, _, when, content = self.model[name]
            os.chmod(self.folder / name, mode := self.dice.choice([0o644, 0o640, 0o400]))
            self.model[name] = (kind, mode, when, content)

    def twin(self):
        if (name := self.some_file()) is not None:
            self.write(self.new_name(), (self.folder / name).read_bytes(), 0o644)

    def link(self):
        name = self.new_name()
        os.symlink(target := self.dice.choice(["deed-1", "../outside", "/nowhere"]), self.folder / name)
        self.model[name] = ("link", 0, os.lstat(self.folder / name).st_mtime_ns, target)

    def snapshot(self) -> dict[str, tuple]:
        """The model as it stands. Times of folders are the file system's affair: they are taken from it."""
        return {p: (k, m, os.lstat(self.folder / p).st_mtime_ns if k == "folder" else t, c) for p, (k, m, t, c) in self.model.items()}


# ---- The archive and the program -------------------------------------------------------------------------------------

class Shape(NamedTuple):
    sites: int
    code: str
    payload_kib: int         # so that an empty stripe just takes the largest chunk, 4 MiB
    durability: str = "flush"


SHAPES = [Shape(3, "2+1", 2112), Shape(4, "2+2", 2112), Shape(4, "2+1", 2112), Shape(5, "3+2", 1408), Shape(6, "4+2", 1088),
          Shape(3, "1+2", 4160), Shape(5, "3+2", 1408, "each")]


class World:
    def __init__(self, folder: Path, dice: random.Random, binary: Path, shim: Shim, mounts: bool, shape: Shape):
        self.folder, self.dice, self.binary, self.shim, self.mounts, self.shape = folder, dice, binary, shim, mounts, shape
        self.state = folder / "state"
        self.sites = {chr(97 + i): folder / "sites" / chr(97 + i) for i in range(shape.sites)}
        self.parity = int(shape.code.split("+")[1])
        for place in (self.state, *self.sites.values()):
            place.mkdir(parents=True)
            if mounts:
                subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2g,mode=700", "tmpfs", place], check=True)
        (folder / "copies").mkdir()
        self.sources = {name: Source(folder / "sources" / name, dice) for name in ("deeds", "ships")}
        self.calls: dict[str, int] = {}     # by fault path: matching calls of a run that went well
        self.seconds = 0.3                  # of the run before
        self.restores = 0
        self.running: set[Process] = set()
        self.ids: dict[str, str] = {}       # a state folder that forgot a dataset makes a new one of the same name
        (folder / "exclave.toml").write_text(self.settings())
        self.expect(self.run("key", "generate", "--out", "recovery.key"), {0})
        self.expect(self.run("init", "--recovery", "recovery.key"), {0})

    def settings(self) -> str:
        text = f'state_dir = "{self.state}"\nthreads = 2\n[class]\ncode = "{self.shape.code}"\npayload = "{self.shape.payload_kib}KiB"\n'
        text += f'[every_site]\ndurability = "{self.shape.durability}"\n'
        text += "".join(f'[[site]]\nname = "{name}"\naddress = "file://{path}"\n' for name, path in self.sites.items())
        return text + "".join(f'[[dataset]]\nname = "{name}"\npath = "{source.folder}"\n' for name, source in self.sources.items())

    def close(self):
        for process in list(self.running):
            process.send(signal.SIGKILL)
            process.popen.wait()
        for place in (self.state, *self.sites.values()) if self.mounts else ():
            subprocess.run(["umount", "--lazy", place], check=True)
        shutil.rmtree(self.folder)

    # Running it

    def start(self, *arguments: str, fault: Fault | None = None, years: int = 0) -> "Process":
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "EXCLAVE_PASSPHRASE": PASSPHRASE, "RUST_BACKTRACE": "1"}
        report = self.folder / f"report-{time.monotonic_ns()}"
        if fault:
            environment |= self.shim.environment(fault, report)
        if years:
            environment |= {"LD_PRELOAD": str(FAKETIME), "FAKETIME": f"{years * 365:+}d", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                            "DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
        if not arguments[0].startswith("-"):
            arguments = ("--json", *arguments)
        return Process(self, arguments, environment, report)

    def run(self, *arguments: str, **more) -> Done:
        return self.start(*arguments, **more).end()

    def expect(self, done: Done, codes: set[int]) -> Done:
        if done.code not in codes:
            raise Broken(f"{done.last_words()}; expected one of {sorted(codes)}")
        return done

    def replicate(self, name: str, **more) -> Done:
        return self.start_replicate(name, **more).end()

    def start_replicate(self, name: str, **more) -> "Process":
        # A folder from before the first snapshot is played on: that it is refused without the option has a test of its own.
        return self.start("replicate", "--new-dataset", "--name", name, **more)

    def enough(self) -> int:
        """Sites that restore whatever is stored in full, spare sites counted."""
        return len(self.sites) - self.parity

    def restore(self, name: str, sites: list[str], killed_after: float | None = None) -> tuple[Done, dict[str, tuple]]:
        """By the program, from these sites alone, elsewhere: without settings and state. With `killed_after` seconds it is
        killed, and goes on."""
        self.restores += 1
        to = self.folder / f"restored-{self.restores}"
        addresses = [part for site in sites for part in ("--site", f"file://{self.sites[site]}")]
        words = ["--config", "/dev/null", "--json", "restore", "--identity", "recovery.key", "--dataset", self.ids.get(name, name), "--accept-stale",
                 "--to", str(to), *addresses]
        if killed_after is not None:
            process = self.start(*words)
            process.sleep(killed_after)
            process.send(signal.SIGKILL)
            process.end()
            words.append("--replace")
        done = self.run(*words)
        tree = tree_of(to) if to.is_dir() else {}
        shutil.rmtree(to, ignore_errors=True)
        return done, tree

    # Making it fail

    def used(self, place: Path) -> int:
        info = os.statvfs(place)
        return (info.f_blocks - info.f_bfree) * info.f_frsize

    def leave_room(self, place: Path, room: int | None):
        """Bytes that a file system has left; None for plenty."""
        for _ in range(10):
            size = 2 << 30 if room is None else self.used(place) + room
            if not subprocess.run(["mount", "-o", f"remount,size={size // 4096 * 4096}", place], capture_output=True).returncode:
                return      # it is refused when somebody has written in between
        raise RuntimeError(f"{place} can't be given another size")

    def copy_state(self) -> Path:
        copies = sorted((self.folder / "copies").iterdir())
        for old in copies[:-2]:
            shutil.rmtree(old)
        to = self.folder / "copies" / f"{time.monotonic_ns():020}"
        shutil.copytree(self.state, to, symlinks=True)
        return to

    def roll_back(self, copy: Path, pattern: str):
        """What matches in the state folder becomes what it was at the copy."""
        self.remove(pattern)
        for path in copy.glob(pattern):
            to = self.state / path.name
            shutil.copytree(path, to) if path.is_dir() else shutil.copy2(path, to)

    def remove(self, pattern: str):
        for path in list(self.state.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def keep(self, to: Path):
        """A copy that outlives the mounts."""
        shutil.copytree(self.folder, to, symlinks=True, dirs_exist_ok=True)


class Process:
    """One call of the program, watched."""

    def __init__(self, world: World, arguments, environment: dict[str, str], report: Path):
        self.world, self.arguments, self.report, self.began = world, arguments, report, time.monotonic()
        self.files = [open(world.folder / f"said-{i}-{time.monotonic_ns()}", "w+") for i in (1, 2)]
        self.popen = subprocess.Popen([world.binary, *arguments], cwd=world.folder, env=environment, stdin=subprocess.DEVNULL,
                                      stdout=self.files[0], stderr=self.files[1], start_new_session=True)
        world.running.add(self)

    def send(self, number: int):
        if self.popen.poll() is None:
            self.popen.send_signal(number)

    def sleep(self, seconds: float) -> bool:
        """True while it runs."""
        try:
            self.popen.wait(seconds)
            return False
        except subprocess.TimeoutExpired:
            return True

    def await_stop(self) -> bool:
        """Waits until it has stopped itself; False when it came to its end without."""
        deadline = time.monotonic() + HANG_SECONDS
        while time.monotonic() < deadline:
            if self.popen.poll() is not None:
                return False
            if Path(f"/proc/{self.popen.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                return True
            time.sleep(0.001)
        self.send(signal.SIGKILL)
        raise Broken(f"neither stopped nor ended within {HANG_SECONDS} s: {' '.join(self.arguments)}")

    def reported(self) -> tuple[int, bool]:
        if not self.report.exists():
            return 0, False
        calls, happened = struct.unpack("QQ", self.report.read_bytes())
        self.report.unlink()
        return calls, happened == 1

    def end(self) -> Done:
        """Waits for the end. A hang, a panic and a code that isn't documented are failures, whatever was done to it."""
        killed_here = False
        try:
            self.popen.wait(HANG_SECONDS)
        except subprocess.TimeoutExpired:
            killed_here = True
            self.send(signal.SIGKILL)
            self.popen.wait()
        self.world.running.discard(self)
        texts = []
        for file in self.files:
            file.seek(0)
            texts.append(file.read())
            file.close()
            os.unlink(file.name)
        done = Done(self.popen.returncode, *texts, time.monotonic() - self.began, *self.reported())
        with open(self.world.folder / "log", "a") as log:
            log.write(f"$ exclave {' '.join(self.arguments)}\n{done.out}{done.err}[{done.code}, {done.seconds:.3f} s]\n\n")
        if killed_here:
            raise Broken(f"hung for {HANG_SECONDS} s: {' '.join(self.arguments)}")
        if "panicked" in done.err + done.out:
            raise Broken(f"panicked: {done.err[done.err.find('panicked') - 60:][:400]}")
        if done.code >= 0 and done.code not in DOCUMENTED:
            raise Broken(f"undocumented {done.last_words()}")
        if done.code in (1, 2, 5, 130) and "Error: " not in done.err and "Stopping" not in done.err:
            raise Broken(f"no word of error with {done.last_words()}")
        return done


def note(message: str):
    print(message, flush=True)


def trouble(message: str):
    print(f"kill_rounds: {message}", file=sys.stderr, flush=True)
