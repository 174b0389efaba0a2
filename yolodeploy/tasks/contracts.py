"""What a contract says of the outputs of each task; imports nothing heavy, for an unchanged deployment reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yolodeploy.backend import Layout, ModelInfo
    from yolodeploy.tasks.thresholds import Rules


def postprocess_of(info: ModelInfo, rules: Rules, layout: Layout) -> Mapping[str, Any]:
    """How an app decodes the outputs of a model: the exact steps, formulas, units and order, as plain data."""
    from yolodeploy.tasks import classify, detection, obb, pose, segment

    match info.task:
        case "segment":
            return segment.segment_postprocess(rules, layout)
        case "pose" if info.kpt_shape:
            return pose.pose_postprocess(rules, layout, info.kpt_shape)
        case "obb":
            return obb.obb_postprocess(rules, layout, len(info.names))
        case "classify":
            return classify.classify_postprocess(rules, len(info.names))
        case _:
            return detection.box_postprocess(rules, layout)
