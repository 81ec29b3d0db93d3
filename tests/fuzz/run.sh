#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
# Builds every libFuzzer target with clang and runs each for RINGSIDE_FUZZ_SECONDS (default 10) from the kept corpus.
set -uo pipefail
cd "$(dirname "$0")/../.."
seconds=${RINGSIDE_FUZZ_SECONDS:-10}
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
bad=0
for source in tests/fuzz/targets/fuzz_*.c; do
	name=$(basename "$source" .c)
	mkdir -p "$work/$name"
	if ! "build-fuzz/tests/$name" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 \
		-artifact_prefix="$work/$name-" "$work/$name" "tests/fuzz/corpus/${name#fuzz_}" >"$work/log" 2>&1; then
		tail -n 40 "$work/log"
		for crash in "$work/$name-"*; do
			[ -f "$crash" ] && echo "$name: input that failed, base64: $(base64 -w0 "$crash")"
		done
		bad=1
	fi
	grep -a 'number_of_executed_units' "$work/log" | sed "s/^/$name /"
done
exit $bad
