#!/usr/bin/env python3
"""End to end: how fast programs take a dataset away and bring it back, and how near ours comes to the machine's bound.

Usage: benches/end_to_end.py EXCLAVE [--costs PROGRAM] [--peer NAME=PROGRAM]... [--wide CODE] [--gib N] [--tree DIR]
                             [--tree-files N] [--tree-gib N] [--only noise|tree] [--folder DIR] [--runs N]

EXCLAVE is the program's path. Two datasets: N GiB of incompressible bytes in 64 MiB files, saved without compression; and
a tree of real files, saved as each program does by default. The tree is drawn from DIR (default /usr): symbolic links and
files of up to 32 MiB in the order of the hash of their path, until there are --tree-files of them or --tree-gib of bytes.

In each run every program has its turn, one after the other, and the first turn wanders, so that a slow minute of the machine
hits all of them. A row is one whole process: wall time, processor time and peak resident set as the kernel accounts them
for the finished child (wait4). Medians are what to quote. Sources, sites and targets lie in one folder, by default in
memory (/dev/shm), so that the programs and not a disk are measured; its pages are touched once before anything is timed.

--costs names the program `stage-costs` (cargo build --release -p exclave-benches). It is run in every round, and the
bound is what its medians allow: as many cores as there are, each doing nothing but the stages that can't be left out.
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

import peers
import warm_pages

FILE_BYTES_MAX = 32 << 20


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


def make_tree(folder, origin, files_max, bytes_max):
    """Copies a sample of `origin`'s files that depends on their paths only."""
    found = []
    for parent, _, names in os.walk(origin):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.islink(path) or (os.path.isfile(path) and os.path.getsize(path) <= FILE_BYTES_MAX):
                found.append((hashlib.sha256(os.path.relpath(path, origin).encode(errors="surrogateescape")).digest(), path))
    files = total = 0
    for _, path in sorted(found):
        size = 0 if os.path.islink(path) else os.path.getsize(path)
        if files == files_max or total + size > bytes_max:
            break
        files, total = files + 1, total + size
        target = folder / os.path.relpath(path, origin)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target, follow_symlinks=False)


def one_turn(peer, source, size, scratch):
    """One program, from an empty folder to the restored tree; figures by row."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=scratch))
    peer.found(folder)
    rows = {"out": peer.save(source)}
    if peer.name != "cp -a":
        rows["again, unchanged"] = peer.save(source)
    rows["back"] = peer.restore()
    found = tree_bytes(peers.restored_tree(peer.target, source))
    if found != size:
        sys.exit(f"{peer.name} restored {found} bytes and files instead of {size}")
    rows.update(peer.after())
    shutil.rmtree(folder)
    return rows


def stage_costs(program, folder):
    said = subprocess.run([program, folder], capture_output=True, text=True, check=True)
    return json.loads(said.stdout)


def table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)
    print()


def show_programs(bytes_count, results):
    """`results[name][row]` is a list of figures."""
    gb = bytes_count / 1e9
    rows = []
    for name, figures in results.items():
        for row, all_runs in figures.items():
            wall = [figure.wall_s for figure in all_runs]
            rows.append([name, row, f"{gb / statistics.median(wall):.2f}",
                         f"{statistics.median(wall):.2f} ({min(wall):.2f} to {max(wall):.2f})",
                         f"{statistics.median(figure.cpu_s for figure in all_runs) / gb:.2f}",
                         f"{statistics.median(figure.peak_mib for figure in all_runs):.0f}"])
    table(["program", "what", "GB/s", "wall s (min to max)", "processor s per GB", "peak MiB"], rows)


def show_ratios(results):
    """How many times faster ours is, by median wall time."""
    def median(name, row):
        return statistics.median(figure.wall_s for figure in results[name][row])
    rows = []
    for name in results:
        if name != "exclave":
            rows.append([f"{name} / exclave"] + [
                f"{median(name, row) / median('exclave', row):.2f}" if row in results[name] else ""
                for row in ("out", "again, unchanged", "back")])
    table(["wall time", "out", "again, unchanged", "back"], rows)


def show_bound(bytes_count, costs, results):
    """What the stages' medians allow, and the share of it that our program reaches."""
    cores = os.cpu_count()
    gb = bytes_count / 1e9
    for way in ("out", "back"):
        stages = {stage: {at: statistics.median(cost[way][stage][at] for cost in costs) for at in ("alone", "together")}
                  for stage in costs[0][way]}
        sums = {at: sum(stage[at] for stage in stages.values()) for at in ("alone", "together")}
        wall = statistics.median(figure.wall_s for figure in results["exclave"][way])
        print(f"Bound {way}: processor seconds per GB of the source, one core busy, and all {cores} busy at once\n")
        table(["stage", "one busy", "all busy"],
              [[stage, f"{cost['alone']:.3f}", f"{cost['together']:.3f}"] for stage, cost in stages.items()]
              + [["sum", f"{sums['alone']:.3f}", f"{sums['together']:.3f}"],
                 [f"bound, GB/s on {cores} cores"] + [f"{cores / sums[at]:.2f}" for at in ("alone", "together")],
                 ["share reached"] + [f"{gb / wall / (cores / sums[at]):.0%}" for at in ("alone", "together")]])


