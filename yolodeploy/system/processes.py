"""Start other Python processes that import the same code as this one, and nothing from the current folder."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import MutableMapping

PASSPHRASE = "YOLODEPLOY_KEY_PASSPHRASE"  # noqa: S105 - the name of the variable
IN_PROCESS = "YOLODEPLOY_IN_PROCESS"  # if set, steps run in the command's own process
_PARENT_DEATH_SIGNAL = 1  # Linux: PR_SET_PDEATHSIG
_THREADING = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_NUM_THREADS", "TBB_")


def python_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module; -P, because the current folder may hold a stranger's `json.py`."""
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment(*, own_threading: bool = False) -> dict[str, str]:
    """This process's environment with its import path, but without the passphrase of the signing key.

    With `own_threading` also without what decides how threads are started, placed and made to wait: the child's
    runtimes do that in their own way.
    """
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)  # noqa: PTH100
    dropped = (PASSPHRASE, *(_THREADING if own_threading else ()))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "PYTHONPATH": path}


def end_with_parent(parent: int) -> None:
    """Ask Linux to end this process at once when the thread that started it ends; `parent` was its process at first."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGKILL)


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let idle OpenMP threads sleep, unless the user chose otherwise; call it before they can start, here or in a child.

    By default they spin while they wait for each other. Beside any other busy process two of them then take
    many times as long as one. Latencies are not measured like this, see `child_environment`.
    """
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    environment.setdefault("GOMP_SPINCOUNT", "0")
