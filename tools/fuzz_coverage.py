#!/usr/bin/env python3
"""Fuzzing guided by coverage: libFuzzer at each parser of `tests/src/fuzz`, and a table of what it reached.

Usage: tools/fuzz_coverage.py [--seconds N] [--report] [PARSER...]

For each parser, all by default: N seconds (900) of one process, then the inputs that reach something are put down to few. A
process is held to 256 MiB of addresses on top of those it begins with and 10 s for one input; a panic, a failed allocation
and a longer input are findings, whose inputs are kept and named, and fail. Corpora grow from run to run in
.cache/fuzz. Runs of some parsers are parts of a whole: each one's newest figures are kept.

--report writes them to docs/evidence/DATE-fuzzing.md, and the shortest inputs of the corpora to tests/corpus, from where the
test `fuzz` takes them too.

Needed: a nightly toolchain (the instrumentation is LLVM's, the flags for it unstable), cargo-fuzz, a C++ compiler.
"""

import argparse
import base64
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "fuzz"
KEPT = ROOT / "tests" / "corpus"
# With 31 parsers, 2 MiB as text.
KEPT_BYTES_MAX_EACH = 48 << 10
# A parser's process ends well before what kills processes after half an hour.
SECONDS_MAX = 1500
SECONDS_ONE_INPUT_MAX = 10
TARGET = "x86_64-unknown-linux-gnu"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=int, default=900)
    arguments.add_argument("--report", action="store_true")
    arguments.add_argument("parsers", nargs="*")
    options = arguments.parse_args()
    if not 0 < options.seconds <= SECONDS_MAX:
        arguments.error(f"--seconds is from 1 to {SECONDS_MAX}")
    program = build()
    # A folder of one's own: several runs of different parsers may share the machine.
    with tempfile.TemporaryDirectory() as folder:
        go(options, arguments, program, pathlib.Path(folder))


def go(options, arguments, program, seeds_folder):
    seeds = write_seeds(program, seeds_folder)
    unknown = set(options.parsers) - set(seeds)
    if unknown:
        arguments.error(f"no parser is named {', '.join(sorted(unknown))}; there are {', '.join(seeds)}")
    commit = state_of_the_tree()
    failed = []
    for parser in options.parsers or seeds:
        figures = fuzz(program, parser, seeds_folder / parser, options.seconds) | {"commit": commit}
        write(CACHE / "figures" / f"{parser}.json", json.dumps(figures))
        print(row(figures), flush=True)
        if figures["finding"]:
            failed.append(f"{parser}: {figures['finding']}")
    if options.report:
        report(seeds)
    if failed:
        sys.exit("findings:\n  " + "\n  ".join(failed))


def build():
    """The instrumented program. Without AddressSanitizer, whose shadow leaves no room for a limit of addresses."""
    folder = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "fuzz"
    # The versions of the workspace; what only the fuzzer needs is pinned in its Cargo.toml.
    shutil.copyfile(ROOT / "Cargo.lock", ROOT / "fuzz" / "Cargo.lock")
    subprocess.run(
        ["cargo", "+nightly", "fuzz", "build", "--fuzz-dir", "fuzz", "-s", "none", "--target-dir", folder, "parsers"],
        cwd=ROOT, check=True, env={**os.environ, "PATH": f"{CACHE / 'cargo' / 'bin'}:{os.environ['PATH']}"},
    )
    return folder / TARGET / "release" / "parsers"


def write_seeds(program, folder):
    """Writes a folder of seeds for each parser, whose names come back sorted."""
    subprocess.run([program], env={**os.environ, "EXCLAVE_FUZZ_SEEDS": str(folder)}, check=True)
    return sorted(entry.name for entry in folder.iterdir())


def fuzz(program, parser, seeds, seconds):
    """One run, and what it came to."""
    corpus, findings, few = (CACHE / name / parser for name in ("corpus", "findings", "few"))
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    dictionary = ["-dict=fuzz/answers.dict"] if parser.endswith("-answers") else []
    begun = datetime.datetime.now(datetime.timezone.utc)
    ended = run(program, parser, "-print_final_stats=1", f"-max_total_time={seconds}", f"-timeout={SECONDS_ONE_INPUT_MAX}",
                f"-artifact_prefix={findings}/", "-print_funcs=0", *dictionary, corpus, seeds)
    lasted = datetime.datetime.now(datetime.timezone.utc) - begun
    log = ended.stdout
    write(CACHE / "logs" / f"{parser}.log", log)
    shutil.rmtree(few, ignore_errors=True)
    few.mkdir(parents=True)
    if ended.returncode == 0:
        merged = run(program, parser, "-merge=1", few, corpus, seeds)
        if merged.returncode != 0:
            write(CACHE / "logs" / f"{parser}-merge.log", merged.stdout)
            sys.exit(f"{parser}: the corpus can't be made small; see {CACHE / 'logs'}")
    lengths = [path.stat().st_size for path in few.iterdir()]
    last = re.findall(r"cov: (\d+) ft: (\d+)", log)
    found = re.search(r"Test unit written to (\S+)", log)
    return {
        "parser": parser,
        "began": begun.strftime("%Y-%m-%d %H:%M"),
        "seconds": round(lasted.total_seconds()),
        "runs": number(r"stat::number_of_executed_units:\s+(\d+)", log),
        "first": int(next(iter(re.findall(r"INITED cov: (\d+)", log)), 0)),
        "edges": int(last[-1][0]) if last else 0,
        "features": int(last[-1][1]) if last else 0,
        "peak_mib": number(r"stat::peak_rss_mb:\s+(\d+)", log),
        "inputs": len(lengths),
        "bytes": sum(lengths),
        "finding": None if ended.returncode == 0 else (found[1] if found else f"exit code {ended.returncode}"),
    }


