"""Writes docs/evidence/servers.md from a run of tools/real-servers: report.py DATE FOLDER. Standard library only.

FOLDER holds `versions` (name, tab, version), `checks.jsonl` (`exclave --json site check`) and `suite.jsonl` (the
conformance suite).
"""

import json
import pathlib
import re
import subprocess
import sys

PAGE = """# What the stores can do

Written by `tools/nightly servers`; not edited by hand, and replaced by the next record. Every store ran on one machine,
reached by loopback, fresh and empty.

| line | what |
|---|---|
| question | what can each store do that we test against, and what can't it |
| commit | {commit} |
| date | {date} |
| command | `{command}` |
| what it does not show | speed; any store of a hyperscale vendor; what a store does under load, when it is full, or after years |

`-locked` is a bucket with versions and a default retention of one day that nobody may lift; the credentials are an owner's.

`google-stand-in` is no server of Google's: it's a script of ours (`tools/servers/google_stand_in.py`), written from the
client's side. Its column shows that our client's path to `gs://` works from end to end, without tokens, and proves nothing
of how Google behaves.

## site check

What `exclave site check` finds with the credentials at hand, and what it makes of it. Versions and lock are the bucket's own
word.

{checks}

{remarks}

## Conformance suite

What every site must do (`crates/exclave-site/src/conformance`), each check on its own. A store is of use without some of
them, as long as we know: a put that isn't create-only is read back like every other.

{suite}

{deviations}
"""


def main():
    date, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    versions = dict(line.split("\t") for line in (folder / "versions").read_text().splitlines())
    checks = json_lines(folder / "checks.jsonl")
    suite = json_lines(folder / "suite.jsonl")
    assert list(versions) == [check["name"] for check in checks] == [store["name"] for store in suite]
    print(PAGE.format(
        date=date,
        commit=commit(),
        command=command(versions),
        checks=table_of_checks(checks, versions),
        remarks="\n".join(f"- {check['name']}: {remark}" for check in checks for remark in check["remarks"]),
        suite=table_of_suite(suite),
        deviations="\n".join(deviations(suite)),
    ), end="")


def json_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def commit():
    git = lambda *words: subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout.strip()
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/evidence/servers.md")
    return git("rev-parse", "HEAD") + (", with changes that were not committed" if changed else "")


def command(versions):
    more = " --more" if "garage" in versions else ""
    return f"tools/real-servers{more} install && tools/real-servers{more} record"


def table_of_checks(checks, versions):
    rows = [["store", "version", "verdict", "create-only puts", "overwrite", "delete", "older versions", "object lock"]]
    for check in checks:
        probe = check["probe"]
        found = [told(probe[what]) for what in ("create_only", "overwrite", "delete", "versioning", "object_lock")]
        rows.append([check["name"], versions[check["name"]], check["verdict"], *found])
    return table(rows)


def told(finding):
    """A finding in a cell: its word, or why there is none."""
    if finding["status"] != "known":
        return f"({finding['value']['class']})" if finding["status"] == "failed" else "-"
    match finding["value"]:
        case {"by-default": {"mode": mode, "days": days}}:
            return f"{mode}, {days} d"
        case word:
            return word


def table_of_suite(suite):
    rows = [["check", *(store["name"] for store in suite)]]
    for number, check in enumerate(suite[0]["conformance"]["checks"]):
        outcomes = [store["conformance"]["checks"][number] for store in suite]
        assert {outcome["name"] for outcome in outcomes} == {check["name"]}
        words = [outcome["outcome"]["status"] for outcome in outcomes]
        rows.append([check["name"], *(word if word == "ok" else f"**{word}**" for word in words)])
    return table(rows)


def deviations(suite):
    for store in suite:
        for check in store["conformance"]["checks"]:
            if check["outcome"]["status"] != "ok":
                # Addresses and names of one run say nothing.
                why = check["outcome"]["why"].replace(store["conformance"]["site"], "the site")
                why = re.sub(r"conformance/\d+/|<RequestId>[^<]*</RequestId>", "", why)
                yield f"- {store['name']}, {check['name']}: {why}"


def table(rows):
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


main()
