# SPDX-License-Identifier: Apache-2.0
# Sourced inside a machine: a small known number of events of each kind, and the exact rows that must come of them.

# Runs a load to its end: its process is $pid, what it said is in /tmp/load.
load() {
	"$@" >/tmp/load 2>/tmp/load.err &
	pid=$!
	if ! wait $pid; then
		check "$*" false
		cat /tmp/load.err
	fi
}
said() { # NAME: the last number that the load said of it
	sed -n "s/^$1 //p" /tmp/load | tail -n 1
}
sum() { # NAME: of all that it said
	awk -v name="$1" '$1 == name {n += $2} END {printf "%.0f", n}' /tmp/load
}

# Enables them all.
every_plugin() {
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
		state=running
		case $p-$(uname -r) in
		vfs-5.10.*) state=degraded ;; # its BTF doesn't have what requests of io_uring are made of
		esac
		check "plugin $p runs" equal "$(sed -n "s/^$p	//p" /tmp/states)" $state
	done
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

signals() {
	load signalload 31
	self=$(said self) child=$(said child) thread=$(said thread)
	rows_become "signal: who to whom, and what became of it" "SIGHUP $self $child already_pending 30 SIGHUP $self $child delivered 1 \
SIGKILL $self $child delivered 1 SIGRTMIN $self $child delivered 31 SIGUSR1 $self $self delivered 31 \
SIGUSR1 $thread $thread delivered 31 SIGUSR2 $self $child ignored 31 " \
		"SELECT name, tid, ttid, result, count(*) FROM signal WHERE pid = $self AND name NOT IN ('SIGALRM', 'SIGCHLD') GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
}

binds() {
	load bindload tcp 31 /tmp
	tcp=$pid want="inet - 127.0.0.1 $(sum port) - 31 "
	load bindload udp6 31 /tmp
	udp=$pid want="$want""inet6 - ::1 $(sum port) - 31 "
	load bindload abstract 31 /tmp
	unix=$pid want="$want""unix - - 0 @rs-bind-9 31 "
	load bindload foreign 31 /tmp
	want="$want""inet EADDRNOTAVAIL 192.0.2.1 $((31 * 10000 + 15 * 31)) - 31 "
	rows_become "bind: addresses, ports, names, and a call that fails" "$want" "SELECT family, coalesce(error, '-'), coalesce(addr, '-'),
		coalesce(sum(port), 0), coalesce(max(path), '-'), count(*) FROM bind WHERE pid IN ($tcp, $udp, $unix, $pid) GROUP BY pid, 1, 2, 3 ORDER BY pid" bind
}

connections() {
	load connload v4 31 /tmp
	v4=$pid want="accept - $(($(said port) * 31)) $(sum local) 31 connect - $(sum local) $(($(said port) * 31)) 31 listen - $(said port) 0 1 "
	load connload v6 31 /tmp
	v6=$pid want="$want""accept - $(($(said port) * 31)) $(sum local) 31 connect - $(sum local) $(($(said port) * 31)) 31 listen - $(said port) 0 1 "
	load connload nonblock_refused 31 /tmp
	rows_become "tcp: both ends, and connections that are refused" "$want""connect EINPROGRESS 31 connect_failed ECONNREFUSED 31 " \
		"SELECT event, coalesce(error, '-'), CASE pid WHEN $pid THEN count(*) ELSE sum(local_port) || ' ' || coalesce(sum(remote_port), sum(peer_port), 0)
		|| ' ' || count(*) END FROM tcp WHERE pid IN ($v4, $v6, $pid) GROUP BY pid, 1, 2 ORDER BY pid, 1" tcp
}

# The load's real-time threads have the only CPU in turns, five milliseconds each.
waits_for_cpu() {
	cli plugin set sched threshold=2ms
	cat /tmp/cli.err
	load schedload 0 31 5000
	rows_become "sched: who waited for whom" "$(sched_tid woken low) 31 $(sched_tid preempted low) 31 " "SELECT tid, count(*) FROM sched
		WHERE pid = $pid AND prev_pid = $pid AND runq_latency_ns >= 3500000 AND (
			(tid = $(sched_tid woken low) AND prev_tid = $(sched_tid woken high) AND wakeup_tracked) OR
			(tid = $(sched_tid preempted low) AND prev_tid = $(sched_tid preempted high) AND NOT wakeup_tracked))
		GROUP BY 1 ORDER BY 1" "sched WHERE pid = $pid"
}
sched_tid() { # PART NAME: a thread of that part of the load
	awk -v part="$1" -v name="$2" '$1 == "woken" || $1 == "preempted" {now = $1} now == part && $1 == name {print $2}' /tmp/load
}

