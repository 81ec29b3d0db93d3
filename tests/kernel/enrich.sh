#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Names of processes, users and containers from live ones; see enrich_test.c.
exec "$RINGSIDE_BUILD/tests/enrich_test"
