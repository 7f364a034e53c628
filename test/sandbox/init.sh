#!/bin/sh
# init.sh DIR NAME LIBVIRT CACHE - first process of a sandbox (see sandbox.go).
#
# Runs in fresh network, mount, PID and UTS namespaces, with the mounts of the
# machine still in sight. Everything a test can change is put on folders below
# DIR. Standard input is a pipe from the test: the sandbox ends when it ends.
# DIR/ready appears when everything is up.
set -eu
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
dir=$1 name=$2 libvirt=$3 cache=$4

mount --make-rprivate /
mount -t proc proc /proc
mount -t sysfs sysfs /sys # shows this network namespace's links
hostname "$name"
ip link set lo up

# folder TARGET: makes sure that TARGET exists, without changing the machine.
folder() {
	[ -d "$1" ] && return
	parent=${1%/*} old=$dir/old${1%/*}
	mkdir -p "$old"
	mount --bind "$parent" "$old"
	mount -t tmpfs -o mode=755 tmpfs "$parent"
	for e in "$old"/* "$old"/.[!.]*; do
		to=$parent/${e##*/}
		if [ -L "$e" ]; then
			cp -P "$e" "$to"
		elif [ -d "$e" ]; then
			mkdir "$to"
			mount --bind "$e" "$to"
		elif [ -e "$e" ]; then
			: >"$to"
			mount --bind "$e" "$to"
		fi
	done
	mkdir -p "$1"
}

# own SUBFOLDER TARGET: puts the folder DIR/SUBFOLDER over TARGET.
own() {
	folder "$2"
	mkdir -p "$dir/$1"
	mount --bind "$dir/$1" "$2"
}

mkdir -p "$dir/etc"
printf '127.0.0.1 localhost %s\n::1 localhost\n' "$name" >"$dir/etc/hosts"
mount --bind "$dir/etc/hosts" /etc/hosts
printf '%s\n' "$name" >"$dir/etc/hostname"
[ ! -e /etc/hostname ] || mount --bind "$dir/etc/hostname" /etc/hostname
: >"$dir/etc/resolv.conf" # a name that nobody knows must fail at once
mount --bind "$dir/etc/resolv.conf" "$(readlink -f /etc/resolv.conf)" 2>/dev/null || true

own run /run
own tenks /var/lib/tenks
own log /var/log
mkdir -p /run/lock /run/netns

# KVM is hidden, so that guests are the same everywhere. The stand-in must be
# read-only: libvirt takes a writable one for KVM that is broken, distrusts its
# own cache and probes QEMU again at every start of a guest.
if [ -e /dev/kvm ]; then
	: >"$dir/no-kvm"
	mount --bind "$dir/no-kvm" /dev/kvm
	mount -o remount,bind,ro /dev/kvm
fi

if [ "$libvirt" = true ]; then
	mkdir -p "$dir/libvirt/etc"
	cp -a /etc/libvirt/. "$dir/libvirt/etc/" 2>/dev/null || true
	own libvirt/etc /etc/libvirt
	own libvirt/lib /var/lib/libvirt
	own libvirt/cache /var/cache/libvirt
	mkdir -p /run/libvirt /var/log/libvirt/qemu /var/lib/libvirt/images
	[ ! -d "$cache/qemu" ] || cp -a "$cache/qemu" /var/cache/libvirt/
	rm -rf /etc/libvirt/qemu # networks, domains of the machine
	rm -rf /etc/libvirt/storage /etc/libvirt/secrets
	cat >/etc/libvirt/libvirtd.conf <<-X
		unix_sock_rw_perms = "0700"
		auth_unix_ro = "none"
		auth_unix_rw = "none"
		host_uuid = "$(cat /proc/sys/kernel/random/uuid)"
	X
	cat >/etc/libvirt/qemu.conf <<-X
		user = "root"
		group = "root"
		swtpm_user = "root"
		swtpm_group = "root"
		security_driver = "none"
		namespaces = []
		cgroup_controllers = []
		remember_owner = 0
		stdio_handler = "logd"
		max_core = 0
	X
	virtlogd -d
	libvirtd -d
	n=0
	until virsh -q -c qemu:///system version >/dev/null 2>&1; do
		n=$((n + 1))
		[ $n -lt 300 ] || { echo "libvirtd does not answer" >&2; exit 1; }
		sleep 0.1
	done
	# Probing QEMU takes seconds: the next sandbox need not.
	if [ -n "$cache" ] && [ ! -d "$cache/qemu" ] && mkdir -p "$cache"; then
		virsh -q -c qemu:///system domcapabilities >/dev/null 2>&1 || true
		cp -a /var/cache/libvirt/qemu "$cache/qemu.$$" && mv -T "$cache/qemu.$$" "$cache/qemu" 2>/dev/null ||
			rm -rf "$cache/qemu.$$"
	fi
fi
: >"$dir/ready"

# While the shell waits for cat, it reaps what daemons leave behind.
cat >/dev/null
