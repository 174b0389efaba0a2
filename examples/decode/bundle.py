"""What every decoder needs: a bundle's contract, labels and golden vectors, the way back to the image, the comparison."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Found = list[dict[str, Any]]  # in the form of the golden results

ORDER = ("output", "prototypes")  # of the golden outputs

# Golden results are rounded to 3 decimals (pixels) and 6 (all else): one unit of the last place may differ.
PIXEL, SCORE = 1.01e-3, 1.01e-6
TOLERANCES: dict[str, Any] = {
    "score": SCORE,
    "probability": SCORE,
    "angle": SCORE,
    "box": PIXEL,
    "centre": PIXEL,
    "size": PIXEL,
    "corners": PIXEL,
    "keypoints": (PIXEL, PIXEL, SCORE),
}


@dataclass(frozen=True)
class Bundle:
    """What `yolodeploy deploy` writes for an app, without the artifact.

    `input` is the tensor of the golden image; `outputs` are the arrays that the artifact returned
    for it, by the names of the contract ("output", for segmentation also "prototypes"), without a
    batch axis; `golden` is what the app must find in them.
    """

    contract: dict[str, Any]
    labels: list[str]
    golden: dict[str, Any]
    input: np.ndarray
    outputs: dict[str, np.ndarray]


def load(folder: Path) -> Bundle:
    """Reads contract.json, labels.txt and the folder golden/."""
    contract = json.loads((folder / "contract.json").read_text(encoding="utf-8"))
    results = folder / contract["golden"]
    golden = json.loads(results.read_text(encoding="utf-8"))
    arrays = {file.stem: np.load(file) for file in sorted(results.parent.glob("*.npy"))}
    return Bundle(
        contract=contract,
        labels=(folder / "labels.txt").read_text(encoding="utf-8").splitlines(),
        golden=golden,
        input=arrays.pop("input"),
        outputs=arrays,
    )


def shape_faults(bundle: Bundle) -> list[str]:
    """Where golden arrays and labels do not fit the shapes that the contract gives."""
    contract, faults = bundle.contract, []
    channels = 1 if contract["colour_order"] == "GREY" else 3
    wanted = (1, channels, *contract["input_size"])
    if bundle.input.shape != wanted:
        faults.append(f"input.npy is {bundle.input.shape}, by the contract {wanted}")
    if len(bundle.labels) != contract["classes"]:
        faults.append(
            f"labels.txt has {len(bundle.labels)} names for {contract['classes']} classes"
        )
    if contract["postprocess"]["nms"] == "artifact":
        return faults  # the golden output is the one before suppression
    # In the order of the contract's `outputs`; a classifier's artifact may also return the best name.
    arrays = [bundle.outputs[name] for name in ORDER if name in bundle.outputs]
    for array, said in zip(arrays, contract["outputs"], strict=False):
        shape = _without_batch(said["shape"])
        if array.shape != shape:
            faults.append(
                f"a golden output is {array.shape}, `{said['name']}` by the contract {shape}"
            )
    return faults


def _without_batch(shape: list[int]) -> tuple[int, ...]:
    return tuple(shape[1:] if len(shape) > 1 and shape[0] == 1 else shape)


def image_size(golden: dict[str, Any]) -> tuple[int, int]:
    """Width and height of the original image."""
    return golden["letterbox"]["width"], golden["letterbox"]["height"]


def scales(golden: dict[str, Any]) -> np.ndarray:
    """The `s` of the letterbox for x and for y; only a stretched input has two."""
    return np.broadcast_to(np.array(golden["letterbox"]["scale"], float), (2,))


def offsets(golden: dict[str, Any]) -> np.ndarray:
    """Left and top of the image in the input, in pixels."""
    return np.array([golden["letterbox"]["left"], golden["letterbox"]["top"]], float)


def to_image(points: np.ndarray, golden: dict[str, Any]) -> np.ndarray:
    """`letterbox.inverse`: x = (x_letterboxed - left) / s; y = (y_letterboxed - top) / s, for points [..., 2]."""
    return (points - offsets(golden)) / scales(golden)


def clip_to_image(points: np.ndarray, golden: dict[str, Any]) -> np.ndarray:
    """Points [..., 2] with x in 0..width and y in 0..height of the original image."""
    return np.clip(points, 0, image_size(golden))


def differences(found: Found, golden: Found) -> list[str]:
    """Where two lists of results differ by more than the rounding of the golden ones; masks are left out."""
    if len(found) != len(golden):
        return [f"{len(found)} found, {len(golden)} golden"]
    return [
        f"result {place}: {key} is {ours[key]}, golden {theirs[key]}"
        for place, (ours, theirs) in enumerate(zip(found, golden, strict=True))
        for key in theirs
        if key != "mask" and not _same(ours[key], theirs[key], TOLERANCES.get(key))
    ]


def _same(ours: Any, theirs: Any, tolerance: Any) -> bool:
    if tolerance is None:
        return bool(ours == theirs)
    return bool((np.abs(np.array(ours) - np.array(theirs)) <= tolerance).all())
