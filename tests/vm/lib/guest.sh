# SPDX-License-Identifier: Apache-2.0
# Run inside the machine: the governor's place on pure cgroup2, then the daemon with every plugin on this kernel.
set -u
failed=0
. /test/events.sh

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
field() { # NAME: of the last JSON line in /tmp/answers
	tail -n 1 /tmp/answers | sed -n "s/.*\"$1\": \"\{0,1\}\([^,\"}]*\).*/\1/p"
}

# One governor_probe at a time, asked through a pipe.
probe_start() {
	rm -f /tmp/ask /tmp/answers
	mkfifo /tmp/ask
	governor_probe </tmp/ask >/tmp/answers &
	probe=$!
	exec 3>/tmp/ask
}
ask() {
	n=$(wc -l </tmp/answers)
	echo "$*" >&3
	i=0
	while [ "$(wc -l </tmp/answers)" -eq "$n" ] && [ $i -lt 200 ]; do
		usleep 20000
		i=$((i + 1))
	done
}
probe_end() {
	exec 3>&-
	wait $probe
}
group() {
	sed -n 's/^0:://p' /proc/$probe/cgroup
}

governor_root() {
	probe_start
	ask enter rs
	check "root of cgroup2: a leaf of our own" equal "$(group)" "/rs-$probe"
	ask limits 500 104857600
	check "cpu.max" equal "$(cat /sys/fs/cgroup/rs-$probe/cpu.max)" "50000 100000"
	check "memory.max" equal "$(cat /sys/fs/cgroup/rs-$probe/memory.max)" 171966464
	ask take 0
	start=$(field at)
	ask udp 9 1000 1000
	sleep 1.2
	ask take 0
	# The rate times the time. It is told in whole bytes per second: one more or less for each second.
	check "1000 datagrams of 1000 bytes" equal "$(awk -v r="$(field tx)" -v t0="$start" -v t1="$(field at)" 'BEGIN {
		t = (t1 - t0) / 1e9; b = r * t; d = b - 1028000
		if (d < 0) d = -d
		printf "%.0f", d <= 1 + t ? 1028000 : b}')" 1028000
	# So that the counter's bytes and the kernel's quota are seen on the same kernel.
	ask burn 1000
	ask take 0
	check "quota holds every thread" [ "$(field held)" -gt 3 ]
	ask leave
	check "back in the root" equal "$(group)" /
	check "nothing left behind" [ ! -d /sys/fs/cgroup/rs-$probe ]
	probe_end
}

# A unit of systemd's: without delegation nothing in the tree is changed, with it we live in a leaf below.
governor_unit() {
	mkdir -p /run/systemd/system /sys/fs/cgroup/system.slice/x.service
	echo +cpu >/sys/fs/cgroup/cgroup.subtree_control
	echo +memory >/sys/fs/cgroup/cgroup.subtree_control
	echo +cpu >/sys/fs/cgroup/system.slice/cgroup.subtree_control
	echo +memory >/sys/fs/cgroup/system.slice/cgroup.subtree_control
	unit=/sys/fs/cgroup/system.slice/x.service

	probe_start
	echo $probe >$unit/cgroup.procs
	before=$(find /sys/fs/cgroup | sort)
	ask enter rs
	check "undelegated unit: stays where it is" equal "$(group)" /system.slice/x.service
	check "undelegated unit: tree as before" equal "$(find /sys/fs/cgroup | sort)" "$before"
	check "undelegated unit: type is domain" equal "$(cat $unit/cgroup.type)" domain
	ask take 0
	check "undelegated unit: memory is the unit's" equal "$(field mem_is_rss)" 0
	ask leave
	probe_end

	probe_start
	echo $probe >$unit/cgroup.procs
	ask delegate $unit
	ask enter rs
	check "delegated unit: leaf" equal "$(group)" "/system.slice/x.service/rs-$probe"
	check "delegated unit: controllers" equal "$(cat $unit/cgroup.subtree_control)" "cpu memory"
	ask limits 250 104857600
	check "delegated unit: cpu.max" equal "$(cat $unit/rs-$probe/cpu.max)" "25000 100000"
	probe_end
	rmdir /run/systemd/system
}

cli() { # never a terminal: no progress, no colours
	ringside --socket /tmp/s "$@" 2>/tmp/cli.err | cat
}

