# SPDX-License-Identifier: Apache-2.0
# Sourced after fetch.sh: a small Debian with systemd, made once, and copies of it as a disk.

# The Debian that the programs were built on: their libraries are those of its packages.
rootfs_suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")

rootfs_kernel() { # the suite's own
	case $rootfs_suite in
	bookworm) echo 6.1 ;;
	trixie) echo 6.12 ;;
	*) return 1 ;;
	esac
}

# The packages of the shared libraries that programs are linked with.
rootfs_libraries() { # PROGRAM...
	ldd "$@" | sed -n 's#^.*=> /.*/\([^/ ]*\) (0x.*#*/\1#p' | sort -u | xargs dpkg-query -S |
		sed -n 's#^\([^:, ]*\).*: .*linux-gnu/[^/]*$#\1#p' | sort -u
}

# 0: DIR is that system; else a sentence in rootfs_why, 1: it can't be had here, 2: it should have been.
rootfs_make() { # DIR PACKAGES...
	local dir=$1 wanted
	shift
	wanted="$rootfs_suite $vm_mirror $*"
	rootfs_why=
	[ "$(cat "$dir.of" 2>/dev/null)" != "$wanted" ] || [ -n "$(find "$dir.of" -mtime +30)" ] || return 0
	rm -rf "$dir" "$dir.of"
	mkdir -p "$dir"
	if ! mmdebstrap --quiet --mode=root --variant=essential --architectures=amd64 --include="$(echo "$*" | tr ' ' ,)" \
		--aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "2"' --aptopt='Acquire::http::Timeout "20"' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		"$rootfs_suite" "$dir" "deb $vm_mirror/debian $rootfs_suite main" >"$dir.log" 2>&1; then
		tail -n 20 "$dir.log"
		rm -rf "$dir"
		rootfs_why="cannot make a $rootfs_suite root: $(grep -m1 -E '^(E|Err)' "$dir.log")"
		! grep -qE 'Failed to fetch|Could not (resolve|connect)|Temporary failure' "$dir.log" || return 1
		return 2
	fi
	echo "$wanted" >"$dir.of"
}

rootfs_image() { # ROOT IMAGE
	truncate -s 1G "$2"
	mke2fs -q -t ext4 -E lazy_itable_init=1 -d "$1" "$2"
}
