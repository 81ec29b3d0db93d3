#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The units are what systemd takes for units: systemd-analyze verify says nothing about them.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v systemd-analyze >/dev/null || { echo "needs systemd-analyze"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# The installed path of the binary may not exist yet; verify looks for it.
sed "s#^ExecStart=.*ringsided\$#ExecStart=$RINGSIDE_BUILD/bin/ringsided#" "$RINGSIDE_BUILD/systemd/ringsided.service" >"$dir/ringsided.service"
cp "$RINGSIDE_BUILD/systemd/ringsided.socket" "$dir/"
grep -q "^ExecStart=$RINGSIDE_BUILD/bin/ringsided\$" "$dir/ringsided.service"

out=$(systemd-analyze verify --man=no "$dir/ringsided.service" "$dir/ringsided.socket" 2>&1) || { echo "$out"; exit 1; }
# Other units of the host are read, too; only what is said about ours counts.
if grep -F ringsided <<<"$out"; then
	echo "systemd-analyze verify complains"
	exit 1
fi
mkdir "$dir/etc"
echo "ringside:x:900:" >"$dir/etc/group" # what sysusers would have made
for f in sysusers:sysusers tmpfiles:tmpfiles; do
	tool=systemd-${f%%:*}
	command -v "$tool" >/dev/null || continue
	"$tool" --root="$dir" --dry-run "$PWD/systemd/${f##*:}.conf" >/dev/null 2>"$dir/err" || {
		grep -q "unrecognized option" "$dir/err" || { cat "$dir/err"; exit 1; }
	}
done
