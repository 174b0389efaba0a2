#!/usr/bin/env bash
# Builds ncnn (once, into a cache) and the runner.
#
#   build.sh [--arch native|arm64|android] [--cache FOLDER] [--version N] [--sdist FILE] [--jobs N] [--library-only]
#
# native   for this machine; the same arithmetic as the wheel of the same version
# arm64    Linux on arm64, static: for a board, for emulation, and (untried) for a phone through `adb shell`
# android  with the NDK in $ANDROID_NDK, arm64-v8a
#
# The sources are those of the installed wheel: the source distribution of the same version, which pip downloads.
# The last line on stdout is the path of the runner. $PYTHON is the interpreter with the wheel (python3).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
arch=native cache="${YOLODEPLOY_NCNN:-${XDG_CACHE_HOME:-$HOME/.cache}/yolodeploy-ncnn}" version="" sdist="" only=""
jobs=$(nproc) python=${PYTHON:-python3}

say() { echo "build.sh: $*" >&2; }
fail() { say "$*"; exit 1; }

while [ $# -gt 0 ]; do
  case $1 in
    --arch) arch=${2:?}; shift 2 ;;
    --cache) cache=${2:?}; shift 2 ;;
    --version) version=${2:?}; shift 2 ;;
    --sdist) sdist=${2:?}; shift 2 ;;
    --jobs) jobs=${2:?}; shift 2 ;;
    --library-only) only=1; shift ;;
    *) sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done

[ -n "$version" ] || version=$("$python" -c 'from importlib.metadata import version; print(version("ncnn"))' 2> /dev/null) ||
  fail "$python has no ncnn, whose version the runner should have. Install it, set PYTHON, or pass --version."
for tool in cmake make; do
  command -v $tool > /dev/null || fail "needs $tool: apt-get install cmake make g++"
done

options=()
case $arch in
  native)
    command -v c++ > /dev/null || fail "needs a C++ compiler: apt-get install g++"
    # kernels of AMD's processors of 2011 to 2015, and for 16-bit storage, which is off: a sixth of the files
    options+=(-DNCNN_XOP=OFF -DNCNN_FMA4=OFF -DNCNN_AVX512BF16=OFF -DNCNN_AVX512FP16=OFF) ;;
  arm64)
    command -v aarch64-linux-gnu-g++ > /dev/null ||
      fail "needs a compiler for arm64: apt-get install g++-aarch64-linux-gnu"
    options+=("-DCMAKE_TOOLCHAIN_FILE=$here/arm64.cmake") ;;
  android)
    file=${ANDROID_NDK:-}/build/cmake/android.toolchain.cmake
    [ -f "$file" ] || fail "there is no $file. Set ANDROID_NDK to the folder of an NDK."
    say "note: the build with the NDK was never tried by those who wrote this script, for want of an NDK"
    # OpenMP is linked statically, so that one file is pushed; 16 KB pages, as Android 15 wants them
    options+=("-DCMAKE_TOOLCHAIN_FILE=$file" -DANDROID_ABI=arm64-v8a -DANDROID_PLATFORM=android-24
      -DANDROID_STL=c++_static "-DCMAKE_EXE_LINKER_FLAGS=-static-openmp -Wl,-z,max-page-size=16384") ;;
  *) fail "--arch $arch: must be native, arm64 or android" ;;
esac

fetch() { # FOLDER: puts the source distribution there
  # pip refuses the file by its own metadata, whose version is the date of the build; its log has the address.
  say "downloading the sources of ncnn $version"
  local log="$1/pip.log" url
  "$python" -m pip download -v --no-deps --no-binary ncnn --dest "$1" "ncnn==$version" > "$log" 2>&1 || true
  [ -f "$1/ncnn-$version.tar.gz" ] && return
  url=$(grep -o "https\?://[^ #]*/ncnn-$version\.tar\.gz" "$log" | head -n 1) ||
    fail "pip found no sources of ncnn $version: $(tail -n 1 "$log"). Download them and pass --sdist."
  "$python" -m pip download -q --no-deps --dest "$1" "$url" > "$log" 2>&1 ||
    fail "pip cannot download $url: $(tail -n 1 "$log")"
}