files() {
	mkdir /tmp/vfs
	load vfsload kinds /tmp/vfs 7
	missing=$(grep -c fchmodat2 /tmp/load)
	rows_become "vfs: what was done to files" "chmod $((7 * (4 - missing))) chown 28 create 28 link 14 mkdir 28 mknod 14 open 28 rename 21 rmdir 14 \
symlink 14 truncate 14 unlink 14 " \
		"SELECT operation, count(*) FROM vfs WHERE pid = $pid AND error IS NULL AND path GLOB '/tmp/vfs/*' GROUP BY 1 ORDER BY 1"
	rows_become "vfs: paths" "/tmp/vfs/c-0 /tmp/vfs/renamed-0 /tmp/vfs/c-6 /tmp/vfs/renamed-6 7 " \
		"SELECT min(path), min(new_path), max(path), max(new_path), count(*) FROM vfs WHERE pid = $pid AND syscall = 'rename'"
	mkdir /tmp/vfs32
	load vfs32load /tmp/vfs32 7
	rows_become "vfs: calls of 32-bit programs" "chmod 7 chown 14 create 7 link 7 mkdir 7 open 21 rename 7 rmdir 7 symlink 7 truncate 14 unlink 7 " \
		"SELECT operation, count(*) FROM vfs WHERE pid = $pid AND path GLOB '/tmp/vfs32/*' GROUP BY 1 ORDER BY 1"
	requests
}

# The same by io_uring: every request once, and its result, wherever the kernel has what that needs.
requests() {
	case $(uname -r) in
	5.10.*) return ;;
	esac
	mkdir /tmp/vfsuring /tmp/vfsdirect /tmp/vfssilent
	load vfsuringload kinds /tmp/vfsuring 7
	truncated=$(grep -q 'missing ftruncate' /tmp/load || echo "truncate 7 ")
	rows_become "vfs: requests by io_uring" "create 14 link 7 mkdir 7 open 14 rename 7 rmdir 7 symlink 7 ${truncated}unlink 7 " \
		"SELECT operation, count(*) FROM vfs WHERE pid = $pid AND via = 'io_uring' AND error_raw = 0 AND path GLOB '/tmp/vfsuring/*' GROUP BY 1 ORDER BY 1"
	rows_become "vfs: their paths" "/tmp/vfsuring/n-0 /tmp/vfsuring/moved-0 /tmp/vfsuring/n-6 /tmp/vfsuring/moved-6 7 " \
		"SELECT min(path), min(new_path), max(path), max(new_path), count(*) FROM vfs WHERE pid = $pid AND operation = 'rename'"
	load vfsuringload direct /tmp/vfsdirect 7
	rows_become "vfs: files without a descriptor" "create /tmp/vfsdirect/d-0 /tmp/vfsdirect/d-6 7 open /tmp/vfsdirect/d-0 /tmp/vfsdirect/d-6 7 " \
		"SELECT operation, min(path), max(path), count(*) FROM vfs WHERE pid = $pid AND via = 'io_uring' AND syscall = 'openat' AND file_type = 'regular' GROUP BY 1"
	load vfsuringload silent /tmp/vfssilent 7
	rows_become "vfs: results that nobody is told" "open ENOENT 7 unlink - 7 " "SELECT operation, CASE WHEN error_raw IS NULL THEN '-' ELSE error END, count(*)
		FROM vfs WHERE pid = $pid AND via = 'io_uring' GROUP BY 1, 2 ORDER BY 1"
	load vfsuringload lent /tmp/vfssilent 7
	rows_become "vfs: rights that were lent" "12345 7 " "SELECT uid, count(*) FROM vfs WHERE pid = $pid AND via = 'io_uring' GROUP BY 1"
}

