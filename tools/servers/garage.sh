#!/usr/bin/env bash
# Garage, one node: a real S3 server that accepts conditional writes and ignores them. GARAGE names the program;
# `cargo install garage --version 2.5.0 --locked --no-default-features --features bundled-libs,lmdb` makes it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

s3=$(free_port)
rpc=$(free_port)
access=GK$(random_hex 12)
secret=$(random_hex 32)
mkdir -p "$folder/meta" "$folder/data"
cat >"$folder/garage.toml" <<T
metadata_dir = "$folder/meta"
data_dir = "$folder/data"
db_engine = "lmdb"
metadata_fsync = false
data_fsync = false
replication_factor = 1
rpc_bind_addr = "127.0.0.1:$rpc"
rpc_public_addr = "127.0.0.1:$rpc"
rpc_secret = "$(random_hex 32)"
[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:$s3"
root_domain = ".s3.localhost"
T
garage() {
    RUST_LOG=garage=warn "${GARAGE:-$(type -P garage)}" -c "$folder/garage.toml" "$@"
}
garage server >"$folder/log" 2>&1 &
server=$!
children+=("$server")
await_port "$server" "$rpc"
until node=$(garage node id -q 2>/dev/null) && garage status >/dev/null 2>&1; do
    kill -0 "$server"
    sleep 0.1
done
{
    garage layout assign -z dc1 -c 10G "${node%%@*}"
    garage layout apply --version 1
    garage key import --yes -n test "$access" "$secret"
    garage bucket create test
    garage bucket allow --read --write --owner test --key "$access"
} >>"$folder/log" 2>&1
await_port "$server" "$s3"
publish <<T
S3_ENDPOINT=http://127.0.0.1:$s3
S3_BUCKET=test
S3_REGION=garage
S3_ACCESS_KEY=$access
S3_SECRET_KEY=$secret
T
wait -n "${children[@]}"
