"""Ends a process that takes longer than it may, so that a host that falls silent is an answer, too."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator

_LOOK = 0.2  # seconds


class Watchdog:
    """Watches one process; `late` is for how many seconds it was waited for in vain, 0 if it never was."""

    late = 0.0

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process, self._until, self._patience = process, float("inf"), 0.0
        self._closed = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    @contextlib.contextmanager
    def patient(self, seconds: float) -> Iterator[None]:
        """End the process if what happens within takes longer."""
        self._patience, self._until = seconds, time.monotonic() + seconds
        try:
            yield
        finally:
            self._until = float("inf")

    def close(self) -> None:
        """Watch no longer."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(_LOOK):
            if time.monotonic() > self._until:
                self.late = self._patience
                self._process.kill()
                return
