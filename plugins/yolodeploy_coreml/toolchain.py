"""Importing and running coremltools: what it needs and no more, without its chatter."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Iterator
from typing import Any

# coremltools imports these if they are installed, to convert models that we do not have. Here
# they take two of its three seconds and 170 MB.
_UNUSED = ("executorch", "sklearn", "tensorflow", "torchvision", "transformers", "xgboost")


def coremltools() -> Any:
    """Import coremltools without the optional packages that it looks for.

    `sys.modules[name] = None` is the import system's documented way to make a module
    unavailable; coremltools then skips what needs it. The entries go as soon as it is
    loaded, so nothing else in the process notices.
    """
    hidden = [name for name in _UNUSED if name not in sys.modules]
    if "coremltools" not in sys.modules:
        sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        with quiet():
            import coremltools as loaded
    finally:
        for name in hidden:
            if name in sys.modules and sys.modules[name] is None:
                del sys.modules[name]
    return loaded


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence coremltools' warnings of untested versions and its progress bars on stderr."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
