#!/bin/sh
# Makes sure that the commands named as arguments, which tests and demo borrow from the distribution, are there.
#
# It installs only what is missing, with apt-get, and says what to do where it cannot. Services that the packages
# would start stay off: tests and demo start their own, on free ports.
set -eu

PATH="$PATH:/usr/sbin:/sbin"
missing=""

look() {
    missing=""
    for command in "$@"; do
        package="$command"
        [ "$command" = htpasswd ] && package=apache2-utils
        command -v "$command" >/dev/null 2>&1 || missing="$missing $package"
    done
}

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

look "$@"
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null 2>&1 || fail \
    "The tests and the demo need these Debian/Ubuntu packages, or their like on this system:$missing" \
    "Install them by hand (there is no apt-get here) and try again."

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || fail \
        "These packages are missing:$missing" \
        "As root, run: apt-get update && apt-get install$missing"
    as_root="sudo"
fi

# 101 is "action forbidden by policy": the packages install without starting their services.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    trap '$as_root rm -f "$policy"' EXIT INT TERM
fi

echo "Installing from the distribution:$missing"
if ! { $as_root apt-get -qq update && $as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq -o Dpkg::Use-Pty=0 install --no-install-recommends $missing >/dev/null; }; then
    fail "apt-get could not install:$missing" "Without network, install them beforehand and try again."
fi
look "$@"
[ -z "$missing" ] || fail "Installed, and still not to be found:$missing"
