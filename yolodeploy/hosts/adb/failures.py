"""What messages of the adb client and of a device's shell mean, and what mends it."""

from __future__ import annotations

from yolodeploy.system import quotable

INSTALL = "adb is not installed. Run: apt-get install adb (or install Android's platform-tools)"
GONE = (
    "the device was lost while it worked (the cable, or its adb). Connect it again and run again."
)

# By what the messages contain, in lower case; the first that fits. Those of the client are in its sources, packages/modules/adb.
_KNOWN = (
    (
        "unauthorized",
        "the device does not allow this computer yet. Unlock it, confirm the question for USB debugging there, and run again.",
    ),
    (
        "no devices/emulators found",
        "adb finds no device. Connect one, and switch USB debugging on in its developer options.",
    ),
    (
        "more than one device",
        "adb finds several devices. Name one as `serial` in hosts.toml; `adb devices` lists them.",
    ),
    ("device offline", "the device is offline. Unplug and connect it again, or restart its adb."),
    (
        "no permissions",
        "this user may not use the USB device. Install Android's udev rules (apt-get install android-sdk-platform-tools-common).",
    ),
    (
        "insufficient permissions",
        "this user may not use the USB device. Install Android's udev rules (apt-get install android-sdk-platform-tools-common).",
    ),
    (
        "cannot connect to daemon",
        "the server of adb does not start. Run: adb kill-server; adb start-server",
    ),
    (
        "failed to start daemon",
        "the server of adb does not start. Run: adb kill-server; adb start-server",
    ),
    ("no space left", "its storage is full. Free some space there, or remove {folder}."),
    ("is the disk full", "its storage is full. Free some space there, or remove {folder}."),
    ("read-only file system", "{folder} cannot be written. Name another `folder` in hosts.toml."),
    (
        "permission denied",
        "{folder} cannot be written or run from. Name another `folder` in hosts.toml.",
    ),
    ("protocol fault", GONE),
    ("connection reset", GONE),
    ("closed", GONE),
)


def explained(said: str, serial: str, folder: str) -> str:
    """Why something failed, with the remedy; the last line of what was said if it is not known."""
    text = said.lower()
    if serial and f"device '{serial.lower()}' not found" in text:
        return f"adb finds no device `{serial}`. Connect it, or correct `serial` in hosts.toml; `adb devices` lists them."
    if meaning := known(said, folder):
        return meaning
    lines = said.strip().splitlines()
    return quotable(lines[-1], 300) if lines else GONE


def known(said: str, folder: str) -> str | None:
    """What a message that is known means, with the remedy."""
    text = said.lower()
    found = (meaning.replace("{folder}", folder) for part, meaning in _KNOWN if part in text)
    return next(found, None)
