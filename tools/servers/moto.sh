#!/usr/bin/env bash
# moto: S3 as a mock in memory, with conditional writes. Needs a Python environment with moto[s3,server], named by MOTO.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

port=$(free_port)
"${MOTO:?MOTO names the environment}/bin/moto_server" -H 127.0.0.1 -p "$port" >"$folder/log" 2>&1 &
children+=($!)
await_port "$!" "$port"
"$MOTO/bin/python" - "$port" <<'P'
import sys, urllib.request
# moto asks nobody for a signature.
urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{sys.argv[1]}/test", method="PUT"), timeout=30).read()
P
publish <<T
S3_ENDPOINT=http://127.0.0.1:$port
S3_BUCKET=test
S3_REGION=us-east-1
S3_ACCESS_KEY=k
S3_SECRET_KEY=s
T
wait -n "${children[@]}"
