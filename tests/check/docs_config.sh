#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# docs/config.md is what the daemon's option tables say, and the sample file is one that the daemon takes.
set -euo pipefail
cd "$(dirname "$0")/../.."
daemon=$RINGSIDE_BUILD/bin/ringsided

if ! diff -u docs/config.md <("$daemon" --dump-options-markdown); then
	echo "docs/config.md is not current: ringsided --dump-options-markdown >docs/config.md"
	exit 1
fi

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"$daemon" --dump-options-toml >"$dir/as-is.toml"
"$daemon" --config "$dir/as-is.toml" --check-config
# Every commented line is a value that its option takes; unset ones ("") stay commented out.
sed -E 's/^#([a-z_]+ = )/\1/; /^[a-z_]+ = ""$/d' "$dir/as-is.toml" | awk '/^enabled_plugins = /{ if (seen++) next } 1' >"$dir/all.toml"
"$daemon" --config "$dir/all.toml" --check-config
grep -q '^max_bytes = "1GiB"$' "$dir/all.toml"
