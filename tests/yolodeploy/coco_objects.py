"""The reference of average precision of masks and poses: COCO's evaluation by faster-coco-eval."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval import mask_api_new_cpp as mask_api
from numpy.typing import NDArray

from yolodeploy.tasks.segment import Masks

RECALLS = (np.arange(100) + 0.5) / 100
AREAS = [[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]]
Table = NDArray[np.float64]  # AP [IoU thresholds, classes, areas], NaN without labels


def table(
    labels: Sequence[dict[str, Any]],
    found: Sequence[dict[str, Any]],
    sizes: Sequence[tuple[int, int]],
    classes: int,
    kind: str,
    spreads: NDArray[np.float64] | None = None,
) -> Table:
    """AP of all, small, medium and large objects.

    Labels and findings are annotations with image_id, category_id, area and what they are; `sizes` are the width and height of
    image 0 and so on, `kind` is "segm" or "keypoints".
    """
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval_faster(
            _coco(labels, sizes, classes), _coco(found, sizes, classes), kind
        )
        parameters = evaluation.params
        parameters.maxDets, parameters.recThrs = [300], RECALLS
        parameters.catIds = list(range(classes))
        parameters.areaRng, parameters.areaRngLbl = AREAS, ["all", "small", "medium", "large"]
        if spreads is not None:
            parameters.kpt_oks_sigmas = spreads
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0]  # thresholds, recalls, classes, areas
    average: Table = np.where(precision < 0, np.nan, precision).mean(axis=1)
    return average


def figures(average: Table) -> list[float]:
    """mAP50-95, mAP50, AP of small, medium and large objects, and of each class."""
    every, *sizes = np.moveaxis(average, 2, 0)
    means = [_mean(every), _mean(every[0]), *map(_mean, sizes)]
    return [*means, *every.mean(0).tolist()]


def pixels(masks: Masks, which: int) -> NDArray[np.bool_]:
    """One mask as flags `[height, width]`, as COCO's code decodes it."""
    flags: NDArray[np.bool_] = mask_api.decode([masks.coco()[which]])[:, :, 0].astype(np.bool_)
    return flags


def _mean(values: Table) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _coco(rows: Sequence[dict[str, Any]], sizes: Sequence[tuple[int, int]], classes: int) -> COCO:
    images = [{"id": n, "width": w, "height": h} for n, (w, h) in enumerate(sizes)]
    annotations = [{"id": n, "iscrowd": 0, **row} for n, row in enumerate(rows, 1)]
    categories = [{"id": number, "name": str(number)} for number in range(classes)]
    return COCO({"images": images, "annotations": annotations, "categories": categories})
