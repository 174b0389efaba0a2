"""Runs a command of yolodeploy with the clock set forward.

python -P -m yolodeploy.reproduce.shifted_clock COMMAND...
"""

from __future__ import annotations

import os
import runpy
import time

from yolodeploy.reproduce.variations import AHEAD, CLOCK, FAKETIME

if __name__ == "__main__":
    if os.environ.get(CLOCK) != FAKETIME:  # faketime shifts it for native code too
        import time_machine

        time_machine.travel(time.time() + AHEAD.total_seconds(), tick=True).start()
    runpy.run_module("yolodeploy", run_name="__main__", alter_sys=True)
