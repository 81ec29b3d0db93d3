# SPDX-License-Identifier: Apache-2.0
# Run inside a Debian by its systemd: the units from the first start to the last stop.
set -u
export PATH=/test/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
. /test/check.sh
. /test/events.sh

unit=ringsided.service
group=/sys/fs/cgroup/system.slice/$unit
sock=/run/ringside/ringside.sock

usleep() {
	sleep "$(printf '0.%06d' "$1")"
}
section() {
	echo "---- $1 (${SECONDS} s)"
}
property() { # NAME [UNIT]
	systemctl show --value -p "$1" "${2:-$unit}"
}
# What the journal has of the unit since the last mark.
mark() {
	journalctl --sync
	cursor=$(journalctl -q -n 1 --show-cursor | sed -n 's/^-- cursor: //p')
}
journal() {
	journalctl --sync
	journalctl -q -u "$unit" -o cat --after-cursor="$cursor"
}
says() { # WORDS: in the journal of the unit, a moment later if not yet
	n=0
	until journal | grep -qF -- "$1"; do
		n=$((n + 1))
		if [ $n -ge 20 ]; then
			echo "     nobody says '$1'; what is said:"
			journal | tail -n 20 | sed 's/^/     | /'
			return 1
		fi
		sleep 0.3
	done
}
becomes() { # WANT SECONDS COMMAND...: what the command prints
	want=$1 until=$((SECONDS + $2))
	shift 2
	while got=$("$@"); [ "$got" != "$want" ]; do
		if [ $SECONDS -ge $until ]; then
			echo "     '$*' is '$got', want '$want'"
			return 1
		fi
		sleep 0.3
	done
}
matches() { # TEXT PATTERN
	# shellcheck disable=SC2254
	case $1 in $2) ;; *)
		echo "     '$1' isn't like '$2'"
		return 1
		;;
	esac
}
fails() { # COMMAND...
	! "$@" >/tmp/fails 2>&1 || { cat /tmp/fails; return 1; }
}
ask_doctor() {
	cli -o tsv doctor netflow >/tmp/doctor
}
doctor() { # NAME: its sentence in the last answer
	sed -n "s/^host	$1	[^	]*	[^	]*	//p" /tmp/doctor
}
# A change of the unit for the next start; none: as shipped.
with() { # LINE...
	mkdir -p /run/systemd/system/$unit.d
	rm -f /run/systemd/system/$unit.d/test.conf
	[ $# -eq 0 ] || printf '%s\n' "[Service]" "$@" >/run/systemd/system/$unit.d/test.conf
	systemctl daemon-reload
	systemctl reset-failed $unit 2>/dev/null # starts are counted anew
}
# BPF programs of others than systemd, which has its own for each unit with devices.
programs_loaded() {
	bpftool prog show | sed -n 's/^[0-9]*: \([a-z_]*\)  *\(name [^ ]*\)*.*/\1 \2/p' | grep -v '^cgroup_device ' | sort
}
as_group() { # COMMAND...: a user whose only right is the group
	setpriv --reuid 65534 --regid ringside --clear-groups "$@"
}
as_nobody() {
	setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
}

first_boot() {
	section "first boot"
	check "sysusers made the group" matches "$(getent group ringside)" "ringside:x:*:"
	check "tmpfiles made the socket's directory" equal "$(stat -c '%A %U %G' /run/ringside)" "drwxr-xr-x root ringside"
	check "tmpfiles made the state directory" equal "$(stat -c '%A %U %G' /var/lib/ringside)" "drwxr-x--- root ringside"
	check "nothing has failed" equal "$(systemctl list-units --failed --plain --no-legend)" ""
	check "the units are found" equal "$(systemctl list-unit-files --plain --no-legend 'ringsided.*' | awk '{print $1, $2}' | tr '\n' ' ')" \
		"ringsided.service disabled ringsided.socket disabled "
	check "they can be enabled" systemctl enable -q ringsided.service ringsided.socket
	check "manual page and sample" [ -f /usr/local/share/man/man1/ringside.1 ]
	rmdir /run/ringside # a start needs no tmpfiles
}

first_start() {
	section "start"
	mark
	check "start" systemctl start $unit
	check "active by READY=1" equal "$(property ActiveState) $(property SubState) $(property Type)" "active running notify"
	check "STATUS" matches "$(systemctl status --no-pager -n 0 $unit)" '*Status: "Watching: nothing (no plugin is enabled)"*'
	check "the journal has the start" says "daemon: ringsided 0.1.0 is ready, state in /var/lib/ringside"
	check "state directory as it was" equal "$(stat -c '%A %U %G' /var/lib/ringside)" "drwxr-x--- root ringside"
	check "socket" equal "$(stat -c '%A %U %G' $sock)" "srw-rw---- root ringside"
	check "root may ask" matches "$(cli status)" "version*"
	check "the group may ask" matches "$(as_group ringside status)" "*admin as uid 65534*"
	check "others may not" fails as_nobody ringside status
	check "the group may look into the ring" as_group ls /var/lib/ringside/ring
	check "others may not look" fails as_nobody ls /var/lib/ringside/ring
	main=$(property MainPID)
	grep -E '^(NoNewPrivs|Seccomp|CapEff|CapBnd)' "/proc/$main/status"
	check "no new privileges, filtered" equal "$(sed -n 's/^\(NoNewPrivs\|Seccomp\):	//p' "/proc/$main/status" | tr '\n' ' ')" "1 2 "
	check "no capability for modules or devices" equal $((0x$(sed -n 's/^CapEff:	//p' "/proc/$main/status") & (1 << 16 | 1 << 17 | 1 << 27))) 0
}

cgroups() {
	section "cgroups"
	check "a leaf of our own below the unit" equal "$(sed -n 's/^0:://p' "/proc/$main/cgroup")" "/system.slice/$unit/ringsided-$main"
	ask_doctor
	check "doctor: mode" equal "$(doctor cgroup_mode)" \
		"version 2; cgroup v2, own group $group/ringsided-$main; kernel limits: cpu and memory"
	check "doctor: kernel limits" equal "$(doctor kernel_limits)" "the kernel holds us above our own limits, too"
	cli limits set cpu_limit=0.75 mem_limit=256MiB >/dev/null
	cat /tmp/cli.err
	check "cpu.max" equal "$(cat $group/ringsided-$main/cpu.max)" "75000 100000"
	check "memory.max: a quarter above" equal "$(cat $group/ringsided-$main/memory.max)" $((320 << 20))
	cli limits set cpu_limit=0 mem_limit=0 >/dev/null
	check "and without" equal "$(cat $group/ringsided-$main/cpu.max $group/ringsided-$main/memory.max | tr '\n' ' ')" "max 100000 max "
}

# Each of them has something to see that the unit's restrictions could have hidden.
plugins_run() {
	section "plugins"
	every_plugin
	check "STATUS names them" equal "$(property StatusText)" "Watching: $(echo $plugins | sed 's/ /, /g')"
	section "rows"
	cli plugin set sched threshold=1ms
	exchange tcp 127.0.0.1 21001
	rows_become "tcp: listened and accepted" "1 97 " \
		"SELECT sum(event = 'listen'), sum(event = 'accept') FROM tcp WHERE local_port = 21001" tcp
	rows_become "sched: waits" "1 " "SELECT count(*) > 0 FROM sched" sched
	section "events"
	signals
	binds
	files
	programs
	section "dns, tls, shell"
	queries
	handshakes
	shells
	section "malloc"
	allocations
	section "states"
	cli -o tsv sql "SELECT name, state, hook, reason FROM plugins"
}

persist() {
	section "persist"
	for p in netflow conntrack bash exec; do
		cli plugin enable --persist $p
		cat /tmp/cli.err
	done
}

reload() {
	section "reload"
	mark
	mkdir -p /etc/ringside
	echo 'log_level = "debug"' >/etc/ringside/ringside.toml
	check "reload" systemctl reload $unit
	check "it read the file" says "configuration read again; changed: log_level"
	check "the same process" equal "$(property MainPID) $(property ActiveState)" "$main active"
	echo 'log_levle = "debug"' >/etc/ringside/ringside.toml
	systemctl reload $unit
	check "a mistake changes nothing" says "unknown option 'log_levle'; did you mean 'log_level'?"
	check "and it goes on" equal "$(property MainPID) $(property ActiveState)" "$main active"
	rm /etc/ringside/ringside.toml
}

stop() {
	section "stop"
	mark
	from=$SECONDS
	check "stop" systemctl stop $unit
	check "within its time, not killed" [ $((SECONDS - from)) -lt 18 ]
	check "clean" equal "$(property ActiveState) $(property Result) $(property ExecMainStatus)" "inactive success 0"
	check "the journal has the end" says "ringsided stopped, exit code 0"
	check "no BPF program is left" becomes "$before" 10 programs_loaded
	check "no cgroup is left" [ ! -e $group ]
	check "no socket is left" [ ! -e $sock ]
}

by_socket() {
	section "socket activation"
	# Any call that the filter forbids ends the daemon here instead of failing in silence.
	with SystemCallErrorNumber=kill WatchdogSec=10 RestartSec=1
	mark
	check "start of the socket" systemctl start ringsided.socket
	check "socket of the unit" equal "$(stat -c '%A %U %G' $sock)" "srw-rw---- root ringside"
	check "the daemon isn't started" equal "$(property ActiveState)" inactive
	check "the first question starts it" matches "$(cli --timeout 120s status)" "version*"
	cat /tmp/cli.err
	check "it runs" equal "$(property ActiveState) $(property Result)" "active success"
	check "with the plugins that were to stay" equal "$(property StatusText)" "Watching: conntrack, netflow, bash, exec"
	programs
	check "no call was forbidden" equal "$(property Result) $(property NRestarts)" "success 0"
}

watchdog() {
	section "watchdog"
	main=$(property MainPID)
	sleep 11
	check "it pings" equal "$(property NRestarts) $(property MainPID)" "0 $main"
	rm /var/lib/ringside/plugins.json # the rest goes without
	mark
	kill -STOP "$main"
	check "what doesn't move is started anew" becomes 1 60 property NRestarts
	check "systemd says why" says "Failed with result 'watchdog'"
	check "it answers" matches "$(cli --timeout 120s status)" "version*"
	main=$(property MainPID)
	check "the old leaf is gone" equal "$(echo $group/ringsided-*)" "$group/ringsided-$main"
}

limit_exit() {
	section "limits"
	cli limits set --persist cpu_limit=1.5 >/dev/null
	mark
	sleep 3 # the governor lets a start be
	cli limits set limit_action=exit mem_limit=4MiB >/dev/null
	cat /tmp/cli.err
	check "the limit of memory ends it" becomes 2 40 property NRestarts
	check "exit code 82" says "status=82"
	check "the journal has the reason" says "exceeds mem_limit 4MiB: exit 82"
	check "the socket answers all the time" matches "$(cli --timeout 120s status)" "*last_exit*exit 82*"
	check "one step down" says "starting one step down, at level sample"
	cli limits set --persist cpu_limit=0 >/dev/null
}

failures() {
	section "a limit that is too low is no loop"
	printf 'mem_limit = "4MiB"\nlimit_action = "exit"\n' >/etc/ringside/ringside.toml
	with RestartSec=1
	systemctl stop ringsided.socket
	mark
	systemctl restart $unit
	check "it fails for good" becomes failed 90 property ActiveState
	check "after three starts" equal "$(journal | grep -c 'ringsided 0.1.0 is ready')" 3
	check "with the last reason" equal "$(property ExecMainStatus) $(property Result)" "82 exit-code"

	section "bad configuration"
	echo 'cpu_limt = 1' >/etc/ringside/ringside.toml
	with RestartSec=1
	mark
	check "no start" fails systemctl start $unit
	check "the journal says where" says "/etc/ringside/ringside.toml:1: unknown option 'cpu_limt'; did you mean 'cpu_limit'?"
	sleep 3
	check "and no second try" equal "$(property ActiveState) $(property ExecMainStatus) $(property NRestarts)" "failed 2 0"
	rm /etc/ringside/ringside.toml
}

cgroup_modes() {
	section "delegation and read-only cgroups"
	with Delegate=no ProtectControlGroups=yes
	systemctl start $unit
	main=$(property MainPID)
	check "undelegated, read-only: stays in the unit" equal "$(sed -n 's/^0:://p' "/proc/$main/cgroup")" "/system.slice/$unit"
	ask_doctor
	check "undelegated, read-only: doctor" equal "$(doctor cgroup_mode)" "version 2; cgroup v2, alone in $group (systemd owns this group; \
Delegate=yes in the unit would give one of our own); kernel limits: none"
	check "undelegated, read-only: lost" equal "$(doctor kernel_limits)" "limits rest on the governor's own checks alone"
	check "memory is measured all the same" matches "$(cli -o tsv limits | sed -n 's/^mem_usage	//p')" "[1-9]*"
	systemctl stop $unit
	with ProtectControlGroups=yes
	systemctl start $unit
	ask_doctor
	check "delegated, read-only: doctor" equal "$(doctor cgroup_mode)" "version 2; cgroup v2, alone in $group (the cgroup file system can't be \
written here); kernel limits: none"
	systemctl stop $unit
	with

	# As in a container: no systemd is seen, cgroups can be read only, others share the group.
	socket=/tmp/s
	unshare -m sh -c 'mount -t tmpfs none /run/systemd && mount -o remount,bind,ro /sys/fs/cgroup &&
		exec ringsided --config /dev/null --state-dir /tmp/state --socket /tmp/s' >/tmp/log 2>&1 &
	daemon=$!
	n=0
	until [ -S /tmp/s ] || [ $n -ge 100 ]; do
		sleep 0.2
		n=$((n + 1))
	done
	ask_doctor
	check "container: doctor" equal "$(doctor cgroup_mode)" \
		"version 2; cgroup v2, no group of our own (the cgroup file system can't be written here); kernel limits: none"
	check "container: lost" equal "$(doctor kernel_limits)" "CPU is that of the daemon's process alone, without its query workers; memory is RSS \
plus BPF maps, without query workers; our own network bytes can't be counted: net_limit holds in scope nic only; limits rest on the \
governor's own checks alone"
	kill $daemon
	wait $daemon
	check "container: ends in order" equal $? 0
	socket=
}

echo "kernel $(uname -r), $(systemctl --version | head -n 1)"
dmesg -c >/tmp/boot # what it said before is none of ours
cursor=
socket=
before=$(programs_loaded)
for part in $(cat /test/parts); do
	$part
done
section "as a whole"
systemd-analyze security --no-pager $unit | tail -n 1
check "no BPF program is left" becomes "$before" 10 programs_loaded
kernel_is_silent
section "end"
exit $failed
