"""A process that is told another place, time, language and user than this one.

    python -P -m yolodeploy.elsewhere COMMAND...

runs a command of yolodeploy with the clock set forward. What a build takes from its surroundings
shows when two builds that differ in all of these give the same bytes.
"""

from __future__ import annotations

import locale
import os
import re
import shutil
import site
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from yolodeploy.child import environment, python

AHEAD = timedelta(days=403, hours=7, minutes=11)  # another year, month, weekday and season
_FAKETIME = "faketime"  # sets the clock of native code too, where it is installed
_CLOCK = "YOLODEPLOY_REPRODUCE_CLOCK"  # who sets it
# Another's clock, and folders that are below the new home if nothing is said of them.
_NOT_INHERITED = ("FAKETIME", "XDG_")
_ZONES = ("<+1345>-13:45", "<-0330>3:30")  # POSIX form: needs no time zone files
_LOCALES = ("C", "C.UTF-8")
_UMASKS = (0o077, 0o022)


@dataclass(frozen=True)
class Elsewhere:
    """The surroundings of a build below a folder: environment variables, umask and clock."""

    home: Path
    environment: Mapping[str, str]
    umask: int
    faketime: str | None

    def described(self) -> dict[str, str]:
        """What differs from this process, for the report."""
        names = ("PYTHONHASHSEED", "TZ", "LC_ALL", "USER", "HOME", "MALLOC_PERTURB_")
        clock = "by faketime, native code included" if self.faketime else "in Python code"
        return {
            "folder": str(self.home),
            **{name: self.environment[name] for name in names},
            "umask": f"{self.umask:03o}",
            "clock": f"{AHEAD.days} days ahead {clock}",
        }

    def run(self, command: list[str], said: Callable[[str], None]) -> tuple[int, str]:
        """Run a command of yolodeploy; returns its exit code and what it printed.

        `said` gets its messages line by line. The process ends before this returns, come what may.
        """
        clock = [self.faketime, "-f", f"+{AHEAD.days}d"] if self.faketime else []
        with (self.home / "printed").open("w+", encoding="utf-8") as printed:
            process = subprocess.Popen(
                [*clock, *python("yolodeploy.elsewhere", *command)],
                cwd=self.home / "work",
                env=self.environment,
                umask=self.umask,
                stdout=printed,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
            try:
                for line in process.stderr or ():
                    said(line.rstrip("\n"))
                code = process.wait()
            finally:
                _end(process)
            printed.seek(0)
            return code, printed.read()


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        process.wait()
    if process.stderr:
        process.stderr.close()


def elsewhere(home: Path) -> Elsewhere:
    """Surroundings that differ from this process's, with folders of their own below `home`."""
    for name in ("work", "home", "tmp"):
        (home / name).mkdir(parents=True)
    umask = os.umask(0)
    os.umask(umask)
    changed = {
        "PYTHONHASHSEED": "4321" if os.environ.get("PYTHONHASHSEED") != "4321" else "1234",
        "TZ": _other(_ZONES, os.environ.get("TZ")),
        "LC_ALL": _other(_LOCALES, locale.setlocale(locale.LC_CTYPE)),
        "LANG": "C",
        "USER": "somebody",
        "LOGNAME": "somebody",
        "USERNAME": "somebody",
        "HOME": str(home / "home"),
        "TMPDIR": str(home / "tmp"),
        "PYTHONUSERBASE": site.getuserbase(),  # packages of the user, who has another home now
        "YOLODEPLOY_STORE": "",  # an empty store is to stay empty
        "MALLOC_PERTURB_": "165",  # glibc fills fresh memory with it: unset bytes show
        _CLOCK: _FAKETIME if (faketime := shutil.which(_FAKETIME)) else "python",
    }
    return Elsewhere(
        home,
        {**_inherited(), **changed},
        next(mask for mask in _UMASKS if mask != umask),
        faketime,
    )


def _inherited() -> dict[str, str]:
    """This process's environment without what would pass for a change of ours, or undo one."""
    kept = {k: v for k, v in environment().items() if not k.startswith(_NOT_INHERITED)}
    libraries = re.split("[ :]", kept.pop("LD_PRELOAD", ""))
    others = ":".join(name for name in libraries if name and "libfaketime" not in name)
    return {**kept, "LD_PRELOAD": others} if others else kept


def _other(values: tuple[str, ...], current: str | None) -> str:
    return next(value for value in values if value != current)


def main() -> int:
    """Set the clock forward, unless faketime already did, and run the command."""
    if os.environ.get(_CLOCK) != _FAKETIME:
        import time_machine

        time_machine.travel(time.time() + AHEAD.total_seconds(), tick=True).start()
    from yolodeploy import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
