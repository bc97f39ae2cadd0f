#!/bin/sh
# Installs Switchboard from the unpacked tarball, or brings an installation to this version. Run as root, as often as you like.
#
#   ./install.sh            install or upgrade
#   ./install.sh --remove   remove the program; configuration, database, logs and backups stay
#
# Refuses to install anything that differs from SHA256SUMS, which finds damage. Where the tarball comes from is proven before it is unpacked, by a
# checksum that came another way. Keeps configuration, secrets and data. Starts nothing that was
# not running: the next step is `switchboard init`.
set -eu

prefix=/usr/local
units="switchboard.service switchboard.socket switchboard-backup.service switchboard-backup.timer"
unit_directory=/etc/systemd/system
config=/etc/switchboard/config.toml

here=$(cd "$(dirname "$0")" && pwd)

fail() {
	echo "install.sh: $*" >&2
	exit 1
}

systemd_runs() { [ -d /run/systemd/system ]; }
is_active() { systemd_runs && systemctl --quiet is-active "$1"; }

[ "$(id -u)" = 0 ] || fail "must be run as root"

if dpkg-query -W -f '${db:Status-Status}' switchboard 2>/dev/null | grep -qx installed; then
	fail "the Debian package switchboard is installed; remove it first (its data stays)"
fi

case "${1:-}" in
'') ;;
--remove)
	if systemd_runs; then
		systemctl disable --now switchboard.socket switchboard-backup.timer switchboard.service 2>/dev/null || true
	fi
	for unit in $units; do rm -f "$unit_directory/$unit"; done
	rm -f "$prefix/bin/switchboard" "$prefix/lib/switchboard/nightly-backup" \
		"$prefix/share/man/man1"/switchboard*.1 \
		"$prefix/share/bash-completion/completions/switchboard" \
		"$prefix/share/zsh/site-functions/_switchboard" \
		"$prefix/share/fish/vendor_completions.d/switchboard.fish" \
		/etc/sysusers.d/switchboard.conf /etc/tmpfiles.d/switchboard.conf
	rm -rf "$prefix/share/doc/switchboard" "$prefix/share/switchboard"
	rmdir "$prefix/lib/switchboard" 2>/dev/null || true
	if systemd_runs; then systemctl daemon-reload; fi
	echo "removed; /etc/switchboard, /var/lib/switchboard, /var/log/switchboard and /var/backups/switchboard stay"
	exit 0
	;;
*) fail "usage: install.sh [--remove]" ;;
esac

# 1. What is installed is what was released.
cd "$here"
[ -f SHA256SUMS ] || fail "SHA256SUMS is missing; unpack the tarball again"
sha256sum --check --strict --quiet SHA256SUMS >&2 || fail "a file differs from SHA256SUMS; nothing was installed"

# 2. The user.
if ! getent passwd switchboard >/dev/null; then
	if command -v systemd-sysusers >/dev/null; then
		systemd-sysusers "$here/systemd/sysusers.conf"
	else
		getent group switchboard >/dev/null || groupadd --system switchboard
		useradd --system --gid switchboard --home-dir /var/lib/switchboard --no-create-home \
			--shell /usr/sbin/nologin --comment Switchboard switchboard
	fi
fi

# 3. The directories; those that exist stay as they are.
make_directory() { # path mode owner group
	[ -d "$1" ] || install -d -m "$2" -o "$3" -g "$4" "$1"
}
make_directory /etc/switchboard 0750 root switchboard
make_directory /etc/switchboard/secrets 0750 root switchboard
make_directory /var/lib/switchboard 0700 switchboard switchboard
make_directory /var/log/switchboard 0750 switchboard switchboard
make_directory /var/backups/switchboard 0700 switchboard switchboard

# 4. The files. A binary takes its name when it is whole; a running one keeps its old file.
install -d "$prefix/bin" "$prefix/lib/switchboard" "$prefix/share/man/man1" "$prefix/share/switchboard" \
	"$prefix/share/doc/switchboard" "$prefix/share/bash-completion/completions" \
	"$prefix/share/zsh/site-functions" "$prefix/share/fish/vendor_completions.d" \
	/etc/sysusers.d /etc/tmpfiles.d "$unit_directory"
install -m 0755 switchboard "$prefix/bin/.switchboard.new"
mv -f "$prefix/bin/.switchboard.new" "$prefix/bin/switchboard"
install -m 0755 nightly-backup "$prefix/lib/switchboard/nightly-backup"
for unit in $units; do
	sed -e "s|/usr/bin/switchboard|$prefix/bin/switchboard|" \
		-e "s|/usr/lib/switchboard/|$prefix/lib/switchboard/|" \
		-e "s|/usr/share/doc/switchboard|$prefix/share/doc/switchboard|" \
		"systemd/$unit" >"$unit_directory/.$unit.new"
	chmod 0644 "$unit_directory/.$unit.new"
	mv -f "$unit_directory/.$unit.new" "$unit_directory/$unit"
done
install -m 0644 systemd/socket-activation.conf "$prefix/share/switchboard/"
install -m 0755 signed-call "$prefix/share/switchboard/"
install -d "$prefix/share/switchboard/prometheus"
install -m 0644 prometheus/* "$prefix/share/switchboard/prometheus/"
install -d "$prefix/share/switchboard/balancer"
install -m 0644 balancer/* "$prefix/share/switchboard/balancer/"
install -m 0644 systemd/sysusers.conf /etc/sysusers.d/switchboard.conf
install -m 0644 systemd/tmpfiles.conf /etc/tmpfiles.d/switchboard.conf
install -m 0644 man/*.1 "$prefix/share/man/man1/"
install -m 0644 completions/switchboard.bash "$prefix/share/bash-completion/completions/switchboard"
install -m 0644 completions/switchboard.zsh "$prefix/share/zsh/site-functions/_switchboard"
install -m 0644 completions/switchboard.fish "$prefix/share/fish/vendor_completions.d/switchboard.fish"
install -m 0644 docs/*.md docs/*.py config.example.toml CHANGELOG.md LICENSE-APACHE LICENSE-MIT "$prefix/share/doc/switchboard/"
if systemd_runs; then systemctl daemon-reload; fi

# 5. An upgrade: the database follows (a copy of it is kept), and what was running runs again.
migrate() {
	[ -f "$config" ] || return 0
	code=0
	runuser -u switchboard -- env "SWITCHBOARD_CONFIG=$config" "$prefix/bin/switchboard" migrate || code=$?
	# 78: secrets or configuration cannot be read here. The service migrates as it starts.
	[ "$code" = 78 ] && return 0
	return "$code"
}
if is_active switchboard.socket; then
	systemctl restart switchboard.service
elif is_active switchboard.service; then
	systemctl stop switchboard.service
	if ! migrate; then
		systemctl start switchboard.service || true
		fail "the database could not be migrated; it is as it was"
	fi
	systemctl start switchboard.service
else
	migrate || fail "the database could not be migrated; it is as it was"
fi

"$prefix/bin/switchboard" --version
[ -f "$config" ] || echo "next: switchboard init, then systemctl enable --now switchboard"
