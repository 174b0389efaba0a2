"""Objects and their masks: prototypes weighted with coefficients, sampled at the pixels of the image."""

from __future__ import annotations

from typing import Any

import detect
import numpy as np
from bundle import Bundle, Found, differences, image_size, offsets, scales
from rle import pack, unpack

# A pixel may come out differently if its value is as close to the threshold as float32 sums are exact.
ROUNDING = 1e-4


def decode(bundle: Bundle) -> Found:
    """The golden results of a segmentation model; `values` are those of the mask before the threshold."""
    mask = bundle.contract["postprocess"]["mask"]
    prototypes = bundle.outputs[mask["prototypes"]]
    found = []
    for candidate in detect.choose(bundle.outputs["output"], bundle.contract):
        one = detect.result(candidate, bundle.golden)
        sums = add_prototypes(prototypes, candidate.numbers)
        values = sample(sums, one["box"], bundle.golden, mask["stride"])
        inside = values > mask["threshold"]
        packed = {"size": list(inside.shape), "counts": pack(inside), "area": int(inside.sum())}
        found.append({**one, "mask": packed, "values": values})
    return found


def add_prototypes(prototypes: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """m[j, i] = sum over c of coefficient[c] * prototypes[c, j, i], without a sigmoid."""
    total = np.zeros(prototypes.shape[1:], np.float32)
    for coefficient, prototype in zip(coefficients, prototypes, strict=True):
        total += coefficient * prototype
    return total


def sample(sums: np.ndarray, box: list[float], golden: dict[str, Any], stride: int) -> np.ndarray:
    """The values at the image's pixels [height, width]; those outside the box are minus infinity."""
    width, height = image_size(golden)
    scale, offset = scales(golden), offsets(golden)
    left, top, right, bottom = box
    values = np.full((height, width), -np.inf)
    columns = [x for x in range(width) if left <= x < right]
    for y in range(height):
        if not top <= y < bottom:
            continue
        v = ((y + 0.5) * scale[1] + offset[1]) / stride - 0.5
        for x in columns:
            u = ((x + 0.5) * scale[0] + offset[0]) / stride - 0.5
            values[y, x] = bilinear(sums, u, v)
    return values


def bilinear(sums: np.ndarray, u: float, v: float) -> float:
    """The value of `m` at (u, v), which are clipped to 0..w - 1 and 0..h - 1."""
    h, w = sums.shape
    u, v = min(max(u, 0.0), w - 1.0), min(max(v, 0.0), h - 1.0)
    i, j = int(u), int(v)
    a, b = u - i, v - j
    right, below = min(i + 1, w - 1), min(j + 1, h - 1)  # at the last pixel its weight is 0
    upper = (1 - a) * sums[j, i] + a * sums[j, right]
    lower = (1 - a) * sums[below, i] + a * sums[below, right]
    return float((1 - b) * upper + b * lower)


def describe(found: dict[str, Any]) -> str:
    """What is printed of a box and its mask."""
    return f"{detect.describe(found)}, mask of {found['mask']['area']} pixels"


def check(found: Found, bundle: Bundle) -> list[str]:
    """Differences from the golden results; pixels within rounding of the threshold may differ."""
    golden = bundle.golden["detections"]
    faults = differences(found, golden)
    if len(found) != len(golden):
        return faults
    threshold = bundle.contract["postprocess"]["mask"]["threshold"]
    for place, (ours, theirs) in enumerate(zip(found, golden, strict=True)):
        wrong = different_pixels(ours, theirs, threshold)
        if wrong:
            faults.append(f"result {place}: {wrong} pixels of the mask are wrong")
    return faults


def different_pixels(
    ours: dict[str, Any], theirs: dict[str, Any], threshold: float, within: float = ROUNDING
) -> int:
    """How many pixels differ whose values are farther from the threshold than `within`."""
    mask, values = unpack(theirs["mask"]), ours["values"]
    if int(mask.sum()) != theirs["mask"]["area"] or mask.shape != values.shape:
        return int(mask.size)
    differ = mask != (values > threshold)
    return int((differ & (np.abs(values - threshold) > within)).sum())


def remark(found: Found, bundle: Bundle) -> str:
    """How many pixels differ in all, those within rounding too."""
    threshold = bundle.contract["postprocess"]["mask"]["threshold"]
    pairs = zip(found, bundle.golden["detections"], strict=False)
    count = sum(different_pixels(ours, theirs, threshold, -1) for ours, theirs in pairs)
    return f"{count} pixels of the masks differ"
