#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The plugin host with plugins made to fail, flood and end in every way; see host_test.c.
exec "$RINGSIDE_BUILD/tests/host_test"
