# SPDX-License-Identifier: Apache-2.0
# Sourced inside a machine: assertions, and the daemon asked by its command line, at $socket if that is set.
failed=0

check() { # WHAT COMMAND...
	what=$1
	shift
	if "$@"; then
		echo "ok   $what"
	else
		echo "FAIL $what"
		failed=1
		return 1
	fi
}
equal() {
	[ "$1" = "$2" ] || { echo "     got '$1', want '$2'"; return 1; }
}
cli() { # never a terminal: no progress, no colours
	ringside ${socket:+--socket "$socket"} "$@" 2>/tmp/cli.err | cat
}

# Repeats a statement until it gives what is wanted; its rows on one line.
rows_become() { # WHAT WANT SQL [TABLE to show if it doesn't]
	rows= n=0
	while [ "$rows" != "$2" ] && [ $n -lt 30 ]; do
		usleep 300000
		n=$((n + 1))
		rows=$(cli -o tsv sql "$3" | tail -n +2 | tr '\t\n' '  ')
	done
	if ! check "$1" equal "$rows" "$2"; then
		cat /tmp/cli.err
		cli -o tsv sql "SELECT * FROM loss"
		cli -o tsv sql "SELECT * FROM ${4:-netflow WHERE transport <> 'tcp'} LIMIT 100"
	fi
}

# What the kernel complains of is a fault, whoever's: none of it is let pass.
kernel_is_silent() {
	dmesg >/tmp/dmesg
	# A stall of the whole machine is the emulator's or its host's.
	complaints=$(grep -E 'WARNING: |BUG: |Oops|general protection|kernel BUG|Unable to handle|refcount_t|blocked for more than' /tmp/dmesg |
		grep -v 'soft lockup')
	if ! check "the kernel doesn't complain" equal "$complaints" ""; then
		tail -n 100 /tmp/dmesg
	fi
}