programs() {
	program=$(readlink -f /bin/true) # busybox is many programs
	sum=$(sha256sum "$program" | cut -d ' ' -f 1)
	cli plugin set exec failed=true sha256=true
	cat /tmp/cli.err
	load execload posix_spawn /bin/true 31
	rows_become "exec: programs that start" "$program /bin/true 3 execload $sum 31 31 " \
		"SELECT exe, filename, argc, parent, sha256, count(DISTINCT argv), count(*) FROM exec WHERE ppid = $pid AND error IS NULL GROUP BY 1, 2, 3, 4, 5"
	rows_become "exec: processes that end" "true 0 31 " "SELECT comm, status, count(*) FROM exit WHERE ppid = $pid GROUP BY 1, 2"
	want="" pids=""
	for way in failed_execve failed_execveat failed_thread; do
		load execload $way /tmp/no-program 31
		want="$want$pid ENOENT 3 31 31 " pids="$pids$pid, "
	done
	rows_become "exec: calls that fail" "$want" "SELECT pid, error, argc, count(DISTINCT argv), count(*) FROM exec
		WHERE pid IN ($pids 0) AND error IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 1" exec
	cli plugin set exec failed=false sha256=false
}

# Queries that are answered with NXDOMAIN, at both ends.
queries() {
	want="" pids=""
	for address in 127.0.0.1 ::1; do
		dnsload serve $address 53 31 0 0 - >/tmp/server &
		server=$!
		until grep -q ready /tmp/server; do usleep 50000; done
		load dnsload connected $address 53 31 1 0 rs-%d.test
		wait $server
		want="$want""incoming $server 3 31 31 outgoing $pid 3 31 31 " pids="$pids$server, $pid, "
	done
	rows_become "dnsflow: both ends" "$want" "SELECT direction, pid, rcode, count(DISTINCT query_name), sum(count) FROM dnsflow
		WHERE pid IN ($pids 0) GROUP BY 1, 2, 3 ORDER BY 2" dnsflow
}

# Three handshakes between two programs, with the names of servers in their hellos.
handshakes() {
	cli plugin set openssl transfers=true
	cat /tmp/cli.err
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=rs -days 2 -keyout /tmp/key -out /tmp/cert 2>/tmp/load.err ||
		cat /tmp/load.err
	mkfifo /tmp/hold
	exec 6<>/tmp/hold # it ends when its input does
	openssl s_server -accept 127.0.0.1:21010 -naccept 3 -key /tmp/key -cert /tmp/cert >/tmp/server 2>&1 <&6 &
	server=$!
	until grep -q ACCEPT /tmp/server; do usleep 50000; done
	for i in 1 2 3; do
		openssl s_client -connect 127.0.0.1:21010 -servername rs-$i.test </dev/null >/tmp/load 2>&1
	done
	wait $server
	exec 6<&-
	rows_become "sni: names of servers" "rs-1.test rs-3.test 3 3 " \
		"SELECT min(server_name), max(server_name), count(DISTINCT pid), count(*) FROM tls_hello WHERE dst_port = 21010"
	# The client of openssl leaves its handshake to its first write, of nothing; whether it is over then is only known by
	# the file that the probe is in, which old kernels don't tell.
	case $(uname -r) in
	5.10.* | 6.1.*) client=unknown ;;
	*) client=ok ;;
	esac
	rows_become "openssl: handshakes" "client $client 3 server ok 3 " 		"SELECT role, result, count(*) FROM openssl WHERE comm = 'openssl' GROUP BY 1, 2" openssl
}

# Lines that are typed at a terminal.
shells() {
	mkdir -p /dev/pts
	grep -q ' /dev/pts ' /proc/mounts || mount -t devpts devpts /dev/pts
	mkfifo /tmp/keys
	TERM=dumb INPUTRC=/dev/null HISTFILE=/dev/null script -qc "bash --norc --noprofile -i" /dev/null </tmp/keys >/tmp/screen 2>&1 &
	shell=$!
	exec 5>/tmp/keys
	for i in 1 2 3 4 5 6 7; do
		printf 'echo said-$((%d * 3))\n' $i >&5
		n=0
		until grep -q "said-$((i * 3))" /tmp/screen || [ $n -ge 100 ]; do
			usleep 100000
			n=$((n + 1))
		done
	done
	rows_become "bash: lines" "bash 7 7 0 " "SELECT comm, count(DISTINCT cmd), count(*), sum(exit_status) FROM bash WHERE cmd GLOB 'echo said-*' GROUP BY 1"
	echo exit >&5
	exec 5>&-
	wait $shell
}
