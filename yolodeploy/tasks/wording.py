"""What reports call the measures and findings of each task."""

from __future__ import annotations

from collections.abc import Mapping

from yolodeploy.tasks.measures import Key

TITLES: Mapping[str, str] = {
    Key.MAP50_95: "mAP50-95",
    Key.MAP50: "mAP50",
    Key.MASK_MAP50_95: "mask mAP50-95",
    Key.MASK_MAP50: "mask mAP50",
    Key.POSE_MAP50_95: "pose mAP50-95",
    Key.POSE_MAP50: "pose mAP50",
    Key.TOP1: "top-1",
    Key.TOP5: "top-5",
    Key.DIVERGENCE: "divergence",
}
COLUMNS: Mapping[str, str] = {  # of a narrow table
    Key.MAP50_95: "mAP50-95",
    Key.MASK_MAP50_95: "mask mAP",
    Key.POSE_MAP50_95: "pose mAP",
    Key.TOP1: "top-1",
}
FINDINGS: Mapping[str, str] = {  # by task
    "detect": "detections",
    "segment": "masks",
    "pose": "poses",
    "obb": "rotated boxes",
    "classify": "answers",
}
_UNITS = {"px": " px", "rad": " rad"}


def difference_name(group: str) -> tuple[str, str]:
    """What a kind of outputs is called, and its unit: "boxes_px" is ("boxes", " px")."""
    name, _, unit = group.rpartition("_")
    return (
        (name.replace("_", " "), _UNITS[unit]) if unit in _UNITS else (group.replace("_", " "), "")
    )


def golden_file(task: str) -> str:
    """Where a bundle has what was found in the golden image."""
    return f"golden/{'classes' if task == 'classify' else 'detections'}.json"
