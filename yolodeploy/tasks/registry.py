"""The tasks by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yolodeploy.data import TASKS
from yolodeploy.errors import StepFailed
from yolodeploy.tasks.classify import Classify
from yolodeploy.tasks.detection import Detect
from yolodeploy.tasks.obb import Obb
from yolodeploy.tasks.pose import Pose
from yolodeploy.tasks.segment import Segment

if TYPE_CHECKING:
    from yolodeploy.backend import ModelInfo
    from yolodeploy.tasks.task import Task


def task_of(info: ModelInfo) -> Task[Any, Any]:
    """What a model does, bound to its classes; StepFailed for a task that is not known."""
    if info.task == "detect":
        return Detect(info.names)
    if info.task == "segment":
        return Segment(info.names)
    if info.task == "pose":
        if info.kpt_shape is None:
            raise StepFailed(
                "a pose model must say its `kpt_shape`, and this one does not. Report it to the author of the plugin that "
                "loaded it."
            )
        return Pose(info.names, info.kpt_shape)
    if info.task == "obb":
        return Obb(info.names)
    if info.task == "classify":
        return Classify(info.names)
    raise StepFailed(
        f"a model for the task `{info.task}` cannot be measured; allowed: {', '.join(TASKS)}. Report it to the author of the "
        "plugin that loaded it."
    )