check_digest() { # FILE
  local known
  known=$(grep -F "  ncnn-$version.tar.gz" "$here/sources.sha256" | cut -d ' ' -f 1) || true
  if [ -z "$known" ]; then
    say "note: the digest of the sources of ncnn $version is not in sources.sha256, so it was not checked"
  elif [ "$(sha256sum < "$1" | cut -d ' ' -f 1)" != "$known" ]; then
    fail "$1 is not the file whose digest sources.sha256 has. Download it again."
  fi
}

check_arm() { # CACHE FILE of CMake: it leaves the fast kernels out, and says nothing, if the compiler refuses a flag
  local check
  for check in ARM82_FP16 ARM82_DOTPROD ARM82_FP16FML ARM84_BF16 ARM84_I8MM; do
    grep -q "^NCNN_COMPILER_SUPPORT_$check:INTERNAL=1" "$1" ||
      fail "the compiler failed CMake's check COMPILER_SUPPORT_$check: ncnn would lack the kernels of a phone. Use another compiler."
  done
}

build_library() { # PREFIX
  local work layers=() name wanted
  work=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" EXIT
  if [ -z "$sdist" ]; then
    fetch "$work"
    sdist=$work/ncnn-$version.tar.gz
  fi
  check_digest "$sdist"
  tar -xzf "$sdist" -C "$work"
  local source=$work/ncnn-$version
  [ -f "$source/src/CMakeLists.txt" ] || fail "$sdist does not hold the folder ncnn-$version with ncnn's sources"
  wanted=$(grep -v '^#' "$here/layers.txt" | tr '[:upper:]' '[:lower:]')
  for name in $(grep -o 'ncnn_add_layer([A-Za-z0-9]*' "$source/src/CMakeLists.txt" | cut -d '(' -f 2 | tr '[:upper:]' '[:lower:]'); do
    layers+=("-DWITH_LAYER_$name=$(grep -qx "$name" <<< "$wanted" && echo ON || echo OFF)")
  done
  say "building ncnn $version for $arch (minutes of CPU time, once)"
  cmake -S "$source" -B "$work/build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$1.new" \
    -DNCNN_VERSION="${version##*.}" -DNCNN_VULKAN=OFF -DNCNN_BUILD_TOOLS=OFF -DNCNN_BUILD_EXAMPLES=OFF \
    -DNCNN_BUILD_BENCHMARK=OFF -DNCNN_BUILD_TESTS=OFF -DNCNN_PIXEL=OFF -DNCNN_C_API=OFF -DNCNN_PLATFORM_API=OFF \
    -DNCNN_DISABLE_RTTI=OFF -DNCNN_DISABLE_EXCEPTION=OFF "${layers[@]}" "${options[@]}" > "$work/log" 2>&1 ||
    fail "cmake failed: $(tail -n 5 "$work/log")"
  [ "$arch" = native ] || check_arm "$work/build/CMakeCache.txt"
  cmake --build "$work/build" -j "$jobs" > "$work/log" 2>&1 || fail "the build failed: $(grep -m 5 -i error "$work/log")"
  rm -rf "$1.new"
  cmake --install "$work/build" > "$work/log" 2>&1 || fail "cmake --install failed: $(tail -n 5 "$work/log")"
  cp "$here/layers.txt" "$1.new/layers.txt"
  rm -rf "$1" && mv "$1.new" "$1"
}

mkdir -p "$cache"
prefix=$(cd "$cache" && pwd)/$version-$arch
if ! cmp -s "$here/layers.txt" "$prefix/layers.txt"; then
  build_library "$prefix"
fi
if [ -n "$only" ]; then
  echo "$prefix"
  exit
fi

# CMake refuses a folder that was made for other sources: those of another checkout, or of an installed wheel.
grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$here/cpp" "$prefix/runner/CMakeCache.txt" 2> /dev/null || rm -rf "$prefix/runner"
log=$(mktemp)
{
  cmake -S "$here/cpp" -B "$prefix/runner" -DCMAKE_BUILD_TYPE=Release -Dncnn_DIR="$prefix/lib/cmake/ncnn" "${options[@]}" &&
    cmake --build "$prefix/runner" -j "$jobs"
} > "$log" 2>&1 || { cat "$log" >&2; fail "the runner does not build"; }
rm -f "$log"
echo "$prefix/runner/ncnn-runner"
