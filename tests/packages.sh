#!/bin/sh
# Install the Debian packages that the tests run for real: the lab's kernel, and what a container node has. It needs root
# and apt; without them it only says what is missing, and the tests that need it skip and say so too.
set -u

wanted="user-mode-linux docker.io containerd runc podman tini dumb-init prometheus prometheus-alertmanager busybox-static"
wanted="$wanted iproute2 kmod util-linux ca-certificates curl systemd docker-compose strace"
# The pages are looked at in a browser.
wanted="$wanted chromium"
# The lab compiles a small library on processors with AMX (lab/xstate.c).
if grep -qw amx_tile /proc/cpuinfo; then
    wanted="$wanted gcc libc6-dev"
fi

missing=""
for package in $wanted; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done

if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # RUNLEVEL=1 asks the packages not to start their daemons. --no-remove: never at the cost of what is installed here.
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    # shellcheck disable=SC2086 # a list of words
    apt-get -qq update && apt-get -qq -y --no-remove --no-install-recommends install $missing >/dev/null && missing=""
fi

[ -z "$missing" ] || echo "Tests that need these Debian packages will skip:$missing" >&2
command -v kubectl >/dev/null || echo "Tests that need kubectl will skip: it is not here, and no Debian package" >&2
exit 0