daemon_rows() {
	ringsided --config /dev/null --state-dir /tmp/state --socket /tmp/s --log-level debug >/tmp/log 2>&1 &
	daemon=$!
	i=0
	while [ ! -S /tmp/s ] && [ $i -lt 100 ]; do
		usleep 100000
		i=$((i + 1))
	done
	check "the daemon answers" ringside --socket /tmp/s version
	cli doctor
	plugins=$(cli -o tsv plugin list | tail -n +2 | cut -f1)
	for p in $plugins; do
		case $p in
		netflow) cli plugin enable netflow interval=1s loopback=true ;;
		malloc) cli plugin enable malloc pids=4194304 interval=1s duty_cycle=1 ;; # nobody yet
		*) cli plugin enable "$p" ;;
		esac
		cat /tmp/cli.err
	done
	cli -o tsv sql "SELECT name, state FROM plugins" | tail -n +2 >/tmp/states
	for p in $plugins; do
		check "plugin $p runs" equal "$(sed -n "s/^$p	//p" /tmp/states)" running
	done
	exchange tcp 127.0.0.1 21001
	exchange tcp ::1 21002
	datagrams connected 127.0.0.1 21003
	datagrams unconnected ::1 21004
	pings
	associations 21005
	allocations
	signals
	binds
	connections
	waits_for_cpu
	files
	programs
	queries
	handshakes
	shells
	cli -o tsv sql "SELECT name, state, hook, reason FROM plugins"
	kill $daemon
	wait $daemon
	check "the daemon ends in order" equal $? 0
	if [ $failed -ne 0 ]; then
		# The serial line is slow.
		tail -c 100000 /tmp/log
	fi
}

# 97 connections, 1000 + i*3 bytes up, 2000 + i*3 down.
exchange() { # KIND ADDRESS PORT
	tcpload server plain "$2" "$3" 97 1000 2000 3 >/tmp/server &
	server=$!
	until grep -q ready /tmp/server; do usleep 50000; done
	tcpload client plain "$2" "$3" 97 1000 2000 3 >/tmp/client
	client=$(sed -n 's/^owner //p' /tmp/client)
	wait $server
	sum=$((3 * 96 * 97 / 2))
	up=$((97 * 1000 + sum)) down=$((97 * 2000 + sum))
	want="incoming 97 97 $down $up outgoing 97 97 $up $down "
	rows= i=0
	# The emulated machine is slow, and slower still on a busy host.
	while [ "$rows" != "$want" ] && [ $i -lt 20 ]; do
		sleep 1
		i=$((i + 1))
		rows=$(cli -o tsv sql "SELECT direction, sum(tcp_established), sum(tcp_closed), sum(bytes_written),
			sum(bytes_read) FROM netflow WHERE src_port = $3 OR dst_port = $3 GROUP BY 1 ORDER BY 1" |
			tail -n +2 | tr '\t\n' '  ')
	done
	if ! check "$1 to $2: counts and bytes" equal "$rows" "$want"; then
		cat /tmp/cli.err
		cli -o tsv sql "SELECT * FROM loss"
		cli -o tsv sql "SELECT * FROM connections"
		cli -o tsv sql "SELECT * FROM netflow WHERE src_port = $3 OR dst_port = $3"
	fi
	owners=$(cli -o tsv sql "SELECT DISTINCT pid FROM netflow WHERE dst_port = $3 AND direction = 'outgoing'" | tail -n +2)
	check "$1 to $2: owner" equal "$owners" "$client"
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

# 31 exchanges: 100 + i bytes there, twice as many back.
datagrams() { # MODE ADDRESS PORT
	udpload server plain "$2" "$3" 31 100 >/tmp/server &
	server=$!
	until grep -q ready /tmp/server; do usleep 50000; done
	udpload client "$1" "$2" "$3" 31 100 >/tmp/client
	wait $server
	from=$(sed -n 's/^owner //p' /tmp/client) to=$(sed -n 's/^owner //p' /tmp/server)
	up=$((31 * 100 + 31 * 30 / 2))
	rows_become "udp to $2, $1: owners, bytes and datagrams" "incoming $to $((2 * up)) $up 31 31 outgoing $from $up $((2 * up)) 31 31 " \
		"SELECT direction, pid, sum(bytes_written), sum(bytes_read), sum(packets_written), sum(packets_read) FROM netflow
		WHERE transport = 'udp' AND ((src_port = $3 AND direction = 'incoming') OR (dst_port = $3 AND direction = 'outgoing'))
		GROUP BY 1, 2 ORDER BY 1"
}

# 31 echoes through a ping socket and 31 packets of a protocol of our own.
pings() {
	echo "0 0" >/proc/sys/net/ipv4/ping_group_range
	scenarios ping client 127.0.0.1 0 >/tmp/client
	set -- $(sed -n 's/^truth //p' /tmp/client)
	rows_become "icmp: owner, bytes and packets" "$(sed -n 's/^owner //p' /tmp/client) $1 $2 $3 $4 " "SELECT pid, sum(bytes_written),
		sum(bytes_read), sum(packets_written), sum(packets_read) FROM netflow WHERE transport = 'icmp' GROUP BY 1"
	scenarios raw server 127.0.0.1 0 >/tmp/server &
	server=$!
	until grep -q ready /tmp/server; do usleep 50000; done
	scenarios raw client 127.0.0.1 0 >/tmp/client
	wait $server
	set -- $(sed -n 's/^truth //p' /tmp/client)
	# Two sockets of that protocol on one host: the sender's reads its own packets too.
	rows_become "raw: owners, bytes and packets" "$(sed -n 's/^owner //p' /tmp/client) $1 $3 $(sed -n 's/^owner //p' /tmp/server) 0 0 " \
		"SELECT pid, sum(bytes_written), sum(packets_written) FROM netflow WHERE transport = 'raw' GROUP BY 1 ORDER BY 2 DESC"
}

# Seven associations: who connected and who accepted; the bytes are those of the chunks, at least the payload.
associations() { # PORT
	if [ ! -d /proc/net/sctp ]; then
		echo "skip sctp: no such module"
		return
	fi
	scenarios sctp server 127.0.0.1 "$1" >/tmp/server &
	server=$!
	until grep -q ready /tmp/server; do usleep 50000; done
	scenarios sctp client 127.0.0.1 "$1" >/tmp/client
	wait $server
	to=$(sed -n '/^owner /{s///p;q}' /tmp/server)
	case $(uname -r) in
	5.10.*) accepted="CASE direction WHEN 'incoming' THEN $to ELSE pid END" ;; # no owner of what was accepted
	*) accepted=pid ;;
	esac
	rows_become "sctp: owners and bytes" "incoming $to 1 1 outgoing $(sed -n '/^owner /{s///p;q}' /tmp/client) 1 1 " \
		"SELECT direction, $accepted, sum(bytes_written) BETWEEN CASE direction WHEN 'incoming' THEN 380261 ELSE 86429 END AND 500000,
		sum(bytes_read) BETWEEN CASE direction WHEN 'incoming' THEN 86429 ELSE 380261 END AND 500000 FROM netflow WHERE transport = 'sctp'
		AND ((src_port = $1 AND direction = 'incoming') OR (dst_port = $1 AND direction = 'outgoing')) GROUP BY 1, 2 ORDER BY 1"
}

