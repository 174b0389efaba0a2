"""Reads damaged files in a child process, and counts what comes of it.

    python fuzzing.py PARSER FIRST LAST SEED FOLDER

Every input is made from (parser, number, seed) alone, so that each can be made again. A child says
which input it reads before it does, so that the one that brings it down is known; another
goes on behind it.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from fuzz_parsers import PARSERS, Parser

from yolodeploy.errors import YolodeployError

SECONDS, MEGABYTES = 5.0, 1024  # that one input may take
_LONGEST = 4000  # characters of a message
_HERE = Path(__file__).parent


@dataclass
class Row:
    """What the inputs of one parser came to; `faults` has some of them, with their numbers."""

    parser: str
    inputs: int = 0
    refused: int = 0
    accepted: int = 0
    slowest: float = 0.0
    peak_mb: float = 0.0
    crashes: int = 0
    faulty: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)

    def line(self) -> str:
        """One line of the table."""
        return (
            f"{self.parser:<28} {self.inputs:>7} {self.refused:>8} {self.accepted:>9} {self.faulty:>7} "
            f"{self.slowest:>7.2f} {self.peak_mb:>7.0f}"
        )


HEAD = f"{'parser':<28} {'inputs':>7} {'refused':>8} {'accepted':>9} {'faults':>7} {'s max':>7} {'MB max':>7}"


class _Hung(BaseException):
    """Raised by the alarm."""


def damaged(parser: Parser, name: str, number: int, seed: int, folder: Path) -> tuple[str, bytes]:
    """The file that is damaged, and its bytes."""
    rng = Random(f"{name}:{seed}:{number}")
    file = parser.files[number % len(parser.files)]
    mutators = [*parser.mutators, *parser.special()]
    data = (folder / file).read_bytes()
    return file, rng.choice(mutators)(data, rng)


def child(name: str, first: int, last: int, seed: int, seeds: Path) -> dict[str, Any]:
    """Read the inputs `first` to `last` in this process."""
    parser, row = PARSERS[name], Row(name)
    work = Path(f"{seeds}-{os.getpid()}")
    shutil.copytree(seeds, work)
    signal.signal(signal.SIGALRM, _alarm)
    try:
        parser.read(work)  # imports what is imported late
        before = _status("VmRSS")
        address = _status("VmSize") + MEGABYTES
        resource.setrlimit(resource.RLIMIT_AS, (int(address * 1e6), resource.RLIM_INFINITY))
        for number in range(first, last):
            file, data = damaged(parser, name, number, seed, seeds)
            (work / file).unlink(missing_ok=True)
            (work / file).write_bytes(data)
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()
            _one(parser, work, number, row)
            _restore(seeds, work, file)
        row.peak_mb = max(0.0, _status("VmHWM") - before)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return vars(row)


def _one(parser: Parser, work: Path, number: int, row: Row) -> None:
    row.inputs += 1
    start = time.process_time()
    signal.setitimer(signal.ITIMER_REAL, 10 * SECONDS)
    try:
        parser.read(work)
        row.accepted += 1
    except YolodeployError as error:
        row.refused += 1
        if not 0 < len(str(error)) < _LONGEST or "Traceback" in str(error):
            _fault(row, number, f"says: {str(error)[:300]!r}")
    except (Exception, _Hung):  # noqa: BLE001 - whatever it is, it is what is looked for
        _fault(row, number, traceback.format_exc(limit=-6)[-1800:])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    took = time.process_time() - start
    row.slowest = max(row.slowest, took)
    if took > SECONDS:
        _fault(row, number, f"took {took:.1f} s")


def _fault(row: Row, number: int, text: str) -> None:
    row.faulty += 1
    if len(row.faults) < 40:
        row.faults.append((number, text))


def _alarm(*_: object) -> None:
    raise _Hung


def _restore(seeds: Path, work: Path, file: str) -> None:
    if not (work / file).parent.is_dir():  # the reader removed what was damaged
        shutil.copytree((seeds / file).parent, (work / file).parent)
    (work / file).unlink(missing_ok=True)
    shutil.copyfile(seeds / file, work / file)


def _status(key: str) -> float:
    """A figure of this process in megabytes."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(text.split(f"{key}:")[1].split()[0]) / 1e3


def fuzz(name: str, count: int, seed: int, seeds: Path) -> Row:
    """Read `count` damaged inputs of one parser; a child that dies counts one crash."""
    row, first = Row(name), 0
    while first < count:
        script = str(_HERE / "fuzzing.py")
        command = [sys.executable, script, name, str(first), str(count), str(seed), str(seeds)]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENCV_LOG_LEVEL": "OFF"}
        limit = 60 + SECONDS * count
        done = subprocess.run(command, env=env, capture_output=True, check=False, timeout=limit)
        rows = done.stdout.decode(errors="replace").strip().splitlines()
        if done.returncode == 0:
            _add(row, json.loads(rows[-1]))
            break
        numbers = [line for line in rows if line.isdecimal()]
        if not numbers:
            raise RuntimeError(f"{name}: {done.stderr.decode(errors='replace')[-3000:]}")
        at = int(numbers[-1])
        row.inputs += at + 1 - first
        row.crashes += 1
        row.faulty += 1
        row.faults.append((at, f"the process ended with {done.returncode}: {done.stderr[-600:]!r}"))
        first = at + 1
    return row


def _add(row: Row, found: dict[str, Any]) -> None:
    row.inputs += found["inputs"]
    row.refused += found["refused"]
    row.accepted += found["accepted"]
    row.faulty += found["faulty"]
    row.slowest = max(row.slowest, found["slowest"])
    row.peak_mb = max(row.peak_mb, found["peak_mb"])
    row.faults += [(number, text) for number, text in found["faults"]]


if __name__ == "__main__":
    _, wanted, start, end, seeded, where = sys.argv
    found = child(wanted, int(start), int(end), int(seeded), Path(where))
    sys.stdout.write(json.dumps(found) + "\n")
