#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# docs/tables.md is what the field tables say.
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! diff -u docs/tables.md <("$RINGSIDE_BUILD/bin/ringsided" --dump-tables-markdown); then
	echo "docs/tables.md is not current: ringsided --dump-tables-markdown >docs/tables.md"
	exit 1
fi
