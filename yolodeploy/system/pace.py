"""How fast work goes, and how long it still takes, from what it reports."""

from __future__ import annotations

import re
from collections import deque

_WINDOW = 60.0  # seconds of reports that an estimate rests on
_LEAST = 1.0  # seconds of reports before there is one
_STALL = 10  # times the usual time between reports, after which the machine has slept
_LONG = 3.0  # seconds after which the time that has passed is worth a word
_COUNTED = re.compile(r"(\d+)/\d+\b")  # "12/300 calibration images"
_TURNS = re.compile(r"(\w+) (\d+)/\d+\b")  # "epoch 3/10"
_Counts = deque[tuple[float, int]]  # time, number of things or turns


class Pace:
    """Reports of one piece of work that began at `start`, in seconds. A resumed one goes on where its first report is."""

    def __init__(self, start: float) -> None:
        self.start = start
        self._shares = deque[tuple[float, float]]()  # time, share that is done
        self._things, self._turns = _Counts(), _Counts()

    def take(self, now: float, done: float, text: str) -> None:
        """Take a report: at a time in seconds, a share in 0..1, and what it says."""
        if self._slept(now):
            for reports in (self._shares, self._things, self._turns):
                reports.clear()
        if self._shares and done < self._shares[-1][1]:  # something new began
            self._shares.clear()
        self._shares.append((now, done))
        found, turn = _COUNTED.match(text), _TURNS.match(text)
        _count(self._things, now, int(found[1]) if found else None)
        if not (turn and self._turns and self._turns[-1][1] == int(turn[2])):
            _count(self._turns, now, int(turn[2]) if turn else None)
        for kept in (self._shares, self._things):
            while len(kept) > 2 and now - kept[0][0] > _WINDOW:
                kept.popleft()

    def _slept(self, now: float) -> bool:
        """Whether reports paused for so long that the machine must have slept."""
        if len(self._shares) < 3:
            return False
        first, last = self._shares[0][0], self._shares[-1][0]
        usual = (last - first) / (len(self._shares) - 1)
        return now - last > max(_WINDOW, _STALL * usual)

    def left(self, now: float) -> float | None:
        """Seconds that the work will still take; None if nothing tells, or it takes longer than it seemed."""
        if len(self._shares) < 2:
            return None
        (before, from_), (after, to) = self._shares[0], self._shares[-1]
        if after - before < _LEAST or to <= from_:
            return None
        left = (1 - to) * (after - before) / (to - from_) - (now - after)
        return max(0.0, left) if left > -_LEAST else None

    def rate(self, text: str) -> str:
        """How many of the things that a text counts are done in a second, or seconds for each; "" if nothing tells."""
        if _COUNTED.match(text):
            return _rate(self._things, "/s", "s each")
        if found := _TURNS.match(text):
            return _rate(self._turns, f" {found[1]}s/s", f"s/{found[1]}")
        return ""


def _count(counts: _Counts, now: float, number: int | None) -> None:
    if number is None or (counts and number < counts[-1][1]):
        counts.clear()
    if number is not None:
        counts.append((now, number))


def _rate(counts: _Counts, many: str, slow: str) -> str:
    if len(counts) < 2:
        return ""
    seconds, number = (last - first for first, last in zip(counts[0], counts[-1], strict=True))
    if seconds < _LEAST or number <= 0:
        return ""
    if number >= seconds:
        return f"{number / seconds:.3g}{many}"
    return f"{seconds / number:.3g} {slow}"


def clock(seconds: float) -> str:
    """A length of time as minutes and seconds, or hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def progress_text(pace: Pace, now: float, text: str) -> str:
    """What a progress line says after the share: time that is left, or has passed, what the work says, and how fast it goes."""
    left, passed = pace.left(now), now - pace.start
    time = f"{clock(passed)} so far" if passed >= _LONG else ""
    if left is not None:
        time = f"{clock(left)} left"
    return ", ".join(filter(None, (time, text, pace.rate(text))))
