# The machine itself is what the other scripts take for granted.
echo "  kernel $(uname -r), controllers: $(cat /sys/fs/cgroup/cgroup.controllers)"

check "cgroup v2 is the only hierarchy" sh -c '! grep -q " - cgroup " /proc/self/mountinfo && grep -q " - cgroup2 " /proc/self/mountinfo'
for controller in cpu cpuset io memory pids; do
	check "the v2 hierarchy has the $controller controller" grep -qw $controller /sys/fs/cgroup/cgroup.controllers
done

overlay_shows_both_layers() {
	mkdir -p /tmp/o/lower /tmp/o/upper /tmp/o/work /tmp/o/merged
	echo below >/tmp/o/lower/a
	mount -t overlay -o lowerdir=/tmp/o/lower,upperdir=/tmp/o/upper,workdir=/tmp/o/work overlay /tmp/o/merged || return
	echo above >/tmp/o/merged/b
	[ "$(cat /tmp/o/merged/a /tmp/o/upper/b)" = "below
above" ] && umount /tmp/o/merged && rm -rf /tmp/o
}
check "an overlay mounts over a tmpfs" overlay_shows_both_layers

check "the kernel has bpf" sh -c 'mkdir -p /tmp/bpf && mount -t bpf bpf /tmp/bpf && umount /tmp/bpf'
check "the device mapper answers" test -c /dev/mapper/control
equal "AppArmor is enabled" Y "$(cat /sys/module/apparmor/parameters/enabled)"
