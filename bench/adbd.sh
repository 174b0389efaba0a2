#!/bin/sh
# Unpacks Debian's adb daemon into a folder, so that hosts of the kind "adb" can be tested without a phone; needs no root.
#
#     bench/adbd.sh FOLDER
#
# Debian 13 has it; on Debian 12 the sources of this machine are read for the suite trixie. The tests look in
# $YOLODEPLOY_ADBD, else in ~/.cache/yolodeploy-adbd, and need root for a network of their own (unshare -n), and adb.
set -eu
[ $# -eq 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
mkdir -p "$1"
root=$(cd "$1" && pwd)
apt="$root/.apt"
mkdir -p "$apt/lists/partial" "$apt/archives/partial"
: >"$apt/status"
cat /etc/apt/sources.list.d/debian.sources 2>/dev/null | sed 's/^Suites:.*/Suites: trixie/; /security/d' |
  awk 'BEGIN { RS = ""; ORS = "\n\n" } /URIs/ && !seen++' >"$apt/debian.sources"

private() {
  apt-get -qq -o Dir::State="$apt" -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" \
    -o Dir::Cache="$apt" -o Dir::Cache::archives="$apt/archives" -o Dir::Etc::sourcelist="$apt/debian.sources" \
    -o Dir::Etc::sourceparts=- -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1 "$@"
}
private update
private --no-install-recommends --download-only -y install adbd
for package in "$apt"/archives/*.deb; do dpkg -x "$package" "$root"; done
rm -rf "$apt"
echo "$root: adbd"
