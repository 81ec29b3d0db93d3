# SPDX-License-Identifier: Apache-2.0
# Run inside the machine whose clock jumps: connections that idle for hours, and some whose peer falls silent meanwhile.
set -u
socket=/tmp/s
. /test/check.sh

pause=7260   # seconds of silence
interval=60  # of netflow
probes=600   # seconds between two keep-alive probes of scenarios.c
death=1275   # the first probe, and nine times 75 s without an answer
late=40      # seconds that the kernel's coarse timers may add to that: 16 to the first, 2 to each of the others
looks=6      # at the connections while they idle
conns=7
probing=4 # every other one, from the first on
dying=3

# The shell prefers busybox's own, which knows no namespaces.
ip() {
	/test/bin/ip "$@"
}
# Nothing that comes after can be right.
give_up() {
	cat /tmp/log /tmp/*.server /tmp/*.client
	exit 1
}

daemon_start() {
	ringsided --config /dev/null --state-dir /tmp/state --socket $socket --log-level info >/tmp/log 2>&1 &
	daemon=$!
	i=0
	until [ -S $socket ] || [ $i -ge 30 ]; do
		sleep 1
		i=$((i + 1))
	done
	check "the daemon answers" ringside --socket $socket version || give_up
}

# a is the clients', b the server's, c that of the server that falls silent.
network() {
	mkdir -p /var
	ln -s /run /var/run
	for ns in a b c; do
		ip netns add $ns || give_up
		ip -n $ns link set lo up
	done
	join a b 10.99.75
	join a c 10.99.76
}
join() { # NAMESPACE NAMESPACE SUBNET
	ip link add "to-$2" netns "$1" type veth peer name "to-$1" netns "$2"
	ip -n "$1" addr add "$3.1/24" dev "to-$2"
	ip -n "$2" addr add "$3.2/24" dev "to-$1"
	ip -n "$1" link set "to-$2" up
	ip -n "$2" link set "to-$1" up
}

# Server and client of one scenario, until they idle.
begin() { # NAME NAMESPACE ADDRESS PORT
	ip netns exec "$2" scenarios "$1" server "$3" "$4" $pause >"/tmp/$1.server" &
	until_said "$1.server" ready
	ip netns exec a scenarios "$1" client "$3" "$4" $pause >"/tmp/$1.client" &
	until_said "$1.client" idle
}
until_said() { # FILE WORD
	n=0
	until grep -qs "^$2" "/tmp/$1" || [ $n -ge 300 ]; do
		sleep 1
		n=$((n + 1))
	done
	check "$1 says $2" grep -q "^$2" "/tmp/$1" || give_up
}
said() { # FILE WORD: all the numbers that it said of it, in order
	sed -n "s/^$2 //p" "/tmp/$1"
}
rows() { # SQL: tab-separated, without names
	cli -o tsv sql "$1" | tail -n +2
}
one_line() {
	tr '\t\n' '  '
}
close_to() { # SLACK: two columns, seconds and milliseconds; the second is at most so many seconds after the first
	awk -v slack="$1" 'NF != 2 || $2 < $1 * 1000 - 1 || $2 > ($1 + slack) * 1000 {print "     " $0; bad = 1} END {exit bad || !NR}'
}
between() { # VALUE LOW HIGH
	awk -v v="$1" -v low="$2" -v high="$3" 'BEGIN {exit !(v >= low && v <= high)}' || { echo "     got '$1', want $2 to $3"; return 1; }
}
uptime() {
	cut -d ' ' -f 1 /proc/uptime
}
memory() {
	sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' /proc/$daemon/status
}

# Both ends of each connection: owner, what they carried before, and since when they are open.
look() { # WHEN
	where="23001 IN (src_port, dst_port) AND state = 'ESTABLISHED'"
	check "$1: owners and bytes" equal "$(rows "SELECT direction, pid, process_name, owner_confidence, count(*), sum(bytes_written), sum(bytes_read)
		FROM connections WHERE $where GROUP BY 1, 2, 3, 4 ORDER BY 1" | one_line)" \
		"incoming $(said hours.server owner) scenarios reader $conns $((conns * 20011)) $((conns * 11347)) \
outgoing $(said hours.client owner) scenarios connect $conns $((conns * 11347)) $((conns * 20011)) "
	for direction in incoming outgoing; do
		rows "SELECT opened_at / 1000000 FROM connections WHERE $where AND direction = '$direction' ORDER BY opened_at" >/tmp/opened
		said hours.client opened >/tmp/opening
		awk 'NR == FNR {t[FNR] = $1; next} {print t[FNR], $1}' /tmp/opening /tmp/opened >/tmp/both
		check "$1: opened when they were ($direction)" close_to 1 </tmp/both
	done
	now=$(memory)
	echo "     at $(uptime) s: $now KiB"
}

idle() {
	sleep $((2 * interval)) # the first rows have been written, with all memory that they need
	look "in the beginning"
	first=$now
	check "the dying are still there" equal "$(rows "SELECT count(*) FROM connections WHERE 23002 IN (src_port, dst_port)
		AND state = 'ESTABLISHED'")" $((2 * dying))
	n=1
	while [ $n -lt $looks ]; do
		sleep $(((pause - 4 * interval) / (looks - 1)))
		look "look $((n + 1))"
		n=$((n + 1))
	done
	check "the daemon's memory stays as it is ($first, then $now KiB)" [ "$now" -le $((first + 1024)) ]
	check "the dead are gone" equal "$(rows "SELECT count(*) FROM connections WHERE 23002 IN (src_port, dst_port)")" 0
}

# Sums of a scenario's rows against what its processes say.
sums() { # NAME PORT CONNECTIONS
	set -- "$@" $(said "$1.client" owner) $(said "$1.server" owner) "$(said "$1.client" truth)" "$(said "$1.server" truth)"
	check "$1: the client says what it did" equal "$(echo "$6" | cut -d ' ' -f 5)" "$3"
	rows_become "$1: counted once, owners, bytes" "incoming $5 scenarios $3 $3 0 $(echo "$7" | cut -d ' ' -f 1-2) \
outgoing $4 scenarios $3 $3 0 $(echo "$6" | cut -d ' ' -f 1-2) " "SELECT direction, pid, process_name, sum(tcp_established), sum(tcp_closed),
		sum(connect_failures), sum(bytes_written), sum(bytes_read) FROM netflow WHERE $2 IN (src_port, dst_port) GROUP BY 1, 2, 3 ORDER BY 1" \
		"netflow WHERE $2 IN (src_port, dst_port)"
}

# A row stands at the end of the interval in which it happened: never later, so no row is of a longer one.
row_times() { # NAME PORT BYTES: intervals in which there were any
	for side in client:outgoing server:incoming; do
		where="$2 IN (src_port, dst_port) AND direction = '${side#*:}'"
		{
			echo "$(said "$1.client" opened | head -n 1) $(rows "SELECT DISTINCT ts / 1000000 FROM netflow WHERE $where AND tcp_established > 0")"
			echo "$(said "$1.${side%:*}" ended | head -n 1) $(rows "SELECT DISTINCT ts / 1000000 FROM netflow WHERE $where AND tcp_closed > 0")"
		} >/tmp/both
		check "$1, ${side%:*}: rows of their interval" close_to $((interval + 1)) </tmp/both
		check "$1, ${side%:*}: bytes when there were any" equal \
			"$(rows "SELECT count(*) FROM netflow WHERE $where AND bytes_read + bytes_written > 0")" "$3"
	done
}

# What the probes left behind: rows in order, of one interval each, and as many packets as there were.
probed() {
	check "rows are in order" equal "$(rows "SELECT count(*) FROM (SELECT ts, lag(ts) OVER () AS before FROM netflow) WHERE ts < before")" 0
	check "hours: intervals" equal "$(rows "SELECT direction, min(gap) >= $interval - 1, max(gap) <= $probes + $late + $interval + 1 FROM (SELECT direction,
		(ts - lag(ts) OVER (PARTITION BY direction ORDER BY ts)) / 1e9 AS gap FROM netflow WHERE 23001 IN (src_port, dst_port))
		WHERE gap IS NOT NULL GROUP BY 1 ORDER BY 1" | one_line)" "incoming 1 1 outgoing 1 1 "
	# A SYN+ACK is sent by no socket yet, and the last ACK of all by none any more.
	check "hours: what one end sent is what the other received" equal "$(rows "SELECT sum(iif(direction = 'incoming', packets_written, -packets_read)),
		sum(iif(direction = 'incoming', packets_read, -packets_written)) FROM netflow WHERE 23001 IN (src_port, dst_port) AND tcp_closed = 0" |
		one_line)" "-$conns 0 "
	packets=$(rows "SELECT sum(packets_written) FROM netflow WHERE 23001 IN (src_port, dst_port) AND bytes_read + bytes_written = 0")
	# Of each pair of ends one probes, and the other answers; both probe when their timers end at once.
	check "hours: probes and answers" between "$packets" $((2 * probing * (pause / (probes + late)))) $((4 * probing * (pause / probes)))
}

echo "kernel $(uname -r)"
dmesg -c >/tmp/boot # what it said before is none of ours
network
daemon_start
cli plugin enable netflow interval=${interval}s
cat /tmp/cli.err
begin hours b 10.99.75.2 23001
begin dying c 10.99.76.2 23002
# From now on nothing comes back from there.
ip -n c route add blackhole 10.99.76.1/32
started=$(uptime)
idle
until_said hours.client truth
until_said hours.server truth
check "hours went by on the kernel's clock" between "$(said hours.client slept)" $pause $((pause + 5))
check "and for the machine" between "$(awk -v a="$started" -v b="$(uptime)" 'BEGIN {print b - a}')" $((pause - interval)) $((pause + 3 * interval))
for side in client server; do
	check "dying: $dying ends at the $side" equal "$(said dying.$side died | wc -l)" $dying
	for at in $(said dying.$side died); do
		check "dying: of keep-alive" between "$at" $((death - 1)) $((death + late))
	done
done
sleep $((interval + 5))
sums hours 23001 $conns
sums dying 23002 $dying
row_times hours 23001 2
row_times dying 23002 1
probed
check "nothing stays open" equal "$(rows "SELECT count(*) FROM connections WHERE 23001 IN (src_port, dst_port) OR 23002 IN (src_port, dst_port)")" 0
check "nothing is lost" equal "$(rows "SELECT count(*) FROM loss")" 0
[ $failed -eq 0 ] || cli -o tsv sql "SELECT * FROM netflow ORDER BY ts"
kill $daemon
wait $daemon
check "the daemon ends in order" equal $? 0
check "it has nothing to complain of" equal "$(grep -E ' (emerg|alert|crit|err|warning) ' /tmp/log)" ""
kernel_is_silent
[ $failed -eq 0 ] || cat /tmp/log
exit $failed
