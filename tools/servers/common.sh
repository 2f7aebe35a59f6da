# Sourced by the starters beside it. Each is called as NAME.sh FOLDER: it keeps everything below FOLDER, listens on
# loopback only, writes FOLDER/endpoint.env when it can be used, stays in the foreground and ends its children on TERM.
# Called again with the same FOLDER, those that keep nothing in memory only go on: same port, same secrets, what was stored.

servers=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
folder=$(realpath -m "${1:?usage: $(basename "$0") FOLDER}")
mkdir -p "$folder"
# Of a life before: not yet true.
rm -f "$folder/endpoint.env"

# A port that nobody listens on. Another process may take it before we do: then the server fails to start, loudly.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Lets users authenticate as nobody else can guess.
random_hex() {
    python3 -c 'import secrets, sys; print(secrets.token_hex(int(sys.argv[1])))' "$1"
}

# What a command said in the life before; runs it in the first.
remembered() {
    local file=$folder/$1
    shift
    [ -s "$file" ] || (umask 077 && "$@" >"$file")
    cat "$file"
}

# Waits until a process listens on a port; fails when it ends before.
await_port() {
    local pid=$1 port=$2
    until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        kill -0 "$pid" 2>/dev/null || { echo "$(basename "$0"): ended before it listened" >&2; return 1; }
        sleep 0.1
    done
}

# Makes bucket `test`, and bucket `locked` with versions and a lock of a day, at an S3 ENDPOINT in a REGION, with the
# credentials in S3_ACCESS_KEY and S3_SECRET_KEY.
make_buckets() {
    python3 "$servers/s3_bucket.py" "$1" "$2" test
    python3 "$servers/s3_bucket.py" "$1" "$2" locked 1
}

# The endpoint as NAME=VALUE lines from standard input, at once and complete.
publish() {
    cat >"$folder/endpoint.env.new"
    mv "$folder/endpoint.env.new" "$folder/endpoint.env"
    cat "$folder/endpoint.env"
}

# Ends the children in the order opposite to their start, whatever ends us.
children=()
end_children() {
    local number
    for ((number = ${#children[@]} - 1; number >= 0; number--)); do
        kill "${children[number]}" 2>/dev/null || true
    done
    wait
}
trap end_children EXIT
trap 'exit 0' TERM INT
