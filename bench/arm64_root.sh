#!/bin/sh
# Makes a folder with an arm64 Python and runtimes of inference, for hosts of the kind "qemu"; needs no root.
#
#     bench/arm64_root.sh FOLDER [DISTRIBUTION==VERSION ...]
#
# Packages come from the apt sources of this machine (Debian 12 or newer; elsewhere, name a sources.list that has
# arm64 packages in SOURCES), wheels from pip's index. Without distributions: ncnn and numpy in the versions that the
# `python3` on the PATH has, because a host must have the same.
set -eu
[ $# -ge 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
for tool in apt-get dpkg python3; do
  command -v "$tool" >/dev/null || { echo "$0: $tool is missing, and this needs it" >&2; exit 1; }
done
mkdir -p "$1"
root=$(cd "$1" && pwd)
shift
apt="$root/.apt"
mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$root/site"
: >"$apt/status"

# An apt of our own: another architecture, nothing installed, everything below $apt.
private() {
  apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o Dir::State="$apt" \
    -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt" \
    -o Dir::Cache::archives="$apt/archives" -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1 \
    ${SOURCES:+-o Dir::Etc::sourcelist="$SOURCES" -o Dir::Etc::sourceparts=-} "$@"
}
private update
private --no-install-recommends --download-only -y install python3-minimal libpython3-stdlib libstdc++6 libgomp1
for package in "$apt"/archives/*.deb; do dpkg -x "$package" "$root"; done

if ! command -v qemu-aarch64-static >/dev/null && ! command -v qemu-aarch64 >/dev/null; then
  (cd "$apt" && { apt-get -qq download qemu-user-static || apt-get -qq download qemu-user; })
  for package in "$apt"/qemu-user*.deb; do dpkg -x "$package" "$root/qemu"; done
fi

python=$(ls "$root"/usr/bin/python3.[0-9]* | grep -v config | head -n 1)
release=${python##*/python}
if [ $# -eq 0 ]; then
  for name in ncnn numpy; do
    version=$(python3 -c "import importlib.metadata as m; print(m.version('$name'))") ||
      { echo "$0: $name is not installed here, so name its version: $name==..." >&2; exit 1; }
    set -- "$@" "$name==$version"
  done
fi
platforms=""
for glibc in 17 24 26 27 28 31 34; do platforms="$platforms --platform manylinux_2_${glibc}_aarch64"; done
# shellcheck disable=SC2086 # words
python3 -m pip install -q --no-deps --only-binary=:all: --python-version "$release" --implementation cp \
  --platform manylinux2014_aarch64 $platforms --upgrade --target "$root/site" "$@"
rm -rf "$apt"
echo "$root: Python $release for arm64 with $*. In your hosts.toml:"
printf '\n[arm64]\nkind = "qemu"\nroot = "%s"\ncpu = "cortex-a76"\n' "$root"
