# Sourced by tools/test, tools/check and tools/nightly: steps with their times, and a table at the end.
#
#   step NAME COMMAND...   runs it; a failure is remembered and the next steps still run
#   alone COMMAND...       runs it where nothing but this machine can be reached, if the system allows that
#   finish                 prints the table; fails when a step did

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# One profile, one target folder: the graph is built once for every step.
export CARGO_INCREMENTAL=0
export PYTHONDONTWRITEBYTECODE=1

table=()
failed=()

step() {
    local name=$1 began=$SECONDS code minutes
    shift
    printf '\n== %s\n' "$name"
    # In no condition: a function called in one would go on after its first failure.
    set +e
    (
        set -e
        "$@"
    )
    code=$?
    set -e
    minutes=$(minutes_since "$began")
    if [ "$code" -eq 0 ]; then
        table+=("$minutes  ok      $name")
    else
        table+=("$minutes  FAILED  $name (exit code $code)")
        failed+=("$name")
    fi
}

alone() {
    # With real root where there is one: tests that give files to others then mean what they say.
    local way
    for way in -n -rn; do
        if unshare "$way" ip link set lo up 2>/dev/null; then
            unshare "$way" sh -c 'ip link set lo up && exec "$@"' alone "$@"
            return
        fi
    done
    echo "No network namespace can be made here: what follows could reach the network."
    "$@"
}

finish() {
    printf '\n== steps\n'
    printf '%s\n' "${table[@]}"
    printf '%s  in all\n' "$(minutes_since 0)"
    if [ ${#failed[@]} -gt 0 ]; then
        printf '\nfailed: %s\n' "${failed[*]}" >&2
        return 1
    fi
}

minutes_since() {
    awk -v seconds=$((SECONDS - $1)) 'BEGIN { printf "%6.1f min", seconds / 60 }'
}
