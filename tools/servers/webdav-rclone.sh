#!/usr/bin/env bash
# rclone serve webdav, with a password. Needs Debian's rclone.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

port=$(remembered port free_port)
password=$(remembered password random_hex 12)
mkdir -p "$folder/data"
# By the environment, so that no list of processes shows the password.
RCLONE_USER=test RCLONE_PASS=$password rclone serve webdav --config /dev/null --addr "127.0.0.1:$port" \
    --vfs-cache-mode off "$folder/data" >"$folder/log" 2>&1 &
children+=($!)
await_port "$!" "$port"
publish <<T
WEBDAV_URL=http://127.0.0.1:$port
WEBDAV_USER=test
WEBDAV_PASSWORD=$password
VERSION="$(rclone version --config /dev/null 2>/dev/null | head -n 1)"
T
wait -n "${children[@]}"
