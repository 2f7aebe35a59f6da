#!/usr/bin/env bash
# Garage, one node: a real S3 server that accepts conditional writes and ignores them. GARAGE names the program, which
# tools/real-servers builds.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

garage_key() {
    echo "GK$(random_hex 12)"
}
s3=$(remembered s3-port free_port)
rpc=$(remembered rpc-port free_port)
access=$(remembered access garage_key)
secret=$(remembered secret random_hex 32)
rpc_secret=$(remembered rpc-secret random_hex 32)
mkdir -p "$folder/meta" "$folder/data"
(umask 077 && cat >"$folder/garage.toml") <<T
metadata_dir = "$folder/meta"
data_dir = "$folder/data"
db_engine = "lmdb"
metadata_fsync = false
data_fsync = false
replication_factor = 1
rpc_bind_addr = "127.0.0.1:$rpc"
rpc_public_addr = "127.0.0.1:$rpc"
rpc_secret = "$rpc_secret"
[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:$s3"
root_domain = ".s3.localhost"
T
export RUST_LOG=garage=warn
program=${GARAGE:-$(type -P garage)}
garage() {
    "$program" -c "$folder/garage.toml" "$@"
}
# Not by the function: in the background that would be a shell around it, and it is Garage that we end.
"$program" -c "$folder/garage.toml" server >>"$folder/log" 2>&1 &
server=$!
children+=("$server")
await_port "$server" "$rpc"
until node=$(garage node id -q 2>/dev/null) && garage status >/dev/null 2>&1; do
    kill -0 "$server"
    sleep 0.1
done
if [ ! -e "$folder/founded" ]; then
    {
        garage layout assign -z dc1 -c 10G "${node%%@*}"
        garage layout apply --version 1
        garage key import --yes -n test "$access" "$secret"
        garage bucket create test
        garage bucket allow --read --write --owner test --key "$access"
    } >>"$folder/log" 2>&1
    echo yes >"$folder/founded"
fi
await_port "$server" "$s3"
publish <<T
S3_ENDPOINT=http://127.0.0.1:$s3
S3_BUCKET=test
S3_REGION=garage
S3_ACCESS_KEY=$access
S3_SECRET_KEY=$secret
VERSION="Garage $(garage --version | sed -n 's/^garage [a-z:]*\([0-9.]*\).*/\1/p')"
T
wait -n "${children[@]}"
