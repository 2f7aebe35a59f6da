#!/usr/bin/env python3
"""Whether memory and time stay in bounds when the input is large: the real program against four local sites (2+2).

Usage: tools/scale.py EXCLAVE [PART...] [--divide N] [--folder DIR] [--measure PROGRAM]

Parts, all by default:
  small-files  a million files of 1 to 4 KiB, out and back, every byte compared
  stream       100 GiB through standard input that repeat themselves after 64 MiB, out and back, every byte compared
  sparse       a file of 100 GiB with data in 1 % of it, out and back: the same bytes in the same places, and the same holes
  catalog      10^5, 10^6 and 10^7 chunks in a catalog: time of a look-up (--measure: the example `measure` of exclave-catalog)

--divide makes everything N times smaller, to try the tool itself. The peak is the greatest resident set that the kernel saw
of each process (wait4). A peak over 512 MiB, which leaves nothing extra for stripes on their way, fails; so does any byte.
"""

import argparse
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

PEAK_MIB_MAX = 512
BLOCK_BYTES = 64 << 20
PASSPHRASE = "scale"


class Failed(Exception):
    """What was not as it has to be."""


class Archive:
    """Four sites, a configuration and a key in a folder."""

    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.env = dict(os.environ, HOME=str(folder), EXCLAVE_PASSPHRASE=PASSPHRASE, XDG_STATE_HOME=str(folder / "state"))
        self.env.pop("EXCLAVE_CONFIG", None)
        sites = [folder / f"site-{number}" for number in range(4)]
        for site in sites:
            site.mkdir()
        self.sites = [word for site in sites for word in ("--site", f"file://{site}")]
        self.key, self.config = folder / "recovery.key", folder / "exclave.toml"
        self.run("key generate", "key", "generate", "--out", self.key)
        self.run("init", "--config", self.config, "init", *self.sites, "--code", "2+2", "--recovery", self.key,
                 "--root", folder / "root.key", "--state-dir", folder / "agent")

    def run(self, what, *words, feed=None, take=None):
        """One process; `feed` writes its input, `take` reads its output. Prints and judges its figures."""
        begun = time.monotonic()
        child = subprocess.Popen([str(self.program), *map(str, words)], env=self.env,
                                 stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
                                 stdout=subprocess.PIPE if take else subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if feed:
            feed(child.stdin)
            child.stdin.close()
        if take:
            take(child.stdout)
            child.stdout.close()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        peak_mib = usage.ru_maxrss / 1024
        if what not in ("key generate", "init"):
            print(f"| {what} | {time.monotonic() - begun:.1f} | {usage.ru_utime + usage.ru_stime:.1f} | {peak_mib:.0f} |",
                  flush=True)
        if child.returncode != 0:
            raise Failed(f"{what} ended with {child.returncode}")
        if peak_mib > PEAK_MIB_MAX:
            raise Failed(f"{what} took {peak_mib:.0f} MiB, more than {PEAK_MIB_MAX}")

    def replicate(self, what, *words, feed=None):
        self.run(what, "--config", self.config, "replicate", *words, feed=feed)

    def restore(self, what, *words, take=None):
        self.run(what, "restore", "--identity", self.key, *self.sites, *words, take=take)


def require(holds, what):
    if not holds:
        raise Failed(what)


def small_file(number):
    """1 to 4 KiB that differ from those of every other number."""
    noise = random.Random(number)
    return noise.randbytes(noise.randint(1024, 4096))


def small_path(number):
    return pathlib.Path(f"{number // 10_000:03}", f"{number // 100 % 100:02}", f"register-{number:07}")


def small_files(archive, divide):
    count, source = 1_000_000 // divide, archive.folder / "source"
    for number in range(count):
        path = source / small_path(number)
        if number % 100 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(small_file(number))
    archive.replicate(f"small-files: {count} files, out", source)
    archive.replicate(f"small-files: {count} files, again", source)
    shutil.rmtree(source)
    target = archive.folder / "restored"
    archive.restore(f"small-files: {count} files, back", "--to", target)
    for number in range(count):
        require((target / small_path(number)).read_bytes() == small_file(number), f"file {number} came back other")
    require(sum(len(names) for _, _, names in os.walk(target)) == count, "there are other files")


def stream(archive, divide):
    block, repeats = random.Random(1).randbytes(BLOCK_BYTES), max(100 * 2**30 // BLOCK_BYTES // divide, 2)

    def feed(pipe):
        for _ in range(repeats):
            pipe.write(block)

    def take(pipe):
        for number in range(repeats):
            require(pipe.read(BLOCK_BYTES) == block, f"block {number} came back other")
        require(pipe.read(1) == b"", "there is more than was sent")

    gib = repeats * BLOCK_BYTES / 2**30
    archive.replicate(f"stream: {gib:.1f} GiB, out", "--stdin", "--name", "stream", feed=feed)
    archive.restore(f"stream: {gib:.1f} GiB, back", "--to", "-", "--format", "raw", take=take)


def extents(path):
    """Where data lies, as the file system says."""
    found, at = [], 0
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        while at < size:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            found.append((start, at))
    return found


def sparse(archive, divide):
    size, piece = 100 * 2**30 // divide, 1 << 20
    source = archive.folder / "source"
    source.mkdir()
    path = source / "sparse.img"
    noise = random.Random(2)
    with open(path, "wb") as out:
        out.truncate(size)
        for at in range(0, size, 100 * piece):
            out.seek(at)
            out.write(noise.randbytes(piece))
    archive.replicate(f"sparse: {size / 2**30:.1f} GiB, out", source)
    target = archive.folder / "restored"
    archive.restore(f"sparse: {size / 2**30:.1f} GiB, back", "--to", target)
    restored = target / "sparse.img"
    require(restored.stat().st_size == size, "the size came back other")
    require(extents(restored) == extents(path), "holes came back other")
    with open(path, "rb") as one, open(restored, "rb") as other:
        for start, end in extents(path):
            one.seek(start)
            other.seek(start)
            require(one.read(end - start) == other.read(end - start), f"bytes at {start} came back other")


def catalog(measure, folder, divide):
    for rows in (10**5, 10**6, 10**7):
        place = folder / str(rows)
        place.mkdir()
        child = subprocess.Popen([measure, place, str(max(rows // divide, 2048))], stdout=subprocess.PIPE, text=True)
        said = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        print(f"\n{rows // divide} chunks, peak {usage.ru_maxrss / 1024:.0f} MiB\n\n```text\n{said}```", flush=True)
        require(child.returncode == 0, f"the catalog of {rows} chunks ended with {child.returncode}")
        shutil.rmtree(place)


PARTS = {"small-files": small_files, "stream": stream, "sparse": sparse}


def main():
    parser = argparse.ArgumentParser(description="Bounds of memory and time for large input.")
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "catalog", []])
    parser.add_argument("--divide", type=int, default=1)
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--measure", type=pathlib.Path)
    arguments = parser.parse_args()
    parts = arguments.parts or [*PARTS, *(["catalog"] if arguments.measure else [])]
    print("| what | wall s | processor s | peak MiB |\n|---|---|---|---|", flush=True)
    for part in parts:
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"exclave-scale-{part}-", dir=arguments.folder))
        try:
            if part == "catalog":
                catalog(arguments.measure.resolve(), folder, arguments.divide)
            else:
                PARTS[part](Archive(arguments.program.resolve(), folder), arguments.divide)
        except Failed as failed:
            sys.exit(f"{part}: {failed}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
