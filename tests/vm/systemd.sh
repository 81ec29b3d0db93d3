#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs this build into a small Debian, boots that, and lets its systemd run the units as they are shipped:
#   tests/vm/systemd.sh [PART...]    functions of lib/systemd_guest.sh, default all in their order
# timeout: 900
set -uo pipefail
cd "$(dirname "$0")/../.."
. tests/vm/lib/fetch.sh
. tests/vm/lib/boot.sh
. tests/vm/lib/rootfs.sh

[ "$(id -u)" -eq 0 ] || skip "needs root to make a root file system"
vm_needs mmdebstrap:mmdebstrap /sbin/mke2fs:e2fsprogs cmake:cmake
# MemoryDenyWriteExecute and the like are nothing for sanitizers.
build=$(realpath "${RINGSIDE_RELEASE:-build}")
[ -x "$build/bin/ringsided" ] && [ -x "$build/tests/tcpload" ] || skip "needs a release build in $build"
kernel=$(rootfs_kernel) || skip "no kernel is known for Debian '$rootfs_suite'"
vm_fetch "$kernel" || skip "$vm_why"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
loads=$(vm_loads "$build")
# shellcheck disable=SC2046,SC2086
libraries=$(rootfs_libraries "$build"/bin/{ringsided,ringside,ringside-query} $loads)
start=$SECONDS
# shellcheck disable=SC2086
rootfs_make "$build/vm/$rootfs_suite" systemd systemd-sysv dbus kmod bpftool sqlite3 openssl procps $libraries
case $? in
1) skip "$rootfs_why" ;;
2)
	echo "$rootfs_why"
	exit 1
	;;
esac
echo "root of $rootfs_suite: $((SECONDS - start)) s"

root=$work/root
cp -a "$build/vm/$rootfs_suite" "$root"
if ! DESTDIR=$root cmake --install "$build" >"$work/install" 2>&1; then
	tail -n 20 "$work/install"
	echo "cmake --install failed"
	exit 1
fi
vm_put_modules "$kernel" "$root"
mkdir -p "$root/test/bin"
# shellcheck disable=SC2086
cp $loads "$root/test/bin/"
cp tests/vm/lib/{check,events,systemd_guest}.sh "$root/test/"
parts="first_boot first_start cgroups plugins_run persist reload stop by_socket watchdog limit_exit failures cgroup_modes"
echo "${*:-$parts}" >"$root/test/parts"
cp tests/vm/lib/systemd_test.service "$root/etc/systemd/system/"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../systemd_test.service "$root/etc/systemd/system/multi-user.target.wants/"
# What takes time here and is nothing to us.
for u in systemd-update-utmp systemd-update-utmp-runlevel systemd-journal-catalog-update ldconfig systemd-random-seed \
	serial-getty@ttyS0 getty@tty1 e2scrub_reap systemd-firstboot; do
	ln -sf /dev/null "$root/etc/systemd/system/$u.service"
done
# As on a first boot: sysusers and tmpfiles have work to do.
rm -f "$root/etc/.updated" "$root/var/.updated"
echo rs-guest >"$root/etc/hostname"
rootfs_image "$root" "$work/disk"

start=$SECONDS
boot() {
	mkdir -p "$work/run"
	vm_boot "$kernel" "$work/run" 780 "root=/dev/nvme0n1 rw rootfstype=ext4 systemd.show_status=no" \
		-drive "file=$work/disk,format=raw,if=none,id=disk,snapshot=on" -device nvme,drive=disk,serial=rs
}
boot
rc=$?
# Emulators die now and then of something else; a second time is no accident.
if [ $rc -eq 2 ] && [ $((SECONDS - start)) -lt 150 ]; then
	echo "the machine never came to an end, once more"
	tail -n 5 "$work/run/console" "$work/run/qemu"
	boot
	rc=$?
fi
cat "$work/run/out"
echo "==== $kernel: $([ $rc -eq 0 ] && echo passed || echo failed), $((SECONDS - start)) s"
[ $rc -eq 0 ] || { tail -n 30 "$work/run/console"; exit 1; }
