#!/usr/bin/env bash
# Azurite: Microsoft's emulator of Azure Blob storage. Needs an npm folder with azurite, named by AZURITE.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# The account and the key are the emulator's own, the same everywhere and printed in its manual.
account=devstoreaccount1
key=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==
port=$(remembered port free_port)
node "${AZURITE:?AZURITE names the folder}/node_modules/azurite/dist/src/blob/main.js" --blobHost 127.0.0.1 \
    --blobPort "$port" --location "$folder" --silent --skipApiVersionCheck --disableTelemetry >"$folder/log" 2>&1 &
children+=($!)
await_port "$!" "$port"
python3 - "$port" "$account" "$key" <<'P'
import base64, email.utils, hashlib, hmac, sys, urllib.error, urllib.request
port, account, key = sys.argv[1:]
# Shared Key: the verb, eleven empty standard headers, our headers, then the resource, which the emulator names twice.
headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
named = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
text = "PUT" + "\n" * 12 + named + f"/{account}/{account}/test\nrestype:container"
mac = base64.b64encode(hmac.digest(base64.b64decode(key), text.encode(), hashlib.sha256)).decode()
headers |= {"Authorization": f"SharedKey {account}:{mac}", "Content-Length": "0"}
url = f"http://127.0.0.1:{port}/{account}/test?restype=container"
try:
    urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers), timeout=60).read()
except urllib.error.HTTPError as error:
    if error.code != 409:   # it is there already
        raise
P
publish <<T
AZURE_ENDPOINT=http://127.0.0.1:$port/$account
AZURE_CONTAINER=test
AZURE_ACCOUNT=$account
AZURE_KEY=$key
VERSION="azurite $(node -p 'require(process.argv[1]).version' "$AZURITE/node_modules/azurite/package.json")"
T
wait -n "${children[@]}"