# Every function of the allocator 101 times; by single probes on kernels without links of many.
allocations() {
	mkfifo /tmp/go
	mallocload each 101 </tmp/go >/tmp/load &
	load=$!
	exec 4>/tmp/go
	cli plugin set malloc pids=$load
	until grep -q libc.so "/proc/$load/smaps" && [ -s /tmp/load ]; do usleep 50000; done
	i=0
	# Probes make pages of libc's code its own.
	until awk '/^[0-9a-f]+-/ {code = /r-xp.*libc\.so/} /^Private_Dirty/ && code {n += $2} END {exit !n}' "/proc/$load/smaps" ||
		[ $i -ge 100 ]; do
		usleep 100000
		i=$((i + 1))
	done
	sleep 2
	echo x >&4 # two bytes, two rounds
	until [ "$(grep -c done /tmp/load)" -eq 2 ]; do usleep 50000; done
	rows_become "malloc: calls, bytes and failures" "aligned_alloc 202 129280 0 calloc 202 424200 0 free 1414 0 0 malloc 606 22220 202 \
posix_memalign 202 40400000 0 pvalloc 202 3434000 0 realloc 404 15150000 0 realloc(0) 202 0 0 valloc 202 1818000 0 " \
		"SELECT function, sum(count), coalesce(sum(bytes), 0), sum(failed) FROM malloc WHERE pid = $load GROUP BY 1 ORDER BY 1"
	exec 4>&-
	wait $load
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

echo "kernel $(uname -r)"
dmesg -c >/tmp/boot # what it said before is none of ours
check "the kernel's messages can be read" [ -s /tmp/boot ]
governor_root
governor_unit
if [ -x /test/bin/ringsided ]; then
	daemon_rows
fi
kernel_is_silent
exit $failed
