#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
# Builds every libFuzzer target with clang and runs them, as many at once as there are CPUs, each for RINGSIDE_FUZZ_SECONDS
# (default 10) from the kept corpus; those that decode what strangers send for RINGSIDE_FUZZ_LONG_SECONDS (default 60). What they
# find on the way stays in build-fuzz/corpus for the next run; script/fuzz-keep takes it over into tests/fuzz/corpus.
set -uo pipefail
cd "$(dirname "$0")/../.."
seconds=${RINGSIDE_FUZZ_SECONDS:-10}
long_seconds=${RINGSIDE_FUZZ_LONG_SECONDS:-60}
long=" dns tls_hello "
command -v clang >/dev/null || {
	echo "clang isn't installed"
	exit 77
}
cmake --preset fuzz >/dev/null || exit 1
cmake --build --preset fuzz -j "$(nproc)" --target fuzz_targets >/dev/null || {
	cmake --build --preset fuzz --target fuzz_targets | tail -n 30
	exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fuzz_one() { # NAME
	local name=$1 for=$seconds rc=0
	[[ $long != *" $name "* ]] || for=$long_seconds
	mkdir -p "build-fuzz/corpus/$name"
	"build-fuzz/tests/fuzz_$name" -max_total_time="$for" -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 \
		-artifact_prefix="$work/$name-" "build-fuzz/corpus/$name" "tests/fuzz/corpus/$name" >"$work/$name.log" 2>&1 || rc=1
	# In one go: others print, too.
	{
		if [ $rc -ne 0 ]; then
			tail -n 40 "$work/$name.log"
			for crash in "$work/$name-"*; do
				[ -f "$crash" ] && echo "$name: input that failed, base64: $(base64 -w0 "$crash")"
			done
		fi
		grep -a 'number_of_executed_units' "$work/$name.log" | sed "s/^/$name, $for s: /"
	} >"$work/$name.out"
	cat "$work/$name.out"
	return $rc
}
export -f fuzz_one
export seconds long_seconds long work

# The long ones first, so that the short ones fill up what is left.
for source in tests/fuzz/targets/fuzz_*.c; do
	name=$(basename "$source" .c)
	name=${name#fuzz_}
	case $long in *" $name "*) echo "0 $name" ;; *) echo "1 $name" ;; esac
done | sort | cut -d' ' -f2 | xargs -P "$(nproc)" -I{} bash -c 'fuzz_one {}'
