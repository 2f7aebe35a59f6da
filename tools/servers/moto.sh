#!/usr/bin/env bash
# moto: S3 as a mock in memory, with conditional writes. Needs a Python environment with moto[s3,server], named by MOTO.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

port=$(free_port)
# Only when it is told to record what it is asked (shard_puts.py).
export MOTO_RECORDER_FILEPATH=$folder/recording
"${MOTO:?MOTO names the environment}/bin/moto_server" -H 127.0.0.1 -p "$port" >"$folder/log" 2>&1 &
children+=($!)
await_port "$!" "$port"
export S3_ACCESS_KEY=k S3_SECRET_KEY=s
make_buckets "http://127.0.0.1:$port" us-east-1
publish <<T
S3_ENDPOINT=http://127.0.0.1:$port
S3_BUCKET=test
S3_LOCKED_BUCKET=locked
S3_REGION=us-east-1
S3_ACCESS_KEY=$S3_ACCESS_KEY
S3_SECRET_KEY=$S3_SECRET_KEY
VERSION="moto $("$MOTO/bin/python" -c 'from importlib.metadata import version; print(version("moto"))')"
T
wait -n "${children[@]}"
