# SPDX-License-Identifier: Apache-2.0
# Sourced after fetch.sh: runs a directory of test files in a machine with a given kernel.

skip() {
	echo "$1"
	exit 77
}

# PROGRAM:PACKAGE..., beside what every machine needs; or the test is skipped.
vm_needs() {
	[ "$(uname -m)" = x86_64 ] || skip "the kernels are amd64's, this is $(uname -m)"
	local p
	for p in qemu-system-x86_64:qemu-system-x86 /sbin/depmod:kmod "$@"; do
		command -v "${p%%:*}" >/dev/null || skip "needs package ${p##*:}"
	done
}

# Not built into Debian's cloud kernels, and of use to a test of the network.
vm_modules="veth nf_conntrack nf_conntrack_netlink sctp"

vm_dir=$(dirname "$(realpath "${BASH_SOURCE[0]}")")

# The modules and all that they need, unpacked, below ROOT.
vm_put_modules() { # KERNEL ROOT
	local kernel=$1 root=$2 rel mods
	rel=$(vm_release "$kernel")
	mods=$(mktemp -d "$vm_cache/$kernel/mods.XXXXXX")
	mkdir -p "$mods/lib/modules" "$root/lib/modules/$rel"
	cp -a "$(find "$vm_cache/$kernel/x" -type d -path "*/lib/modules/$rel" -prune | head -1)" "$mods/lib/modules/"
	depmod -b "$mods" "$rel"
	for m in $vm_modules; do
		/sbin/modprobe -d "$mods" -S "$rel" --show-depends "$m" 2>/dev/null | sed -n 's/^insmod \([^ ]*\).*/\1/p'
	done | sort -u | while read -r f; do
		mkdir -p "$root/$(dirname "${f#"$mods"}")"
		cp "$f" "$root/${f#"$mods"}"
	done
	find "$root/lib/modules/$rel" -name '*.xz' -exec unxz {} +
	find "$mods/lib/modules/$rel" -maxdepth 1 -name 'modules.order' -o -maxdepth 1 -name 'modules.builtin*' |
		xargs -I{} cp {} "$root/lib/modules/$rel/"
	depmod -b "$root" "$rel"
	rm -rf "$mods"
}

# The initramfs without the tests: busybox, the modules, init. Kept in the cache.
vm_base() { # KERNEL
	local kernel=$1 root base=$vm_cache/$1/base.cpio wanted
	wanted=$(cat "$vm_dir/init" "$vm_dir/boot.sh" "$vm_cache/$kernel/ready" | sha256sum)
	[ "$(cat "$base.of" 2>/dev/null)" != "$wanted" ] || return 0
	root=$(mktemp -d "$vm_cache/$kernel/root.XXXXXX")
	mkdir -p "$root"/{bin,proc,sys,dev,tmp,run,etc,root,usr/bin,usr/sbin,var/lib,lib64,test}
	vm_put_modules "$kernel" "$root"
	echo "$vm_modules" >"$root/modules"
	cp /bin/busybox "$root/bin/"
	ln -s busybox "$root/bin/sh"
	printf 'root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$root/etc/passwd"
	printf 'root:x:0:\nnogroup:x:65534:\nringside:x:900:\n' >"$root/etc/group"
	install -m 755 "$vm_dir/init" "$root/init"
	(cd "$root" && find . | cpio -o -H newc --quiet) >"$base"
	rm -rf "$root"
	echo "$wanted" >"$base.of"
}

# The test's files, and the shared libraries of those that are programs, as an archive that goes on top of any base.
vm_pack() { # DIR ARCHIVE: DIR/test becomes /test
	local dir=$1 lib
	find "$dir" -path '*/bin/*' -type f | while read -r f; do
		ldd "$f" 2>/dev/null | grep -o '/[^ ]*' || true
	done | sort -u | while read -r lib; do
		mkdir -p "$dir/$(dirname "$lib")"
		cp -Lu "$lib" "$dir/$lib"
	done
	(cd "$dir" && find . | cpio -o -H newc --quiet) >"$2"
}

# Emulation by default: a /dev/kvm that opens isn't yet one that works (nested hosts fail inside the guest).
vm_accel() { # KERNEL
	if [ "${RINGSIDE_VM_ACCEL:-tcg}" = kvm ]; then
		echo "-accel kvm -cpu host"
	elif [ "$1" = newest ]; then
		# Without cmpxchg16b the kernel can't give socket storage to a tracing program (kmalloc_nolock()).
		echo "-accel tcg -cpu max"
	else
		# cmpxchg16b of qemu 7.2's emulation crashes 6.12 guests at random.
		echo "-accel tcg -cpu max,-cx16"
	fi
}

# What tests/vm/lib/events.sh runs, of BUILD.
vm_loads() { # BUILD
	local name
	for name in bind conn dns exec malloc sched signal tcp udp vfs vfs32 vfsuring; do
		echo "$1/tests/${name}load"
	done
}

# Runs a machine whose second serial line says how it went. What that said is in WORK/out.
# 0: it passed; 1: it failed; 2: the machine never came to an end.
vm_boot() { # KERNEL WORK SECONDS APPEND ARGUMENTS...
	local kernel=$1 work=$2 seconds=$3 append=$4 rc
	shift 4
	# shellcheck disable=SC2046
	timeout --kill-after=5 "$seconds" qemu-system-x86_64 $(vm_accel "$kernel") -smp 1 -m 1024 -nodefaults -no-user-config \
		-display none -no-reboot -kernel "$(vm_image "$kernel")" "$@" \
		-append "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check $append" \
		-serial "file:$work/console" -serial "file:$work/raw" 2>"$work/qemu" </dev/null
	tr -d '\r' <"$work/raw" >"$work/out" 2>/dev/null
	rc=$(sed -n 's/^VM-RESULT=//p' "$work/out" | tail -1)
	[ -n "$rc" ] || return 2
	[ "$rc" -eq 0 ]
}

# Runs /test/guest.sh; answers as vm_boot does.
vm_run() { # KERNEL ARCHIVE WORK SECONDS
	local work=$3 rc=0
	mkdir -p "$work"
	vm_base "$1"
	cat "$vm_cache/$1/base.cpio" "$2" >"$work/initrd"
	vm_boot "$1" "$work" "$4" "" -initrd "$work/initrd" || rc=$?
	rm -f "$work/initrd"
	return $rc
}
