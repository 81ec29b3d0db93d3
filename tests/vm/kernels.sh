#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Boots other kernels and runs this build on them: tests/vm/kernels.sh [KERNEL...], default 5.10 6.1 6.12 newest.
# timeout: 900
set -uo pipefail
cd "$(dirname "$0")/../.."
. tests/vm/lib/fetch.sh
. tests/vm/lib/boot.sh

vm_needs busybox:busybox-static cpio:cpio unxz:xz-utils openssl:openssl script:bsdutils

# Emulation is slow enough without sanitizers: the release build where there is one.
build=${RINGSIDE_RELEASE:-build}
[ -x "$build/bin/ringsided" ] && [ -x "$build/tests/tcpload" ] || build=${RINGSIDE_BUILD:-build}
echo "programs of $build"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/files/test/bin" "$work/files/tmp"
for f in "$build"/bin/{ringsided,ringside,ringside-query} "$build"/tests/{governor_probe,scenarios} $(vm_loads "$build"); do
	[ -x "$f" ] || skip "$f isn't built"
	cp "$f" "$work/files/test/bin/"
done
# What a plugin watches must be there.
mkdir -p "$work/files/bin" "$work/files/usr/bin" "$work/files/usr/lib/ssl"
cp /bin/bash "$work/files/bin/"
cp /usr/bin/openssl /usr/bin/script "$work/files/usr/bin/"
cp -L /usr/lib/ssl/openssl.cnf "$work/files/usr/lib/ssl/"
ln -s /bin/bash "$work/files/usr/bin/bash"
cp tests/vm/lib/guest.sh tests/vm/lib/check.sh tests/vm/lib/events.sh "$work/files/test/"
vm_pack "$work/files" "$work/archive"

ran=0 failed=0 unreachable=()
for kernel in "${@:-5.10 6.1 6.12 newest}"; do
	for k in $kernel; do
		if ! vm_fetch "$k"; then
			unreachable+=("$k: $vm_why")
			echo "skip $k: $vm_why"
			continue
		fi
		start=$SECONDS
		vm_run "$k" "$work/archive" "$work/$k" 200
		rc=$?
		# Emulators die now and then of something else; a second time is no accident.
		if [ $rc -eq 2 ]; then
			echo "$k: the machine never came to an end, once more"
			tail -n 5 "$work/$k/console" "$work/$k/qemu"
			vm_run "$k" "$work/archive" "$work/$k" 200
			rc=$?
		fi
		ran=$((ran + 1))
		echo "==== $k: $([ $rc -eq 0 ] && echo passed || echo failed), $((SECONDS - start)) s"
		cat "$work/$k/out"
		if [ $rc -ne 0 ]; then
			failed=$((failed + 1))
			tail -n 20 "$work/$k/console"
			{
				grep -B 1 -A 2 "^FAIL" "$work/$k/out" || echo "no answer, or not to the end"
			} | sed "s/^/$k: /" >>"$work/failures"
		fi
	done
done
if [ $failed -ne 0 ]; then # of a long log mostly the end is read
	cat "$work/failures"
	exit 1
fi
[ $ran -gt 0 ] || skip "no kernel could be had: ${unreachable[*]}"
# Those that ran passed; what didn't run is told.
for u in ${unreachable[@]+"${unreachable[@]}"}; do echo "not run: $u"; done
