#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A minute under everything at once (tests/lib/soak.py); bench/soak/run is the long one at 20,000 rows/s."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import soak  # noqa: E402

# A debug build, and other tests beside it: a third of the rate, and a sanitizer's memory.
soak.enter()
print(soak.soak(seconds=60, rate=7000, slack_kib=64 << 10))
