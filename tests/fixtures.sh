#!/bin/bash
# Makes what the tests need and what cargo cannot build: Debian packages, root
# file systems as tar files, a kernel for the virtual machine.
#
#     tests/fixtures.sh [packages] [busybox] [debian] [nginx] [redis] [compose2] [kernel]      (these by default)
#     tests/fixtures.sh tomcat      (over 200 MB with its Java: only where it is asked for)
#
# Everything lands in $CARGO_TARGET_DIR (target/) under fixtures/ and vm/, is
# made once and kept. The network is touched only for what is missing; without
# one, what is there already still serves and the exit code tells the rest.
set -eu
cd "$(dirname "$0")/.."
target=$(readlink -m "${CARGO_TARGET_DIR:-target}")
fixtures=$target/fixtures
vm=$target/vm
mkdir -p "$fixtures" "$vm"

# Two test processes may ask for the same fixture at once: the second waits.
exec 9>"$fixtures/.lock"
flock 9

note() { echo "fixtures: $*" >&2; }

# The package lists are refreshed at most once a run, and only when needed.
refreshed=
refresh() {
	[ -n "$refreshed" ] && return
	refreshed=yes
	apt-get update -qq >&2 || note "apt-get update failed; using the package lists at hand"
}

# Each pair: a command, and the Debian package that brings it.
make_packages() {
	local missing=() pair
	for pair in busybox:busybox-static debootstrap:debootstrap qemu-system-x86_64:qemu-system-x86 \
		podman:podman crun:crun runc:runc skopeo:skopeo docker-registry:docker-registry openssl:openssl \
		zsh:zsh fish:fish groff:groff-base node:nodejs npm:npm mkfs.ext4:e2fsprogs mkfs.btrfs:btrfs-progs \
		strace:strace ip:iproute2 nft:nftables; do
		PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
	done
	if [ ${#missing[@]} -gt 0 ]; then
		if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
			note "missing and not installable here: ${missing[*]}; the tests that need them are skipped"
			return 0
		fi
		refresh
		# One by one: a package that cannot be had must not take the others with it.
		local package
		for package in "${missing[@]}"; do
			DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1 9>&- ||
				note "cannot install $package; the tests that need it are skipped"
		done
	fi
	command -v docker >/dev/null || note "no docker command line here: the cases under the real client are skipped"
}

# A root of one static program and its applets
make_busybox() {
	[ -f "$fixtures/busybox.tar" ] && return
	local program root
	program=$(type -P busybox) || { note "no busybox"; return 1; }
	if [ "$("$program" 2>&1 | head -c 7)" != BusyBox ]; then note "$program is no busybox"; return 1; fi
	root=$(mktemp -d "$fixtures/busybox.XXXXXX")
	mkdir -p "$root"/{bin,dev,etc,home,proc,root,sbin,sys,usr/bin,usr/sbin,var}
	mkdir -m 1777 "$root/tmp"
	chmod 755 "$root"
	cp "$program" "$root/bin/busybox"
	local applet
	for applet in $("$program" --list); do
		[ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
	done
	printf 'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n' >"$root/etc/passwd"
	printf 'root:x:0:\ndaemon:x:1:\naudio:x:29:daemon\nnogroup:x:65534:\n' >"$root/etc/group"
	tar -C "$root" --sort=name --numeric-owner --owner=0 --group=0 -cf "$fixtures/busybox.tar.part" .
	mv "$fixtures/busybox.tar.part" "$fixtures/busybox.tar"
	rm -rf "$root"
}

# What debootstrap makes, over 100 MB
make_debian() {
	[ -f "$fixtures/debian.tar" ] && return
	PATH=$PATH:/usr/sbin command -v debootstrap >/dev/null || { note "no debootstrap, so no Debian root"; return 1; }
	[ "$(id -u)" = 0 ] || { note "debootstrap needs root, so no Debian root"; return 1; }
	local root
	root=$(mktemp -d "$fixtures/debian.XXXXXX")
	chmod 755 "$root"
	note "making a Debian root (once)"
	# In a mount namespace of its own: the /proc it mounts must not stay behind in the root.
	if ! PATH=$PATH:/usr/sbin unshare --mount --propagation private \
		debootstrap --variant=minbase bookworm "$root" >"$fixtures/debootstrap.log" 2>&1 9>&-; then
		note "debootstrap failed: $(tail -n 1 "$fixtures/debootstrap.log")"
		rm -rf --one-file-system "$root"
		return 1
	fi
	rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
	if ! tar -C "$root" --sort=name --numeric-owner --one-file-system -cf "$fixtures/debian.tar.part" .; then
		note "the Debian root cannot be packed"
		rm -rf --one-file-system "$root"
		return 1
	fi
	mv "$fixtures/debian.tar.part" "$fixtures/debian.tar"
	rm -rf --one-file-system "$root"
}

# A Debian service as a layer over the Debian root: layer NAME PACKAGE SETUP.
# apt says what the root's own package database lacks. The packages are unpacked,
# not configured, so SETUP, run in the tree, does what their scripts would have.
layer() {
	[ -f "$fixtures/$1.tar" ] && return
	make_debian || return 1
	command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || { note "no apt-get, so no $1"; return 1; }
	local work
	work=$(mktemp -d "$fixtures/$1.XXXXXX")
	note "making a layer of $2 (once)"
	if ! pack_layer "$work" "$2" "$3" || ! mv "$work/layer.tar" "$fixtures/$1.tar"; then
		note "no layer of $2 can be made: $(tail -n 1 "$work/log")"
		rm -rf "$work"
		return 1
	fi
	rm -rf "$work"
}
pack_layer() {
	local work=$1 tree=$1/tree deb name
	mkdir -p "$work/archives/partial" "$tree/usr" && chmod 755 "$tree" || return 1
	tar -C "$work" -xf "$fixtures/debian.tar" ./var/lib/dpkg/status 2>"$work/log" || return 1
	download "$work" "$2" || { refresh; download "$work" "$2"; } || return 1
	# A package's /lib is the root's link to usr/lib, which no directory may replace.
	for name in bin sbin lib lib64; do mkdir "$tree/usr/$name" && ln -s "usr/$name" "$tree/$name" || return 1; done
	for deb in "$work"/archives/*.deb; do
		dpkg-deb --fsys-tarfile "$deb" 2>>"$work/log" |
			tar -C "$tree" --keep-directory-symlink -xpf - 2>>"$work/log" || return 1
	done
	for name in bin sbin lib lib64; do rm "$tree/$name" || return 1; done
	(cd "$tree" && eval "$3") 2>>"$work/log" || return 1
	tar -C "$tree" --sort=name --numeric-owner -cf "$work/layer.tar" . 2>>"$work/log"
}
download() {
	apt-get install -y -qq --no-install-recommends --download-only -o Debug::NoLocking=1 -o APT::Sandbox::User=root \
		-o Dir::State::status="$1/var/lib/dpkg/status" -o Dir::Cache::archives="$1/archives" "$2" >"$1/log" 2>&1 9>&-
}
make_nginx() {
	layer nginx nginx 'ln -s ../sites-available/default etc/nginx/sites-enabled/default && mkdir -p var/www/html &&
		cp usr/share/nginx/html/index.html var/www/html/index.html'
}
make_redis() { layer redis redis-server 'mkdir data'; }
# Tomcat would answer from memory for five seconds after a page was changed.
make_tomcat() {
	layer tomcat tomcat10 'cp -r usr/share/tomcat10/etc/. etc/tomcat10/ && mkdir -p var/lib/tomcat10/webapps &&
		cp -r usr/share/tomcat10-root/default_root var/lib/tomcat10/webapps/ROOT &&
		sed -i "s|^</Context>|<Resources cachingAllowed=\"false\"/></Context>|" etc/tomcat10/context.xml &&
		grep -q cachingAllowed etc/tomcat10/context.xml'
}

# Compose 2, which Debian has since trixie: fetched from that release beside the
# machine's own, whatever that is, and not installed.
make_compose2() {
	[ -f "$fixtures/docker-compose-2" ] && return
	command -v apt-get >/dev/null && command -v dpkg >/dev/null || { note "no apt-get, so no docker-compose"; return 1; }
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg mirror work
	mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 2>/dev/null | head -n 1)
	[ -n "$mirror" ] && [ -f $keyring ] || { note "no mirror of Debian is known here, so no docker-compose"; return 1; }
	work=$(mktemp -d "$fixtures/compose2.XXXXXX")
	if ! unpack_compose2 "$work" "deb [signed-by=$keyring] $mirror trixie main" >"$work/log" 2>&1; then
		note "cannot fetch docker-compose: $(tail -n 1 "$work/log")"
		rm -rf "$work"
		return 1
	fi
	mv "$work/tree/usr/libexec/docker/cli-plugins/docker-compose" "$fixtures/docker-compose-2"
	rm -rf "$work"
}
unpack_compose2() {
	local work=$1 options
	mkdir -p "$work/lists/partial" "$work/cache/archives/partial" || return 1
	echo "$2" >"$work/sources.list"
	options=(-qq -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
		-o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" -o Debug::NoLocking=1 -o APT::Sandbox::User=root)
	apt-get "${options[@]}" update 9>&- || return 1
	(cd "$work" && apt-get "${options[@]}" download docker-compose 9>&-) || return 1
	dpkg -x "$work"/docker-compose_*.deb "$work/tree"
}

# Debian's cloud kernel and its modules, unpacked and not installed
make_kernel() {
	[ -f "$vm/kernel/vmlinuz" ] && return
	command -v apt-get >/dev/null && command -v dpkg >/dev/null || { note "no apt-get, so no kernel for the virtual machine"; return 1; }
	local package work
	package=$(kernel_package)
	[ -n "$package" ] || { refresh; package=$(kernel_package); }
	[ -n "$package" ] || { note "no cloud kernel in the package lists"; return 1; }
	work=$(mktemp -d "$vm/unpack.XXXXXX")
	fetch "$work" "$package" || { refresh; fetch "$work" "$(kernel_package)"; } ||
		{ note "cannot download $package"; rm -rf "$work"; return 1; }
	dpkg -x "$work"/*.deb "$work/tree"
	mkdir "$work/kernel"
	mv "$work"/tree/boot/vmlinuz-* "$work/kernel/vmlinuz"
	mv "$work"/tree/lib/modules/*/kernel "$work/kernel/modules"
	rm -rf "$vm/kernel"
	mv "$work/kernel" "$vm/kernel"
	rm -rf "$work"
}
kernel_package() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-.*\)/\1/p' | head -n 1; }
fetch() { (cd "$1" && apt-get download -qq "$2" >/dev/null 2>&1); }

[ $# -gt 0 ] || set -- packages busybox debian nginx redis compose2 kernel
status=0
for fixture; do
	case $fixture in
	packages | busybox | debian | nginx | redis | tomcat | compose2 | kernel) "make_$fixture" || status=1 ;;
	*) note "unknown fixture: $fixture"; exit 2 ;;
	esac
done
exit $status
