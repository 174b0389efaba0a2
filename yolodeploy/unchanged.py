"""Whether what a step read is what was planned: weights and images may be written to while a build runs.

An id stands for the inputs as they were when the plan was made. A result of other inputs must not be kept
under it, so files are read once more when a step is done with them, before its result is kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from yolodeploy import reading
from yolodeploy.digest import StatCache, file_digest
from yolodeploy.errors import DataError, ModelError
from yolodeploy.pinned import verify_pinned
from yolodeploy.plan import Plan, PlannedStep, weights_path
from yolodeploy.yamlfile import shown

_AGAIN = "Nothing of it was kept. Run it again when nobody writes there any more."


def require_unchanged(plan: Plan, planned: PlannedStep) -> None:
    """Raise ModelError or DataError if something that a step reads is not what was planned."""
    if planned.step.accepts.startswith("."):
        _require_weights(plan)
    verify_pinned(planned.params, planned.at, forgetful(), plan.file.trust)
    require_views(plan, planned.step.needs(planned.params))


def require_views(plan: Plan, names: Iterable[str], cache: StatCache | None = None) -> None:
    """Raise DataError if images or labels of a view changed; `cache` spares files that were just read."""
    for name in names:
        if plan.views[name].digest(cache or forgetful()) != plan.view_digests[name]:
            at = plan.file.where("data", name)
            raise DataError(f"{at}: {name} images or labels changed meanwhile. {_AGAIN}")


def _require_weights(plan: Plan) -> None:
    path = weights_path(plan)
    try:
        same = file_digest(path, reading.MODEL_BYTES) == plan.weights_digest
    except OSError:
        same = False
    if not same:
        at = plan.file.where("model", "weights")
        raise ModelError(f"{at}: {shown(path)} changed meanwhile. {_AGAIN}")


def forgetful() -> StatCache:
    """A cache that knows nothing of earlier runs, and is not kept."""
    return StatCache(Path(os.devnull))
