#!/bin/sh
# Installs WyneOS on this host, or under DESTDIR. See usage below.
set -eu
umask 022

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 1
# True even for "/": a tree is being filled, and this host must not be changed otherwise.
staged=${DESTDIR:+yes}
destdir=${DESTDIR:-}
destdir=${destdir%/}
bin=$destdir/usr/bin
units=$destdir/usr/lib/systemd/system
share=$destdir/usr/share/wyneos
etc=$destdir/etc/wyneos
state=$destdir/var/lib

action=
roles=
bin_dir=
purge=no
partial=

usage() {
    cat <<'USAGE'
Usage: install.sh [install|upgrade|uninstall] [coordinator|agent|all] [OPTION]...

Actions:
  install      put binaries, units and configuration in place (default)
  upgrade      replace installed files, and restart running services
  uninstall    stop and remove; configuration and state are kept without --purge
Roles: coordinator, agent, or all (default). wynectl comes with either.

Options:
  --bin-dir DIR   directory of the binaries (default: target/release of this tree)
  --purge         with uninstall: remove configuration and state as well
  --help          print this

An existing file in /etc/wyneos is never changed. If an upgrade brings another
example, it is put beside it as FILE.new.

Environment:
  DESTDIR   install under this directory, as packagers do; systemctl is then
            never called. Without it, root is needed.

Exit status: 0 success; 1 failure, with a message; 64 invalid arguments.
USAGE
}

say() { printf '%s\n' "$*"; }

die() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

misuse() {
    printf 'install.sh: %s\nTry install.sh --help.\n' "$*" >&2
    exit 64
}

cleanup() {
    [ -z "$partial" ] || rm -f -- "$partial"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

parse() {
    while [ $# -gt 0 ]; do
        case $1 in
            install | upgrade | uninstall)
                [ -z "$action" ] || misuse "two actions: $action and $1"
                action=$1
                ;;
            coordinator | agent | all)
                [ -z "$roles" ] || misuse "two roles: $roles and $1"
                roles=$1
                ;;
            --bin-dir)
                [ $# -ge 2 ] || misuse "--bin-dir needs a directory"
                bin_dir=$2
                shift
                ;;
            --bin-dir=*) bin_dir=${1#--bin-dir=} ;;
            --purge) purge=yes ;;
            --help | -h)
                usage
                exit 0
                ;;
            *) misuse "unknown argument: $1" ;;
        esac
        shift
    done
    action=${action:-install}
    [ "$purge" = no ] || [ "$action" = uninstall ] || misuse "--purge goes with uninstall only"
    [ -z "$bin_dir" ] || [ "$action" != uninstall ] || misuse "--bin-dir does not go with uninstall"
    bin_dir=${bin_dir:-$here/../target/release}
}

