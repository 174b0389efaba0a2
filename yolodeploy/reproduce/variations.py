"""Other conditions for a build: folder, user, time zone, locale, umask, hash seed and clock.

If a build depends on any of these, two builds that differ in all of them give different bytes.
"""

from __future__ import annotations

import locale
import os
import re
import shutil
import site
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from yolodeploy.errors import EnvironmentProblem
from yolodeploy.system import IN_PROCESS, child_environment, missing, python_command

AHEAD = timedelta(days=403, hours=7, minutes=11)  # another year, month, weekday and season
FAKETIME = "faketime"  # sets the clock of native code too, where it is installed
CLOCK = "YOLODEPLOY_REPRODUCECLOCK"  # what shifts the clock
# An outer clock, and folders that are below the home folder by default.
_NOT_INHERITED = ("FAKETIME", "XDG_")
_ZONES = ("<+1345>-13:45", "<-0330>3:30")  # POSIX form: needs no time zone files
_LOCALES = ("C", "C.UTF-8")
_UMASKS = (0o077, 0o022)


@dataclass(frozen=True)
class Variations:
    """The conditions of a build below a folder: environment variables, umask and clock."""

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

    def run(self, command: list[str], on_line: Callable[[str], None]) -> tuple[int, str]:
        """Run a command of yolodeploy; returns its exit code and its standard output.

        `on_line` gets the lines of its standard error. The process has ended when this returns or raises.
        """
        clock = [self.faketime, "-f", f"+{AHEAD.days}d"] if self.faketime else []
        with (self.home / "printed").open("w+", encoding="utf-8") as output:
            with subprocess.Popen(
                [*clock, *python_command("yolodeploy.reproduce.shifted_clock", *command)],
                cwd=self.home / "work",
                env=self.environment,
                umask=self.umask,
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            ) as process:
                try:
                    for line in process.stderr or ():
                        on_line(line.rstrip("\n"))
                    code = process.wait()
                except BaseException:
                    process.terminate()
                    process.wait()  # after Ctrl-C, leaving the block would not wait
                    raise
            output.seek(0)
            return code, output.read()


def vary(home: Path) -> Variations:
    """Conditions that differ from this process's, with their own folders below `home`.

    Raises EnvironmentProblem where nothing that can shift the clock is installed.
    """
    faketime = shutil.which(FAKETIME)
    if not faketime and (problem := missing("reproduce", "time-machine")):
        raise EnvironmentProblem(f"the clock cannot be shifted: {problem}, or install {FAKETIME}.")
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
        "PYTHONUSERBASE": site.getuserbase(),  # the user's packages stay where they are
        "YOLODEPLOY_STORE": "",  # nothing may be fetched
        "MALLOC_PERTURB_": "165",  # glibc fills new memory with it, which shows in unset bytes
        IN_PROCESS: "1",  # whose clock is shifted
        CLOCK: FAKETIME if faketime else "python",
    }
    other_umask = next(mask for mask in _UMASKS if mask != umask)
    return Variations(home, {**_inherited(), **changed}, other_umask, faketime)


def _inherited() -> dict[str, str]:
    """This process's environment without what would look like one of our changes, or undo one."""
    kept = {k: v for k, v in child_environment().items() if not k.startswith(_NOT_INHERITED)}
    libraries = re.split("[ :]", kept.pop("LD_PRELOAD", ""))
    kept_libraries = ":".join(name for name in libraries if name and "libfaketime" not in name)
    return {**kept, "LD_PRELOAD": kept_libraries} if kept_libraries else kept


def _other(values: tuple[str, ...], current: str | None) -> str:
    return next(value for value in values if value != current)
