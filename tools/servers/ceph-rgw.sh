#!/usr/bin/env bash
# Ceph, as small as it gets: one monitor, one manager, one disk in memory and the S3 gateway, without systemd.
# Needs Debian's radosgw, ceph-mon, ceph-mgr, ceph-osd and ceph-common. TERM writes the disk to
# a file, for the next life; FOLDER is emptied before the first.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

founded=$(cat "$folder/founded" 2>/dev/null || true)
[ -n "$founded" ] || rm -rf "$folder"
mkdir -p "$folder"/{mon,mgr,osd,rgw,run,log}
cd "$folder"
monitor=$(remembered monitor-port free_port)
gateway=$(remembered gateway-port free_port)
cluster=$(remembered cluster cat /proc/sys/kernel/random/uuid)
access=testaccess
secret=$(remembered secret random_hex 20)

# Small pools and one copy: this is a test of the gateway, not of Ceph. tcp_nodelay: small reads take 45 ms without it.
cat >ceph.conf <<T
[global]
fsid = $cluster
mon host = [v2:127.0.0.1:$monitor/0]
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
public network = 127.0.0.0/8
ms bind ipv6 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = $folder/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 2000
mon data avail crit = 1
mon data avail warn = 2
log file = $folder/log/\$name.log
mon cluster log file = $folder/log/cluster.log
admin socket = $folder/run/\$name.asok
pid file = $folder/run/\$name.pid
run dir = $folder/run
crash dir = $folder/run
[mon]
mon data = $folder/mon
[mgr]
mgr data = $folder/mgr
mgr initial modules =
mgr disabled modules = dashboard restful
[osd]
osd data = $folder/osd
osd objectstore = memstore
memstore device bytes = 2147483648
memstore page set = false
osd memory target = 939524096
osd fast shutdown = false
osd max object name len = 2048
osd max object namespace len = 64
osd op queue = wpq
[client.rgw]
rgw data = $folder/rgw
rgw frontends = beast endpoint=127.0.0.1:$gateway tcp_nodelay=1
rgw dns name =
rgw max chunk size = 4194304
rgw crypt require ssl = false
# A day of a lifecycle rule takes a second: across_theft.py waits for one. Locks keep their time.
rgw lc debug interval = 1
T
export CEPH_CONF=$folder/ceph.conf

key() {
    ceph-authtool keyring --gen-key -n "$@"
}
found() {
    ceph-authtool --create-keyring keyring --gen-key -n mon. --cap mon 'allow *'
    key client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
    key mgr.x --cap mon 'allow profile mgr' --cap osd 'allow *'
    key osd.0 --cap mon 'allow profile osd' --cap mgr 'allow profile osd' --cap osd 'allow *'
    key client.rgw --cap mon 'allow rw' --cap osd 'allow rwx' --cap mgr 'allow rw'
    monmaptool --create --fsid "$cluster" --addv a "[v2:127.0.0.1:$monitor]" monmap
    ceph-mon --mkfs -i a --monmap monmap --keyring keyring
}
if [ -z "$founded" ]; then
    found >log/setup.log 2>&1
fi

ceph-mon -f -i a >log/mon.out 2>&1 &
children+=($!)
until timeout 5 ceph --connect-timeout 4 mon stat >/dev/null 2>&1; do
    kill -0 "${children[0]}"
    sleep 0.2
done
ceph-mgr -f -i x >log/mgr.out 2>&1 &
children+=($!)
if [ -z "$founded" ]; then
    disk=$(cat /proc/sys/kernel/random/uuid)
    ceph osd new "$disk" >/dev/null
    ceph-osd -i 0 --mkfs --osd-uuid "$disk" >>log/setup.log 2>&1
fi
ceph-osd -f -i 0 >log/osd.out 2>&1 &
children+=($!)
until ceph osd stat 2>/dev/null | grep -q '1 up'; do sleep 0.2; done
[ -n "$founded" ] || radosgw-admin user create --uid=test --display-name=test --access-key="$access" --secret-key="$secret" \
    >>log/setup.log 2>&1
radosgw -f -n client.rgw >log/rgw.out 2>&1 &
children+=($!)
await_port "$!" "$gateway"
export S3_ACCESS_KEY=$access S3_SECRET_KEY=$secret
[ -n "$founded" ] || make_buckets "http://127.0.0.1:$gateway" default
echo yes >founded
publish <<T
S3_ENDPOINT=http://127.0.0.1:$gateway
S3_BUCKET=test
S3_LOCKED_BUCKET=locked
S3_REGION=default
S3_ACCESS_KEY=$access
S3_SECRET_KEY=$secret
VERSION="Ceph $(radosgw --version | cut -d ' ' -f 3)"
T
wait -n "${children[@]}"
