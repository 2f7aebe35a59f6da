#!/usr/bin/env bash
# OpenStack Swift, one disk without replicas, asked by S3 (its s3api, with tempauth). Needs Debian's swift-proxy,
# swift-account, swift-container, swift-object and memcached, and a file system with extended attributes.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

user=$(id -un)
etc=$folder/etc
secret=$(remembered secret random_hex 20)
hash_secret=$(remembered hash-secret random_hex 16)
declare -A port
for name in proxy account container object memcached; do
    port[$name]=$(remembered "$name-port" free_port)
done
mkdir -p "$etc" "$folder/disks/one"

(umask 077 && cat >"$etc/swift.conf") <<T
[swift-hash]
swift_hash_path_suffix = $hash_secret
T
# Without workers: each server is one process, so that ours is the one to end.
server() {
    cat <<T
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = ${port[$1]}
workers = 0
user = $user
swift_dir = $etc
log_level = ERROR
T
}
for name in account container object; do
    cat >"$etc/$name.conf" <<T
$(server $name)
devices = $folder/disks
mount_check = false
[pipeline:main]
pipeline = $name-server
[app:$name-server]
use = egg:swift#$name
T
    if [ ! -e "$etc/$name.ring.gz" ]; then
        # 2^4 partitions, one copy, no hours between moves.
        swift-ring-builder "$etc/$name.builder" create 4 1 0
        swift-ring-builder "$etc/$name.builder" add "r1z1-127.0.0.1:${port[$name]}/one" 1
        swift-ring-builder "$etc/$name.builder" rebalance
    fi >>"$folder/log" 2>&1
done
(umask 077 && cat >"$etc/proxy.conf") <<T
$(server proxy)
[pipeline:main]
pipeline = catch_errors gatekeeper proxy-logging cache listing_formats bulk s3api tempauth copy slo dlo versioned_writes symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:${port[memcached]}
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
s3_acl = false
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = $secret .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
[filter:symlink]
use = egg:swift#symlink
T

unprivileged=()
[ "$(id -u)" -ne 0 ] || unprivileged=(-u nobody)
memcached "${unprivileged[@]}" -l 127.0.0.1 -p "${port[memcached]}" -U 0 >>"$folder/log" 2>&1 &
children+=($!)
await_port "$!" "${port[memcached]}"
for name in account container object proxy; do
    "swift-$name-server" "$etc/$name.conf" >>"$folder/log" 2>&1 &
    children+=($!)
    await_port "$!" "${port[$name]}"
done
export S3_ACCESS_KEY=test:tester S3_SECRET_KEY=$secret
[ -e "$folder/founded" ] || python3 "$servers/s3_bucket.py" "http://127.0.0.1:${port[proxy]}" us-east-1 test
echo yes >"$folder/founded"
publish <<T
S3_ENDPOINT=http://127.0.0.1:${port[proxy]}
S3_BUCKET=test
S3_REGION=us-east-1
S3_ACCESS_KEY=$S3_ACCESS_KEY
S3_SECRET_KEY=$S3_SECRET_KEY
VERSION="Swift $(/usr/bin/python3 -c 'import swift; print(swift.__version__)')"
T
wait -n "${children[@]}"
