# SPDX-License-Identifier: Apache-2.0
# Run inside the machine: the governor's place on pure cgroup2, then the daemon with every plugin on this kernel.
set -u
socket=/tmp/s
. /test/check.sh
. /test/events.sh

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
	every_plugin
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