def bench(title, source, programs, scratch, arguments):
    size = tree_bytes(source)
    results, costs = {}, []
    for run in range(arguments.runs):
        if arguments.costs:
            costs.append(stage_costs(arguments.costs, scratch))
        first = run % len(programs)
        for peer in programs[first:] + programs[:first]:
            for row, figure in one_turn(peer, source, size, scratch).items():
                results.setdefault(peer.name, {}).setdefault(row, []).append(figure)
                print(f"{title}, run {run + 1}: {peer.name}, {row}: {figure.wall_s:.2f} s", file=sys.stderr, flush=True)
    results = {peer.name: results[peer.name] for peer in programs}
    print(f"\n## {title}: {size[1]} files, {size[0] / 2**30:.2f} GiB, {arguments.runs} runs\n")
    show_programs(size[0], results)
    show_ratios(results)
    if costs:
        show_bound(size[0], costs, results)


def programs_of(arguments, compress):
    ours = str(arguments.program.resolve())
    found = [peers.Exclave(ours, compress), peers.Copy()]
    if arguments.wide:
        found.append(peers.Exclave(ours, compress, arguments.wide))
    for word in arguments.peer:
        name, _, program = word.partition("=")
        found.append(peers.PEERS[name](program or name, compress))
    return found


def main():
    parser = argparse.ArgumentParser(description="End-to-end bench of the exclave program, beside others.")
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--costs", type=pathlib.Path)
    parser.add_argument("--peer", action="append", default=[])
    parser.add_argument("--wide")
    parser.add_argument("--gib", type=int, default=2)
    parser.add_argument("--tree", type=pathlib.Path, default=pathlib.Path("/usr"))
    parser.add_argument("--tree-files", type=int, default=70_000)
    parser.add_argument("--tree-gib", type=float, default=2.5)
    parser.add_argument("--only", choices=("noise", "tree"))
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("/dev/shm"))
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    for peer in programs_of(arguments, True):
        print(f"- {peer.name}: {peer.version()}")
    # Source, six shards of a quarter each, the copy that comes back, and the programs themselves.
    memory = int(3.5 * max(arguments.gib, arguments.tree_gib) * 2**30) + (2 << 30)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="exclave-bench-", dir=arguments.folder))
    try:
        with warm_pages.warm(memory):
            both(arguments, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def both(arguments, scratch):
    if arguments.only != "tree":
        noise = scratch / "noise"
        make_noise(noise, arguments.gib)
        bench("incompressible, compression off", noise, programs_of(arguments, False), scratch, arguments)
        shutil.rmtree(noise)
    if arguments.only != "noise":
        tree = scratch / "tree"
        make_tree(tree, arguments.tree, arguments.tree_files, int(arguments.tree_gib * 2**30))
        bench(f"sample of {arguments.tree}, as by default", tree, programs_of(arguments, True), scratch, arguments)


if __name__ == "__main__":
    main()
