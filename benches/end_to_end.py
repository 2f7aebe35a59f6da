#!/usr/bin/env python3
"""End to end: how fast the `exclave` program takes a dataset to six local sites (4+2) and back.

Usage: benches/end_to_end.py EXCLAVE [--gib N] [--tree DIR] [--folder DIR] [--runs N]

EXCLAVE is the program's path. Two datasets: N GiB of incompressible bytes in 64 MiB files (default 2), and a copy of a
real tree (default /usr/share). Sources, sites and targets lie in one folder, by default in memory (/dev/shm), so that the
program and not a disk is measured; name a folder on a disk with --folder. Each row is one whole process: wall time,
processor time and peak resident set as the kernel accounts them for the finished child (wait4). The median of the runs
is what to quote. Bound: on two cores, reading, cutting, naming, sealing, coding and hashing each byte, and writing 1.5
times the bytes; `cp -a` of the same tree in the same folder stands beside it.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

PASSPHRASE = "bench"


def measure(arguments, env=None):
    """Runs one process; (wall seconds, cpu seconds, peak MiB)."""
    begun = time.monotonic()
    child = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
    said = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))} ended with {child.returncode}:\n{said.decode(errors='replace')}")
    return time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def tree_bytes(folder):
    """Bytes and number of the regular files below a folder."""
    count = total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.isfile(path) and not os.path.islink(path):
                count, total = count + 1, total + os.path.getsize(path)
    return total, count


def make_noise(folder, gib):
    folder.mkdir()
    for number in range(gib * 16):
        with open(folder / f"part-{number:04}", "wb") as out:
            for _ in range(64):
                out.write(os.urandom(1 << 20))


def one_run(program, source, scratch):
    """Founds an archive, replicates twice, restores, copies; rows of figures."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=scratch))
    env = dict(os.environ, EXCLAVE_PASSPHRASE=PASSPHRASE, HOME=str(folder), XDG_STATE_HOME=str(folder / "state"))
    env.pop("EXCLAVE_CONFIG", None)
    sites = [folder / f"site-{number}" for number in range(6)]
    for site in sites:
        site.mkdir()
    addresses = [word for site in sites for word in ("--site", f"file://{site}")]
    config, key = str(folder / "exclave.toml"), str(folder / "recovery.key")
    settings = ["--config", config]
    measure([program, "key", "generate", "--out", key], env)
    measure([program, *settings, "init", *addresses, "--recovery", key, "--root", str(folder / "root.key"),
             "--state-dir", str(folder / "agent")], env)
    rows = {
        "replicate": measure([program, *settings, "replicate", str(source)], env),
        "replicate again, unchanged": measure([program, *settings, "replicate", str(source)], env),
        "restore": measure([program, "restore", "--identity", key, *addresses, "--to", str(folder / "restored")], env),
        "restore, two sites lost": None,
        "cp -a": measure(["cp", "-a", str(source), str(folder / "copied")]),
    }
    shutil.rmtree(folder / "restored")
    for site in sites[:2]:
        shutil.rmtree(site)
        site.mkdir()
    rows["restore, two sites lost"] = measure(
        [program, "restore", "--identity", key, *addresses, "--to", str(folder / "restored")], env)
    shutil.rmtree(folder)
    return rows


def bench(program, title, source, scratch, runs):
    size, files = tree_bytes(source)
    results = [one_run(program, source, scratch) for _ in range(runs)]
    print(f"\n## {title}: {files} files, {size / 2**30:.2f} GiB, {runs} runs, medians\n")
    print("| what | GB/s | wall s (min to max) | cpu s | peak MiB |")
    print("|---|---|---|---|---|")
    for row in results[0]:
        wall, cpu, peak = zip(*(result[row] for result in results))
        median = statistics.median(wall)
        print(f"| {row} | {size / 1e9 / median:.2f} | {median:.2f} ({min(wall):.2f} to {max(wall):.2f}) "
              f"| {statistics.median(cpu):.2f} | {statistics.median(peak):.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description="End-to-end bench of the exclave program.")
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--gib", type=int, default=2)
    parser.add_argument("--tree", type=pathlib.Path, default=pathlib.Path("/usr/share"))
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("/dev/shm"))
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    program = str(arguments.program.resolve())
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="exclave-bench-", dir=arguments.folder))
    try:
        noise, tree = scratch / "noise", scratch / "tree"
        make_noise(noise, arguments.gib)
        shutil.copytree(arguments.tree, tree, symlinks=True)
        bench(program, "incompressible", noise, scratch, arguments.runs)
        bench(program, str(arguments.tree), tree, scratch, arguments.runs)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
