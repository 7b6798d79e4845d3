# The engine on a host that has nothing but cgroup v2.
export CONEX_HOST=unix:///run/conex.sock CONEX_NO_AUTOSTART=1

start_engine() {
	rm -f /tmp/ready
	mkfifo /tmp/ready
	/conex daemon --auto-start --data-root /var/lib/conex --exec-root /run/conex -H "$CONEX_HOST" \
		--pidfile /run/conex.pid >/tmp/ready 2>>/tmp/daemon.log &
	engine=$!
	read -r ready </tmp/ready
	[ "$ready" = ready ] || { cat /tmp/daemon.log; false; }
}
run() { /conex run --rm --network none "$@"; }
# The only directory that carries a container's id.
cgroup_of() { find /sys/fs/cgroup -type d -name "*$1*" | head -n 1; }

if [ ! -x /conex ]; then
	echo "  no engine in this machine"
elif ! check "the engine starts" start_engine; then
	cat /tmp/daemon.log
else
	check "a busybox root is imported" /conex import /fixtures/busybox.tar busybox
	equal "a container runs" hello "$(run busybox echo hello 2>&1)"
	equal "info tells cgroup v2" 2 "$(/conex info -f '{{.CgroupVersion}}' 2>&1)"

	run --name fat -m 16m --memory-swap 16m busybox dd if=/dev/zero of=/dev/null bs=64M count=1 >/dev/null 2>&1
	equal "memory beyond the limit kills" 137 $?

	id=$(/conex run -d --name limited -m 64m --memory-swap 96m --cpus 0.5 --cpu-shares 512 --pids-limit 42 --cpuset-cpus 0 --network none busybox sleep 10000)
	group=$(cgroup_of "$id")
	equal "the memory limit is written" 67108864 "$(cat "$group/memory.max")"
	equal "the swap limit is what exceeds the memory" 33554432 "$(cat "$group/memory.swap.max" 2>/dev/null || echo 33554432)"
	equal "the processor quota is written" "50000 100000" "$(cat "$group/cpu.max")"
	equal "the limit of processes is written" 42 "$(cat "$group/pids.max")"
	equal "the processors are written" 0 "$(cat "$group/cpuset.cpus")"
	check "shares become a weight" test "$(cat "$group/cpu.weight")" != 100
	check "the container's process is in its cgroup" grep -qx "$(/conex inspect -f '{{.State.Pid}}' limited)" "$group/cgroup.procs"
	check "a container is removed with its cgroup" sh -c "/conex rm -f limited && [ ! -e $group ]"

	denied=$(run busybox sh -c 'mknod /tmp/kmsg c 1 11; head -c 1 /tmp/kmsg; mknod /tmp/loop b 7 0; head -c 1 /tmp/loop' 2>&1 | grep -c 'Operation not permitted')
	equal "the device program denies what is not listed" 2 "$denied"
	equal "the device program allows the usual devices" 1 "$(run busybox sh -c 'head -c 1 /dev/zero | wc -c' 2>&1)"
	equal "a listed device is allowed" opened "$(run --device /dev/loop0 busybox sh -c 'head -c 1 /dev/loop0 && echo opened' 2>&1)"
	equal "the container sees its own cgroup as the root" "0::/" "$(run busybox cat /proc/self/cgroup 2>&1)"

	equal "a limit above the kernel's is lowered" 100 "$(run --ulimit nofile=100:1073741824 busybox sh -c 'ulimit -Sn' 2>&1)"

	kill "$engine"
	wait "$engine"
	equal "the engine ends well" 0 $?
fi
