#!/usr/bin/env bash
# OpenSSH's sshd, for SFTP and nothing else: own configuration, own host key, a key to log in with as whoever runs this.
# Needs Debian's openssh-server. As root it needs the user that the package makes.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# It isn't in everyone's PATH, and wants to be called by its whole path.
sshd=$(PATH=$PATH:/usr/sbin:/usr/local/sbin command -v sshd)
port=$(remembered port free_port)
mkdir -p "$folder/data"
for key in host_key user_key; do
    [ -s "$folder/$key" ] || ssh-keygen -q -t ed25519 -N '' -C '' -f "$folder/$key"
done
cp "$folder/user_key.pub" "$folder/authorized_keys"
# Where it locks its unprivileged part in.
[ "$(id -u)" -ne 0 ] || mkdir -p /run/sshd
cat >"$folder/sshd_config" <<T
ListenAddress 127.0.0.1:$port
HostKey $folder/host_key
AuthorizedKeysFile $folder/authorized_keys
PidFile none
# The folders above are others' and may be open to them.
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
DisableForwarding yes
Subsystem sftp internal-sftp
ForceCommand internal-sftp
# New keys often enough that every run sees them.
RekeyLimit 4M
T
"$sshd" -D -e -f "$folder/sshd_config" >"$folder/log" 2>&1 &
children+=($!)
await_port "$!" "$port"
publish <<T
SFTP_URL=sftp://$(id -un)@127.0.0.1:$port$folder/data
SFTP_HOST_KEY=$(ssh-keygen -lf "$folder/host_key.pub" | cut -d ' ' -f 2)
SFTP_KEY_FILE=$folder/user_key
VERSION="$("$sshd" -V 2>&1 | grep -o 'OpenSSH_[^, ]*' | head -n 1 | tr _ ' ')"
T
wait -n "${children[@]}"
