# shellcheck shell=bash
# A fresh Debian for a test to install into, with systemd running in it where this machine allows that.
#
#   source packaging/tests/machine.sh
#   machine_make DIR               unpacks a fresh Debian root there
#   machine_boot DIR               starts systemd in it, without a network; fails where this machine cannot
#   machine_run COMMAND…           runs a command as root in the machine that was booted last
#   machine_outside                starts stand-ins of Braze and the dialers in its network, on port 9000
#   machine_chroot DIR COMMAND…    runs a command in a root that was not booted, with a network of its own in which the
#                                  stand-ins of the outside world listen on port 9000
#   machine_stop                   ends it
#
# Takes root, mmdebstrap and, to boot, systemd-nspawn (Debian: systemd-container).

machine_cache=${CARGO_TARGET_DIR:-target}/packaging
machine_leader=
machine_nspawn=
machine_standins=

# What a bare Debian VM has and the smallest root has not, and what the documented steps use.
machine_packages=systemd,systemd-sysv,dbus,ca-certificates,adduser,init-system-helpers,openssl,curl,procps,sudo,sqlite3
machine_base=$machine_cache/debian-$(cksum <<<"$machine_packages" | cut -d" " -f1).tar

machine_base() {
	mkdir -p "$machine_cache"
	if [ ! -s "$machine_base" ]; then
		local sources=/etc/apt/sources.list suite
		[ -f /etc/apt/sources.list.d/debian.sources ] && sources=/etc/apt/sources.list.d/debian.sources
		# shellcheck source=/dev/null
		suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
		echo "make a Debian $suite root (once; kept in $machine_base)"
		mmdebstrap --quiet --variant=minbase --include="$machine_packages" "$suite" "$machine_cache/unfinished.tar" "$sources"
		mv "$machine_cache/unfinished.tar" "$machine_base"
	fi
}

machine_make() {
	machine_base
	rm -rf "$1"
	mkdir -p "$1"
	tar -C "$1" -xf "$machine_base"
	echo switchboard-test >"$1/etc/hostname"
	printf '127.0.0.1 localhost switchboard-test\n' >"$1/etc/hosts"
	# The console of a test is a file; nobody logs in.
	ln -sf /dev/null "$1/etc/systemd/system/console-getty.service"
}

# Whether this machine can start systemd in a namespace of its own.
machine_can_boot() {
	command -v systemd-nspawn >/dev/null && command -v nsenter >/dev/null && [ "$(id -u)" = 0 ]
}

machine_boot() {
	local log
	log=$1.log
	systemd-nspawn --quiet --directory="$1" --private-network --register=no --keep-unit --boot \
		</dev/null >"$log" 2>&1 &
	machine_nspawn=$!
	for _ in $(seq 1 300); do
		machine_leader=$(pgrep -P "$machine_nspawn" || true)
		if [ -n "$machine_leader" ] && machine_run systemctl is-active --quiet multi-user.target 2>/dev/null; then
			return 0
		fi
		kill -0 "$machine_nspawn" 2>/dev/null || break
		sleep 0.2
	done
	machine_stop
	tail -5 "$log" >&2
	return 1
}

machine_run() {
	nsenter --target "$machine_leader" --mount --uts --ipc --net --pid --cgroup --root --wd -- \
		env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "$@"
}

# The stand-ins of the outside world, in the network of the booted machine, on port 9000.
machine_outside() {
	nsenter --target "$machine_leader" --net -- python3 "$(dirname "${BASH_SOURCE[0]}")/standins.py" 9000 \
		</dev/null >/dev/null 2>&1 &
	machine_standins=$!
}

machine_chroot() {
	local root=$1
	shift
	# shellcheck disable=SC2016
	unshare --mount --net --pid --fork --kill-child -- sh -c '
		root=$1 standins=$2; shift 2
		mount --make-rprivate /
		mount -t proc proc "$root/proc"
		mount --rbind /dev "$root/dev"
		mount -t tmpfs tmpfs "$root/run"
		mount -t tmpfs tmpfs "$root/tmp"
		python3 -c "import fcntl, socket, struct
s = socket.socket()
fcntl.ioctl(s, 0x8914, struct.pack(\"16sh\", b\"lo\", 0x49))"
		python3 "$standins" 9000 >/dev/null &
		exec chroot "$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "$@"
	' sh "$root" "$(dirname "${BASH_SOURCE[0]}")/standins.py" "$@"
}

machine_stop() {
	[ -z "$machine_standins" ] || kill "$machine_standins" 2>/dev/null || true
	[ -n "$machine_nspawn" ] || return 0
	if [ -n "$machine_leader" ]; then
		timeout 10 nsenter --target "$machine_leader" --all -- systemctl poweroff --force 2>/dev/null || true
	fi
	for _ in $(seq 1 50); do
		kill -0 "$machine_nspawn" 2>/dev/null || break
		sleep 0.1
	done
	kill -KILL "$machine_nspawn" 2>/dev/null || true
	wait "$machine_nspawn" 2>/dev/null || true
	machine_nspawn=''
	machine_leader=''
	machine_standins=''
}
