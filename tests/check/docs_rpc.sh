#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# docs/rpc.md is what the protos and their comments say.
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! /usr/bin/python3 -c 'import google.protobuf' 2>/dev/null; then
	echo "python3-protobuf is not installed"
	exit 77
fi
if ! diff -u docs/rpc.md <(script/gen-docs-rpc); then
	echo "docs/rpc.md is not current: script/gen-docs-rpc >docs/rpc.md"
	exit 1
fi