def run(program, parser, *words):
    # The limit of addresses does it all: one of resident memory would need a thread that looks.
    return subprocess.run([program, "-rss_limit_mb=0", *words], cwd=ROOT, text=True, errors="replace",
                          env={**os.environ, "EXCLAVE_FUZZ_PARSER": parser}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)


def number(pattern, text):
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


HEADING = """| parser | seconds | runs | edges reached by seeds | edges reached | features | peak MiB | inputs kept | their bytes |
|---|---|---|---|---|---|---|---|---|"""


def row(one):
    end = f" **finding: {pathlib.Path(one['finding']).name}** |" if one["finding"] else ""
    return (f"| {one['parser']} | {one['seconds']} | {one['runs']:,} | {one['first']:,} | {one['edges']:,} | "
            f"{one['features']:,} | {one['peak_mib']} | {one['inputs']:,} | {one['bytes']:,} |{end}")


def report(parsers):
    """Writes the newest figures of every parser as evidence, and what is kept of the corpora."""
    files = [CACHE / "figures" / f"{parser}.json" for parser in parsers]
    figures = [json.loads(file.read_text()) for file in files if file.exists()]
    commits = {}
    for one in figures:
        commits.setdefault(one["commit"], []).append(one["parser"])
    usual = max(commits, key=lambda commit: len(commits[commit]))
    others = [f"; `{commit}`: {', '.join(named)}" for commit, named in commits.items() if commit != usual]
    missing = sorted(set(parsers) - {one["parser"] for one in figures})
    total = sum(one["bytes"] for one in figures)
    kept = sum(keep(one["parser"]) for one in figures if not one["finding"])
    date = datetime.date.today().isoformat()
    lines = [
        "# Fuzzing guided by coverage",
        "",
        "No figure is a speed: fuzzing shares its machine.",
        "",
        "| line | what |",
        "|---|---|",
        "| question | does any parser of bytes from outside panic, need more memory than its cap or more than 10 s for one"
        " input, or hand on what breaks its rule, when the inputs follow coverage |",
        f"| commit | `{usual}`{''.join(others)} |",
        f"| date | {min(one['began'] for one in figures)} to {max(one['began'] for one in figures)} UTC, when parsers began |",
        f"| machine | {machine()} |",
        f"| build | `cargo +nightly fuzz build -s none`: release with debug assertions and overflow checks, {rustc()} |",
        "| command | `tools/fuzz_coverage.py --seconds N --report PARSER...` |",
        "| limits | 256 MiB of addresses on top of those that the process begins with; 10 s an input |",
        "",
        HEADING,
        *map(row, figures),
        "",
        f"{sum(one['runs'] for one in figures):,} runs of {len(figures)} parsers; "
        f"{sum(1 for one in figures if one['finding'])} findings. The inputs that reach something new have {total:,} bytes in "
        f"all. The shortest of them, {kept:,} bytes, are in `tests/corpus`, and the test `fuzz` begins with them too.",
        *([f"Not run: {', '.join(missing)}."] if missing else []),
        "",
        "**What it does not show.** Coverage counts edges of a parser's code and of the libraries in Rust below it; C (zstd, aws-lc)",
        "isn't seen, so `chunk` is hardly guided. Figures of two parsers can't be compared. Signatures, boxes and hashes are passed",
        "by. Without AddressSanitizer, what unsafe code in libraries does wrong is seen only when it ends the process. Answers begin",
        "behind HTTP itself, which is hyper's.",
        "",
    ]
    path = ROOT / "docs" / "evidence" / f"{date}-fuzzing.md"
    write(path, "\n".join(lines))
    print(f"Wrote {path.relative_to(ROOT)}")


def keep(parser):
    """Writes the shortest inputs to a file, each as a line of base64; how many bytes they have."""
    inputs, total = [], 0
    for one in sorted((path.read_bytes() for path in (CACHE / "few" / parser).iterdir()), key=len):
        if total + len(one) > KEPT_BYTES_MAX_EACH:
            break
        inputs.append(base64.b64encode(one).decode() + "\n")
        total += len(one)
    write(KEPT / f"{parser}.txt", "".join(sorted(inputs)))
    return total


def state_of_the_tree():
    """The commit, and whether more than what a report writes has changed since."""
    git = ["git", "-C", ROOT]
    commit = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
    changed = subprocess.check_output([*git, "status", "--porcelain"], text=True).splitlines()
    others = [line for line in changed if not line[3:].startswith(("docs/evidence/", "tests/corpus/"))]
    return f"{commit}, changed" if others else commit


def machine():
    names = re.findall(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = number(r"MemTotal:\s+(\d+) kB", pathlib.Path("/proc/meminfo").read_text()) >> 20
    return f"{names[0] if names else platform.machine()}, {len(names)} processors; {memory} GiB; Linux {platform.release()}"


def rustc():
    return subprocess.check_output(["rustc", "+nightly", "-V"], text=True).strip()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


if __name__ == "__main__":
    main()
