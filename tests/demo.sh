#!/bin/bash
# make demo: a private engine in a temporary directory runs the embedded hello
# image, then a busybox root, and leaves nothing behind, not even when it fails.
# CONEX names the binary.
set -eu
cd "$(dirname "$0")/.."
conex=$(readlink -f "${CONEX:-target/x86_64-unknown-linux-gnu/debug/conex}")
[ -x "$conex" ] || { echo "demo: $conex is not built" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "demo: the engine needs root" >&2; exit 1; }

room=$(mktemp -d /tmp/conex-demo.XXXXXX)
socket=$room/conex.sock
daemon=
finish() {
	local status=$?
	set +e
	if [ -n "$daemon" ]; then
		local ids
		ids=$("$conex" -H "unix://$socket" ps -aq 2>/dev/null)
		[ -z "$ids" ] || "$conex" -H "unix://$socket" rm -f $ids >/dev/null
		kill "$daemon" 2>/dev/null
		wait "$daemon" 2>/dev/null
	fi
	if [ $status != 0 ]; then echo "demo: failed; the engine said:" >&2; tail -n 20 "$room/daemon.log" >&2; fi
	rm -rf --one-file-system "$room"
	exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

say() { printf '\n\033[1m$ conex %s\033[0m\n' "$*"; }
run() { say "$@"; "$conex" -H "unix://$socket" "$@"; }

# With --auto-start the engine says "ready" on its standard output when it
# listens; the pipe's other end is read once and the engine needs it no more.
exec 8< <(exec "$conex" daemon --auto-start --data-root "$room/data" --exec-root "$room/run" \
	-H "unix://$socket" --pidfile "$room/daemon.pid" 2>"$room/daemon.log")
daemon=$!
read -r -t 30 -u 8 ready || ready=
[ "$ready" = ready ] || { echo "demo: the engine did not come up" >&2; exit 1; }

run run --rm hello-world
if tests/fixtures.sh busybox; then
	tar=${CARGO_TARGET_DIR:-target}/fixtures/busybox.tar
	run import "$tar" busybox
	run run --rm busybox sh -c 'echo "Hello from $(hostname), where I am process $$ of user $(id -un)."'
	run run --rm busybox ip -4 -o address show eth0
	run run --name changed busybox sh -c 'echo "Made by a container." >/etc/motd'
	run diff changed
	run commit -m "a message of the day" changed mine:1
	run run --rm mine:1 cat /etc/motd
	run history mine:1
	run run -d --name sleeper -m 32m --cpus 0.5 busybox sleep 1000
	run ps
	run stop -t 0 sleeper
	run ps -a
fi
run images
run system check
