#!/usr/bin/env bash
# Our stand-in for Google Cloud Storage, in memory: see google_stand_in.py for what it can't show. Any bucket is there.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

port=$(free_port)
python3 "$servers/google_stand_in.py" "$port" >"$folder/log" 2>&1 &
children+=($!)
await_port "$!" "$port"
# Without OAuth: no token is made or asked for.
publish <<T
GOOGLE_ENDPOINT=http://127.0.0.1:$port
GOOGLE_BUCKET=test
GOOGLE_SERVICE_ACCOUNT_JSON='{"private_key":"none","private_key_id":"none","client_email":"none","disable_oauth":true}'
VERSION="ours, not Google's"
T
wait -n "${children[@]}"
