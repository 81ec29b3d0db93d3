#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who may include whom, as docs/architecture.md says; and gRPC headers only in api/rpc* and api/client*.
set -uo pipefail
cd "$(dirname "$0")/../.."
bad=0

# may FOLDER REGEX: the files of FOLDER may include only folders that match REGEX.
may() {
	local out
	out=$(grep -rnE '^#include "[a-z]' --include='*.c' --include='*.h' --include='*.cc' "$1" |
		grep -vE "#include \"($2)" | grep -vE '#include "(bpf/)?[a-z0-9_-]+\.(skel|pb-c)\.h"|#include "(ringside/v1|grpc|google)/')
	if [ -n "$out" ]; then
		printf '%s may include only %s:\n%s\n' "$1" "$2" "$out"
		bad=1
	fi
}

may base 'base/'
may bpf 'base/|bpf/'
may store 'base/|bpf/(table|batch)\.h|store/'
may governor 'base/|governor/'
may api 'base/|bpf/(table|batch)\.h|api/'
# The command line reads and writes files of rows by itself.
may clients 'base/|bpf/(table|batch)\.h|store/(query|snapshot)\.h|api/client\.h|clients/'

out=$(grep -rnE '#include <grpc' --include='*.c' --include='*.h' . | grep -vE '^\./(api/(rpc|client)|build|bench/)')
[ -z "$out" ] || { printf 'gRPC headers outside api/rpc* and api/client*:\n%s\n' "$out"; bad=1; }

out=$(grep -rnE '\b(system|popen|dlopen|strcpy|strcat|sprintf|gets)\(' --include='*.c' --include='*.h' \
	base bpf store governor api daemon clients | grep -vE '^[^:]*:[0-9]+:[[:space:]]*(\*|/\*|//)')
[ -z "$out" ] || { printf 'calls that have no place here:\n%s\n' "$out"; bad=1; }
exit $bad
