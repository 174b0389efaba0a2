#!/bin/sh
# An adb client whose device is a folder of this machine, and which fails as the real one does.
#
# FAKE_ADB says how, or `cut N`: the cable comes off at the Nth command, which prints half and exits with 0. FAKE_ADB_COUNT
# names a file in which the commands are counted, FAKE_TOOLS a folder with tools of the device.
[ "$1" = "-s" ] && shift 2
[ "$1" = "start-server" ] && exit 0
fail() { echo "$1" >&2; exit 1; }
case "$FAKE_ADB" in
none) fail "adb: no devices/emulators found" ;;
unauthorized) fail "error: device unauthorized.
This adb server's \$ADB_VENDOR_KEYS is not set
Try 'adb kill-server' if that seems wrong.
Otherwise check for a confirmation dialog on your device." ;;
offline) fail "error: device offline" ;;
several) fail "error: more than one device/emulator" ;;
other) fail "error: device 'X123' not found" ;;
forbidden) fail "error: insufficient permissions for device: user in plugdev group; are your udev rules wrong?" ;;
server) fail "error: cannot connect to daemon" ;;
silent) exec sleep 60 ;;
floods) exec cat /dev/zero ;;
code)
  for script; do :; done
  mark=${script##*echo }
  printf '\n%s %05000d\n' "${mark% *}" 7
  exit 0
  ;;
"floods results") [ "$1" = "exec-out" ] && exec cat /dev/zero ;;
full) [ "$1" = "push" ] && fail "adb: error: failed to copy 'a' to '/data/b': remote No space left on device" ;;
esac
act() {
  if [ "$1" = "push" ]; then
    cp -r "$2" "$3/" && echo "1 file pushed"
  else
    for script; do :; done
    PATH="$FAKE_TOOLS:$PATH" sh -c "$script"
  fi
}
printf x >>"$FAKE_ADB_COUNT"
if [ "$FAKE_ADB" = "cut $(wc -c <"$FAKE_ADB_COUNT" | tr -d ' ')" ]; then
  act "$@" >"$FAKE_ADB_COUNT.out"
  head -c $(($(wc -c <"$FAKE_ADB_COUNT.out") / 2)) "$FAKE_ADB_COUNT.out"
  exit 0
fi
act "$@"
