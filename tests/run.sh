#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs every test of a build and counts: exit 0 passes, 77 is a skip whose reason is the last line printed, the rest fails.
#   tests/run.sh BUILD_DIR [PATTERN]
# A test that needs longer than 300 s says so in a line "# timeout: SECONDS" of its own.
# Tests of the whole system run on hosts that do other things, too: of kernel, accuracy, e2e, fault and vm, one that fails is
# shown with its log and gets a second try; what passes only then is counted as passed and named "unsteady" at the end, to be
# mended. RINGSIDE_TRIES=1 gives no second one.
set -uo pipefail
cd "$(dirname "$0")/.."
build=$(realpath "$1")
pattern=${2:-}
export RINGSIDE_BUILD=$build
export RINGSIDE_RELEASE=${RINGSIDE_RELEASE:-$PWD/build}
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:abort_on_error=0:exitcode=99}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}
export TSAN_OPTIONS="suppressions=$PWD/tests/lib/tsan.supp:halt_on_error=1:exitcode=98"
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
passed=0 failed=0 skipped=0
skips=() fails=() unsteady=()

run_one() { # NAME COMMAND...
	local name=$1 file=$2 limit rc start log tries=1 try
	[[ $name == *"$pattern"* ]] || return 0
	limit=$(grep -aom1 '^# timeout: [0-9]*' "$file" 2>/dev/null | grep -o '[0-9]*')
	log=$logs/${name//\//_}
	start=$SECONDS
	case $name in kernel/* | accuracy/* | e2e/* | fault/* | vm/*) tries=${RINGSIDE_TRIES:-2} ;; esac
	for ((try = 1; try <= tries; try++)); do
		timeout --kill-after=10 "${limit:-300}" "$file" >"$log" 2>&1 </dev/null
		rc=$?
		case $rc in 0 | 77) break ;; esac
		[ $try -lt "$tries" ] || break
		echo "again $name (exit $rc)"
		tail -n 60 "$log" | sed 's/^/      | /'
	done
	[ $rc -ne 0 ] || [ $try -eq 1 ] || unsteady+=("$name")
	case $rc in
	0)
		passed=$((passed + 1))
		echo "ok    $name ($((SECONDS - start)) s)"
		;;
	77)
		skipped=$((skipped + 1))
		skips+=("$name: $(tail -n 1 "$log")")
		echo "skip  $name: $(tail -n 1 "$log")"
		;;
	*)
		failed=$((failed + 1))
		fails+=("$name")
		[ $rc -ne 124 ] || echo "(ended after ${limit:-300} s)" >>"$log"
		echo "FAIL  $name (exit $rc, $((SECONDS - start)) s)"
		tail -n 60 "$log" | sed 's/^/      | /'
		;;
	esac
}

for t in "$build"/tests/test_*; do
	[ -x "$t" ] && run_one "unit/$(basename "$t" | sed s/^test_//)" "$t"
done
if [ -d build-tsan/tests ] && [ -z "$pattern" ]; then
	for t in build-tsan/tests/test_*; do
		[ -x "$t" ] && run_one "tsan/$(basename "$t" | sed s/^test_//)" "$t"
	done
fi
for kind in check kernel accuracy e2e fault fuzz vm; do
	for t in tests/$kind/*; do
		[ -f "$t" ] && [ -x "$t" ] && run_one "$kind/$(basename "${t%.*}")" "$t"
	done
done

echo
for s in ${skips[@]+"${skips[@]}"}; do echo "skipped $s"; done
for u in ${unsteady[@]+"${unsteady[@]}"}; do echo "unsteady $u: failed, then passed"; done
for f in ${fails[@]+"${fails[@]}"}; do echo "failed $f"; done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ] && [ $((passed + skipped)) -gt 0 ]
