#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every program on a uprobe keeps the stack of its task (bpf/lib/uprobe.bpf.h).
set -euo pipefail
cd "$(dirname "$0")/../.."

# A program, or a macro that makes programs, goes from its SEC() to the brace that ends it.
found=$(awk '
	/SEC\("u(ret)?probe(\.multi|\.s)?"\)/ {at = FILENAME ":" FNR; kept = 0; n++}
	at && /uprobe_keep_stack\(/ {kept = 1}
	at && /^\t?\}/ {if (!kept) print at; at = ""}
	END {if (n < 10) print "only " n + 0 " programs on uprobes seen: is this test still right?"}
' bpf/*/*.bpf.c)
[ -z "$found" ] || {
	echo "programs without uprobe_keep_stack():"
	echo "$found"
	exit 1
}
