#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Connections that are idle for hours, in a machine whose clock jumps to the next timer whenever it has nothing to do:
# tests/vm/hours.sh [KERNEL], default 6.12. All of the kernel's clocks and timers and all programs live through those hours.
# timeout: 480
set -uo pipefail
cd "$(dirname "$0")/../.."
. tests/vm/lib/fetch.sh
. tests/vm/lib/boot.sh

vm_needs busybox:busybox-static cpio:cpio unxz:xz-utils ip:iproute2
# Sanitizers take more memory the longer they run: the release build where there is one.
build=${RINGSIDE_RELEASE:-build}
[ -x "$build/bin/ringsided" ] && [ -x "$build/tests/scenarios" ] || build=${RINGSIDE_BUILD:-build}
echo "programs of $build"
kernel=${1:-6.12}
vm_fetch "$kernel" || skip "kernel $kernel: $vm_why"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/files/test/bin"
for f in bin/ringsided bin/ringside bin/ringside-query tests/scenarios; do
	[ -x "$build/$f" ] || skip "$build/$f isn't built"
	cp "$build/$f" "$work/files/test/bin/"
done
cp "$(command -v ip)" "$work/files/test/bin/"
cp tests/vm/lib/check.sh "$work/files/test/"
cp tests/vm/lib/hours_guest.sh "$work/files/test/guest.sh"
vm_pack "$work/files" "$work/archive"

start=$SECONDS
vm_base "$kernel"
cat "$vm_cache/$kernel/base.cpio" "$work/archive" >"$work/initrd"
# An instruction takes 4 ns of the machine's time, about what emulating it takes on a quiet host.
vm_boot "$kernel" "$work" 420 "" -initrd "$work/initrd" -icount shift=2,sleep=off -rtc clock=vm
rc=$?
cat "$work/out"
echo "$kernel: $((SECONDS - start)) s of this host's time"
[ $rc -eq 0 ] || tail -n 20 "$work/console"
exit $rc
