#!/usr/bin/env python3
"""Runs timing/ and holds each measurement to |t| < 4.5: what handles secrets takes the same time whatever they are.

    tools/timing.py [--samples N] [--record]

A measurement above it is taken once more, with another seed, since one in some hundred thousand is by chance, and a machine that
does other things has more of them; twice above it is a failure. `control` must be above it. --record writes the figures to
docs/evidence, dated as the commit.
"""

import argparse, os, re, subprocess, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
T_MAX = 4.5


def build() -> Path:
    folder = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "timing"
    subprocess.run(["cargo", "build", "--release", "--quiet", "--manifest-path", ROOT / "timing" / "Cargo.toml", "--target-dir", folder], check=True)
    return folder / "release" / "exclave-timing"


def measure(program: Path, samples: int, name: str | None = None) -> dict[str, tuple[float, str]]:
    """By name: t, and the line that says it."""
    words = [program, *(["--filter", name] if name else [])]
    out = subprocess.run(words, env=os.environ | {"SAMPLES": str(samples)}, capture_output=True, text=True, check=True).stdout
    found = {}
    for line in out.splitlines():
        if parts := re.search(r"^bench (\S+).*max t = ([+-]?[\d.]+)", line):
            found[parts[1]] = (float(parts[2]), " ".join(line.split()))
    if not found:
        sys.exit(f"timing: no figure in {out!r}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samples", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    program = build()
    found, bad, lines = measure(program, options.samples), [], []
    for name, (t, line) in found.items():
        lines.append(line)
        print(line, flush=True)
        if name == "control":
            bad += [] if abs(t) > T_MAX else ["control: its leak was not found, so nothing was measured"]
        elif abs(t) >= T_MAX:
            again, line = measure(program, options.samples, name)[name]
            lines.append(f"{line} (again)")
            print(lines[-1], flush=True)
            bad += [f"{name}: t is {t} and {again}"] if abs(again) >= T_MAX else []
    for line in bad:
        print(f"timing: {line}", file=sys.stderr)
    if options.record:
        record(options.samples, lines, bad)
    return 1 if bad else 0


def record(samples: int, lines: list[str], bad: list[str]):
    git = lambda *words: subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    memory = int(re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())[1]) >> 20
    compiler = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    day = git("log", "-1", "--format=%cs")
    rows = [
        ("question", "does the time of what handles secrets depend on them?"),
        ("commit", f"{git('rev-parse', 'HEAD')}, the tree {'altered' if git('status', '--porcelain') else 'clean'}"),
        ("date", day),
        ("machine", f"{processor[1] if processor else os.uname().machine}, {os.cpu_count()} cores, {memory} GiB, Linux {os.uname().release}; "
                    f"load {load} in the last 1, 5, 15 minutes: shared with others' work"),
        ("build", f"release of timing/, {compiler}"),
        ("command", f"`DUDECT_SAMPLES={samples} tools/nightly dudect` (`tools/timing.py --samples {samples} --record`)"),
        ("bound", f"Welch's t below {T_MAX}; `control` compares with an early exit and has to be above"),
        ("what it does not show", "that there is no leak: other inputs, other processors, and what another process sees of caches. "
                                  "`combine` has a fourth of the samples, `decapsulation` a twentieth. Typing a share looks words up in a table, and "
                                  "isn't measured"),
    ]
    verdict = f"Above the bound: {'; '.join(bad)}." if bad else "None is above the bound but the control."
    table = "\n".join(f"| {name} | {said} |" for name, said in rows)
    figures = "\n".join(lines)
    (ROOT / "docs" / "evidence" / f"{day}-timing.md").write_text(
        f"# Timing of what handles secrets, {day}\n\n| line | what |\n|---|---|\n{table}\n\n"
        f"What the classes of each are, `timing/src/main.rs` says.\n\n```text\n{figures}\n```\n\n{verdict}\n")


if __name__ == "__main__":
    sys.exit(main())
