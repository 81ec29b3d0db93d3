# SPDX-License-Identifier: Apache-2.0
# Sourced: kernels of Debian's suites, downloaded and unpacked once into a cache outside the tree.

vm_cache=${XDG_CACHE_HOME:-$HOME/.cache}/ringside-vm
# The mirror that this host has its own packages from, unless told otherwise.
vm_mirror=${RINGSIDE_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | sed -n 's#/debian/*$##p' | head -n 1)}

# KERNEL -> suite line. The last one moves with backports.
vm_suite() {
	case $1 in
	5.10) echo "$vm_mirror/debian-security bullseye-security main" ;;
	6.1) echo "$vm_mirror/debian bookworm main" ;;
	6.12) echo "$vm_mirror/debian trixie main" ;;
	newest) echo "$vm_mirror/debian trixie-backports main" ;;
	*) return 1 ;;
	esac
}

# An apt of our own: the host's lists, sources and cache stay as they are.
vm_apt() { # KERNEL COMMAND...
	local dir=$vm_cache/$1/apt command=$2
	shift 2
	"$command" -q -o Dir::State="$dir" -o Dir::State::Lists="$dir/lists" -o Dir::State::status=/dev/null \
		-o Dir::Cache="$dir/cache" -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts="$dir/none" \
		-o Dir::Etc::preferencesparts="$dir/none" -o APT::Architecture=amd64 -o APT::Architectures=amd64 \
		-o Acquire::Languages=none -o Acquire::Retries=2 -o Acquire::http::Timeout=20 \
		-o Debug::NoLocking=1 -o APT::Sandbox::User=root "$@"
}

vm_depends() { # KERNEL PACKAGE WORDS: what it depends on among linux-WORDS-VERSION
	vm_apt "$1" apt-cache show --no-all-versions "$2" | sed -n 's/^\(Pre-\)\?Depends: //p' | tr ',|' '\n\n' |
		sed -n "s/^ *\(linux-\($3\)-[0-9][^ ]*\).*/\1/p" | sort -u
}

# The package with the vmlinuz and those with what belongs to it, by following the meta package of the suite.
vm_packages() { # KERNEL
	local image
	image=$(vm_depends "$1" linux-image-cloud-amd64 image | head -1)
	[ -n "$image" ] || return 1
	echo "$image"
	# Newer kernels come in parts.
	vm_depends "$1" "$image" 'binary\|modules\|base'
}

# Makes sure of vmlinuz and modules in the cache; fails with a sentence in vm_why.
vm_fetch() { # KERNEL
	local kernel=$1 dir=$vm_cache/$1 lists packages image
	vm_why=
	if [ ! -e "$dir/ready" ] || [ -n "$(find "$dir/ready" -mtime +30)" ]; then
		mkdir -p "$dir/apt/none" "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial"
		echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(vm_suite "$kernel")" >"$dir/apt/sources.list"
		if ! vm_apt "$kernel" apt-get -o APT::Update::Error-Mode=any update >"$dir/log" 2>&1; then
			# An old kernel at hand is better than none.
			[ -e "$dir/ready" ] && return 0
			vm_why="$(vm_suite "$kernel") can't be read: $(grep -m1 -E '^(E|W|Err)' "$dir/log")"
			return 1
		fi
		if ! packages=$(vm_packages "$kernel"); then
			vm_why="$(vm_suite "$kernel") has no linux-image-cloud-amd64"
			return 1
		fi
		if [ "$(cat "$dir/ready" 2>/dev/null)" != "$packages" ]; then
			rm -rf "$dir/x" "$dir/deb" "$dir/base.cpio" "$dir/ready"
			mkdir -p "$dir/x" "$dir/deb"
			# shellcheck disable=SC2086
			if ! (cd "$dir/deb" && vm_apt "$kernel" apt-get download $packages >>"$dir/log" 2>&1); then
				vm_why="cannot download $(echo $packages): $(tail -n 1 "$dir/log")"
				return 1
			fi
			for deb in "$dir"/deb/*.deb; do
				dpkg-deb -x "$deb" "$dir/x"
			done
			rm -rf "$dir/deb"
		fi
		echo "$packages" >"$dir/ready"
	fi
}

vm_image() { # KERNEL
	find "$vm_cache/$1/x" \( -path '*/boot/vmlinuz-*' -o -path '*/lib/modules/*/vmlinuz' \) -type f | head -1
}

vm_release() { # KERNEL
	find "$vm_cache/$1/x" -type d -path '*/lib/modules/*' -prune -printf '%f\n' | head -1
}