# Succeeds if a running systemd must be notified.
has_systemd() {
    [ -z "$staged" ] && [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1
}

is_installed() { [ -e "$bin/wyneos-$1" ]; }

# put SOURCE TARGET MODE: the target is the old file or the complete new one, never a part.
put() {
    [ ! -d "$2" ] || die "$2 is a directory"
    mkdir -p -- "$(dirname -- "$2")" || die "cannot create the directory of $2"
    partial=$2.partial.$$
    cp -- "$1" "$partial" || die "cannot copy $1 to $partial"
    chmod "$3" "$partial" || die "cannot set the mode of $partial"
    mv -f -- "$partial" "$2" || die "cannot move $partial to $2"
    partial=
}

remove() {
    [ ! -e "$1" ] && [ ! -L "$1" ] && return 0
    rm -rf -- "$1" || die "cannot remove $1"
    say "removed $1"
}

# Everything a role needs is checked before anything is changed.
check_sources() {
    for role in $roles; do
        for file in "$bin_dir/wyneos-$role" "$bin_dir/wynectl" \
            "$here/systemd/wyneos-$role.service" "$here/config/$role.toml"; do
            [ -f "$file" ] || die "no such file: $file (build with 'cargo build --release', or set --bin-dir)"
            [ -r "$file" ] || die "cannot read $file"
        done
    done
}

# The operator's file is never changed. An example that is unchanged since the last installation is not reported.
put_configuration() {
    example=$here/config/$1.toml
    shipped=$share/$1.toml
    target=$etc/$1.toml
    if [ ! -e "$target" ]; then
        put "$example" "$target" 0644
        say "wrote $target"
    elif cmp -s -- "$example" "$target"; then
        rm -f -- "$target.new" || die "cannot remove $target.new"
    elif ! cmp -s -- "$example" "$shipped"; then
        put "$example" "$target.new" 0644
        say "kept $target; the new example is $target.new"
    fi
    put "$example" "$shipped" 0644
}

put_role() {
    put "$bin_dir/wyneos-$1" "$bin/wyneos-$1" 0755
    put "$here/systemd/wyneos-$1.service" "$units/wyneos-$1.service" 0644
    put_configuration "$1"
    say "installed wyneos-$1 in $bin"
}

restart_if_running() {
    systemctl try-restart "wyneos-$1.service" ||
        die "wyneos-$1 is upgraded but did not restart; see 'journalctl -u wyneos-$1'"
}

install_roles() {
    check_sources
    put "$bin_dir/wynectl" "$bin/wynectl" 0755
    for role in $roles; do put_role "$role"; done
    has_systemd || return 0
    systemctl daemon-reload || die "the files are in place, but systemctl daemon-reload failed"
    for role in $roles; do
        if [ "$action" = upgrade ]; then
            restart_if_running "$role"
        elif systemctl --quiet is-active "wyneos-$role.service"; then
            say "wyneos-$role still runs as it was; to restart: systemctl restart wyneos-$role"
        else
            if [ "$role" = agent ] && [ ! -e "$state/wyneos-agent/identity/cert.pem" ]; then
                say "to join a cluster: wyneos-agent join --coordinator HOST:7400 --token …"
                say "(the line that 'wynectl token create' prints), and then:"
            fi
            say "to start it: systemctl enable --now wyneos-$role"
        fi
    done
}

remove_role() {
    if has_systemd && [ -e "$units/wyneos-$1.service" ]; then
        # The agent's work continues without the agent; it must end with the installation.
        [ "$1" != agent ] || systemctl kill --signal=SIGTERM "wyneos-$1.service" 2>/dev/null || :
        systemctl disable --now "wyneos-$1.service" || die "cannot stop wyneos-$1; nothing was removed"
    fi
    remove "$units/wyneos-$1.service"
    remove "$bin/wyneos-$1"
    remove "$share/$1.toml"
    [ "$purge" = yes ] || return 0
    remove "$etc/$1.toml"
    remove "$etc/$1.toml.new"
    # With DynamicUser= the first is a link to the second.
    remove "$state/wyneos-$1"
    remove "$state/private/wyneos-$1"
}

uninstall_roles() {
    for role in $roles; do remove_role "$role"; done
    is_installed coordinator || is_installed agent || remove "$bin/wynectl"
    for directory in "$share" "$etc"; do
        # Fails if the directory is not empty, as intended.
        rmdir -- "$directory" 2>/dev/null || :
    done
    if has_systemd; then
        systemctl daemon-reload || die "the files are removed, but systemctl daemon-reload failed"
    fi
    [ "$purge" = yes ] || say "configuration and state are kept; --purge removes them"
}

# Sets roles to the roles to process: `upgrade all` means the installed ones.
choose_roles() {
    asked=${roles:-all}
    case $asked in
        all) roles='coordinator agent' ;;
        *) roles=$asked ;;
    esac
    [ "$action" = upgrade ] || return 0
    found=
    for role in $roles; do
        if is_installed "$role"; then found="$found $role"; fi
    done
    [ -n "$found" ] || die "nothing to upgrade in $bin; use: install.sh install $asked"
    roles=$found
}

parse "$@"
[ -n "$staged" ] || [ "$(id -u)" = 0 ] || die "needs root; or set DESTDIR to install elsewhere"
choose_roles
case $action in
    install | upgrade) install_roles ;;
    uninstall) uninstall_roles ;;
esac
