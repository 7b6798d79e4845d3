# shellcheck shell=bash
# The network's part of bench/run, which sources this: starts with the default
# network and with a published port, and traffic through them, beside podman.
#
# Both engines' servers run in the containers' namespaces from the host, so that
# what is compared is the way there, not an image. Medians of ROUNDS starts, and
# of as many one-second bursts of traffic.

# start_row ROW FLAG...: times `run --rm` with these flags in both engines
start_row() {
	local row=$1
	shift
	for ((round = -1; round < ROUNDS; round++)); do
		timed "${C[@]}" run --rm "$@" busybox true; sample "$row" conex
		[ -z "$have_podman" ] || { peer "${P[@]}" run --rm "$@" busybox true; sample "$row" podman; }
	done
}

# burst ROW PEER COMMAND...: one number of the traffic program
burst() {
	local row=$1 who=$2 value
	shift 2
	if value=$("$@" 2>"$room/stderr") && [ -n "$value" ]; then
		MS=$value STATUS=0
	else
		STATUS=1
	fi
	sample "$row" "$who"
}

# peer_inspect FORMAT NAME: podman pins its network namespaces in the mount
# namespace of its side of the bench, and knows nothing of them elsewhere
peer_inspect() { nsenter -t "$peers_pid" -m "${P[@]}" inspect -f "$1" "$2"; }

# traffic_of PEER PID ADDRESS OTHER-PID PORT
traffic_of() {
	local who=$1 pid=$2 address=$3 other=$4 port=$5
	local host
	host=$(ip -4 -o addr show scope global | awk '$2 !~ /^(conex|podman|cni|br-|veth)/ {sub("/.*", "", $4); print $4; exit}')
	burst "container to container, Gbit/s" "$who" nsenter -t "$other" -n "$room/traffic" pull "$address" 5201 1
	burst "host to published port, Gbit/s" "$who" "$room/traffic" pull "${host:-127.0.0.1}" "$port" 1
	burst "127.0.0.1 to published port, Gbit/s" "$who" "$room/traffic" pull 127.0.0.1 "$port" 1
	burst "new connections to a published port, 1/s" "$who" "$room/traffic" call "${host:-127.0.0.1}" $((port + 1)) 1
	burst "new connections by 127.0.0.1, 1/s" "$who" "$room/traffic" call 127.0.0.1 $((port + 1)) 1
}

measure_net() {
	start_row "run --rm, default network"
	start_row "run --rm -p 18080:80" -p 18080:80
	echo "| command | conex | podman | conex / podman |"
	echo "|---|---:|---:|---:|"
	local row c p
	for row in "run --rm, default network" "run --rm -p 18080:80"; do
		c=$(median "${samples[$row/conex]:-}") p=$(median "${samples[$row/podman]:-}")
		[ -z "$c" ] || echo "| $row | $c | ${p:-–} | $(ratio "$c" "$p") |"
	done
	echo
	if ! cc -O2 -pthread -static -o "$room/traffic" "$here/traffic.c"; then
		note "traffic is left out: no C compiler"
		return
	fi
	local address pid other
	"${C[@]}" run -d --name b_srv -p 18201-18202:5201-5202 busybox sleep 100000 >/dev/null
	"${C[@]}" run -d --name b_cli busybox sleep 100000 >/dev/null
	pid=$("${C[@]}" inspect -f '{{.State.Pid}}' b_srv)
	other=$("${C[@]}" inspect -f '{{.State.Pid}}' b_cli)
	address=$("${C[@]}" inspect -f '{{.NetworkSettings.IPAddress}}' b_srv)
	nsenter -t "$pid" -n "$room/traffic" serve 5201 &
	local servers=($!)
	local p_pid='' p_other='' p_address=''
	if [ -n "$have_podman" ]; then
		peer "${P[@]}" run -d --name b_srv -p 18211-18212:5201-5202 busybox sleep 100000
		peer "${P[@]}" run -d --name b_cli busybox sleep 100000
		p_pid=$(peer_inspect '{{.State.Pid}}' b_srv)
		p_other=$(peer_inspect '{{.State.Pid}}' b_cli)
		p_address=$(peer_inspect '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' b_srv)
		nsenter -t "$p_pid" -n "$room/traffic" serve 5201 &
		servers+=($!)
	fi
	for ((round = -1; round < ROUNDS; round++)); do
		traffic_of conex "$pid" "$address" "$other" 18201
		[ -z "$p_address" ] || traffic_of podman "$p_pid" "$p_address" "$p_other" 18211
	done
	kill "${servers[@]}" 2>/dev/null
	wait "${servers[@]}" 2>/dev/null
	"${C[@]}" rm -f b_srv b_cli >/dev/null
	[ -z "$have_podman" ] || peer "${P[@]}" rm -f -t 0 -a
	echo "| traffic | conex | podman | conex / podman |"
	echo "|---|---:|---:|---:|"
	for row in "container to container, Gbit/s" "host to published port, Gbit/s" "127.0.0.1 to published port, Gbit/s" \
		"new connections to a published port, 1/s" "new connections by 127.0.0.1, 1/s"; do
		c=$(median "${samples[$row/conex]:-}") p=$(median "${samples[$row/podman]:-}")
		[ -z "$c" ] || echo "| $row | $c | ${p:-–} | $(ratio "$c" "$p") |"
	done
	echo
	# What a port costs when there are many already.
	local many=${PORTS:-2000}
	for ((round = -1; round < ROUNDS; round++)); do
		timed "${C[@]}" run --rm -p 30000:80 busybox true; sample "first port" conex
	done
	"${C[@]}" run -d --name b_ports -p "20000-$((20000 + many - 1)):1000-$((1000 + many - 1))" busybox sleep 100000 >/dev/null
	for ((round = -1; round < ROUNDS; round++)); do
		timed "${C[@]}" run --rm -p 30000:80 busybox true; sample "last port" conex
	done
	"${C[@]}" rm -f b_ports >/dev/null
	c=$(median "${samples[first port/conex]:-}") p=$(median "${samples[last port/conex]:-}")
	echo "| published ports before | run --rm -p, ms | ratio |"
	echo "|---:|---:|---:|"
	echo "| 0 | $c | 1 |"
	echo "| $many | $p | $(ratio "$p" "$c") |"
	echo
}
