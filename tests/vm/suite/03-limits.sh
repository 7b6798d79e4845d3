# What a running engine reads from and writes to cgroup v2: figures, limits that
# change, the kernel's killer, the freezer. On the data root of 02-engine.sh.
shown() { /conex inspect -f "$2" "$1" 2>&1; }
start() { name=$1; shift; /conex run -d --name "$name" --network none "$@"; }
# Of the last minute; ends at the next full second.
events() { /conex events --since 60s --until "$(($(date +%s) + 1))" --filter "container=$1" --filter "event=$2" --format '{{.Action}}' 2>&1; }
# How many programs of the machine were started as this. Not itself: "[s]leep".
running() { cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ' | grep -o "$1 " | wc -l; }
until_so() {
	tries=0
	until "$@"; do
		tries=$((tries + 1))
		[ $tries -lt 100 ] || return 1
		sleep 0.1
	done
}
processor_seconds() { sed -n 's/^usage_usec //p' "$1/cpu.stat"; }
is_busy() { [ "$(processor_seconds "$1")" -gt "$2" ]; }

if [ ! -x /conex ]; then
	echo "  no engine in this machine"
elif ! check "the engine starts again" start_engine; then
	cat /tmp/daemon.log
else
	id=$(start fig -m 64m --memory-swap 64m --pids-limit 30 busybox sleep 4242)
	group=$(cgroup_of "$id")
	/conex exec fig dd if=/dev/zero of=/dev/shm/eight bs=1M count=8 >/dev/null 2>&1
	/conex exec -d fig sleep 4243
	used=$(/conex stats --no-stream --format '{{.MemUsage}}|{{.PIDs}}' fig 2>&1)
	check "stats tell used memory, the limit and the processes ($used)" sh -c "echo '$used' | grep -Eq '^(8|9|10|11)(\.[0-9]+)?MiB / 64MiB\|2$'"
	/conex exec -d fig sh -c 'while :; do :; done'
	check "a program is let at the processor" until_so is_busy "$group" "$(processor_seconds "$group")"
	busy=$(/conex stats --no-stream --format '{{.CPUPerc}}' fig 2>&1)
	check "stats tell the use of the processor ($busy)" sh -c "echo '$busy' | grep -Eq '^([1-9][0-9]?|100|10[0-9])\.'"
	equal "what is executed is in the container's own cgroup" "0::/" "$(/conex exec fig cat /proc/self/cgroup 2>&1)"
	equal "four processes are counted" 4 "$(/conex exec fig cat /sys/fs/cgroup/pids.current 2>&1)"

	check "limits of a running container are changed" /conex update -m 32m --memory-swap 32m --memory-reservation 16m --cpus 0.25 --cpu-shares 256 --cpuset-cpus 0 --pids-limit 17 fig
	equal "the new memory limit is written" 33554432 "$(cat "$group/memory.max")"
	equal "no swap is left beyond it" 0 "$(cat "$group/memory.swap.max" 2>/dev/null || echo 0)"
	equal "the new reservation is written" 16777216 "$(cat "$group/memory.low")"
	equal "the new processor quota is written" "25000 100000" "$(cat "$group/cpu.max")"
	check "the new shares are a lower weight" [ "$(cat "$group/cpu.weight")" -lt 100 ]
	equal "the new limit of processes is written" 17 "$(cat "$group/pids.max")"
	equal "inspect shows the new limits" "33554432 250000000 17" "$(shown fig '{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}')"
	check "the limit of processes is lifted" /conex update --pids-limit -1 fig
	equal "and the kernel has none" max "$(cat "$group/pids.max")"
	check "processes are limited again" /conex update --pids-limit 4 fig
	/conex exec fig true >/tmp/exec.out 2>&1
	equal "beyond the limit nothing is executed" 126 $?

	check "a container is paused" /conex pause fig
	equal "the cgroup is frozen" 1 "$(sed -n 's/^frozen //p' "$group/cgroup.events")"
	equal "inspect tells that it is paused" "paused true" "$(shown fig '{{.State.Status}} {{.State.Paused}}')"
	before=$(processor_seconds "$group")
	/conex exec fig true >/dev/null 2>&1
	equal "a paused container executes nothing" 1 $?
	equal "a frozen program uses no processor" "$before" "$(processor_seconds "$group")"

	kill -9 "$engine"
	wait "$engine"
	equal "the kernel still holds it without an engine" 1 "$(cat "$group/cgroup.freeze")"
	check "an engine comes back" start_engine
	equal "it knows what is paused" paused "$(shown fig '{{.State.Status}}')"
	check "and thaws it" /conex unpause fig
	equal "the cgroup is not frozen" 0 "$(sed -n 's/^frozen //p' "$group/cgroup.events")"
	equal "changed limits are remembered" 33554432 "$(shown fig '{{.HostConfig.Memory}}')"
	check "limits change under the new engine" /conex update -m 24m --memory-swap 24m --cpus 1 --pids-limit 100 fig
	equal "and the kernel has them" "25165824 100000 100000" "$(cat "$group/memory.max") $(cat "$group/cpu.max")"

	# The killer of the kernel, seen by an engine that came back.
	/conex exec fig dd if=/dev/zero of=/dev/null bs=64M count=1 >/dev/null 2>&1
	equal "a program beyond the limit is killed" 137 $?
	check "which is told as an event" sh -c "[ \"$(events fig oom | head -n 1)\" = oom ]"
	equal "and the container goes on" running "$(shown fig '{{.State.Status}}')"
	/conex run --name gone -m 16m --memory-swap 16m --network none busybox dd if=/dev/zero of=/dev/null bs=64M count=1 >/dev/null 2>&1
	equal "a first process beyond the limit is killed" "137 137 true" "$? $(shown gone '{{.State.ExitCode}} {{.State.OOMKilled}}')"
	equal "its killing is told before its end" "oom die" "$(/conex events --since 60s --until "$(($(date +%s) + 1))" --filter container=gone --filter event=oom --filter event=die --format '{{.Action}}' | tr '\n' ' ' | sed 's/ $//')"
	/conex run --name ends --network none busybox sh -c 'exit 3'
	equal "an end of its own is no such killing" "3 false" "$? $(shown ends '{{.State.OOMKilled}}')"

	equal "what was executed still runs" "1 1" "$(running '[s]leep 4242') $(running '[s]leep 4243')"
	check "a paused container is killed" sh -c '/conex pause fig && /conex kill fig && [ "$(/conex wait fig)" = 137 ]'
	equal "with all that was executed in it" "0 0" "$(running '[s]leep 4242') $(running '[s]leep 4243')"
	check "its cgroup goes" until_so [ ! -e "$group" ]

	# Nested cgroups are made inside, and go with the container.
	denied=$(run busybox mkdir /sys/fs/cgroup/inner 2>&1)
	equal "the cgroup is read-only inside" "Read-only file system" "${denied##*: }"
	id=$(start nest --privileged --init busybox sh -c 'mkdir /sys/fs/cgroup/inner && echo 0 >/sys/fs/cgroup/inner/cgroup.procs && exec sleep 4244')
	group=$(cgroup_of "$id")
	check "a privileged container makes cgroups of its own" until_so grep -q . "$group/inner/cgroup.procs"
	check "it is removed with them" sh -c "/conex rm -f nest && [ ! -e '$group' ]"

	check "the host's cgroups are seen on demand" sh -c "/conex run --rm --network none --cgroupns host busybox cat /proc/self/cgroup | grep -q '^0::/conex/'"
	id=$(start child --cgroup-parent /parent busybox sleep 4245)
	check "a container is below the parent it asked for" grep -qx "$(shown child '{{.State.Pid}}')" "/sys/fs/cgroup/parent/$id/cgroup.procs"
	check "and leaves it" sh -c "/conex rm -f child && [ ! -e '/sys/fs/cgroup/parent/$id' ]"

	/conex rm -f fig gone ends >/dev/null
	kill "$engine"
	wait "$engine"
	equal "the engine ends well again" 0 $?
	equal "no cgroup of a container is left" "" "$(find /sys/fs/cgroup/conex -mindepth 1 -type d 2>/dev/null)"
fi
