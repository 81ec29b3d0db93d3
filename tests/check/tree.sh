#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What every file and plugin must have: SPDX line, purpose, sensible size; a README, a CMake line and a kernel test for each plugin.
set -uo pipefail
cd "$(dirname "$0")/../.."
bad=0
say() {
	echo "$*"
	bad=1
}

while read -r f; do
	case "$f" in
	*.c | *.h | *.cc)
		head -n 1 "$f" | grep -q 'SPDX-License-Identifier:' || say "$f: first line isn't SPDX"
		sed -n 2p "$f" | grep -qE '^(/\*|//) ?.+' || say "$f: second line doesn't say what the file is for"
		n=$(wc -l <"$f")
		[ "$n" -le 560 ] || say "$f: $n lines; files stay under about 500"
		;;
	*.sh | *.py)
		head -n 3 "$f" | grep -q 'SPDX-License-Identifier:' || say "$f: no SPDX line"
		;;
	esac
done < <(git ls-files)

for d in bpf/*/; do
	p=$(basename "$d")
	[ "$p" = lib ] || [ "$p" = decode ] && continue
	[ -f "bpf/$p/README.md" ] || say "plugin $p has no README.md"
	grep -q "^plugin($p)" bpf/CMakeLists.txt || say "plugin $p isn't in bpf/CMakeLists.txt"
	compgen -G "tests/kernel/*$p*" >/dev/null || say "plugin $p has no kernel test"
done
out=$(git grep -nE '\b(TODO|FIXME|XXX|HACK)\b' -- ':!tests/check/tree.sh' ':!LICENSE')
[ -z "$out" ] || say "unfinished: $out"
exit $bad
