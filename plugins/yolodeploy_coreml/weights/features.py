"""What of a model's outputs an error shows in, in units in which it counts by what it does to the findings.

A score s counts as the angle 2 asin(sqrt(s)), whose error is in units of the standard deviation of a
Bernoulli variable whatever s is, and the corners of the best boxes in units of a twentieth of their
side, the spacing of the IoU thresholds of mAP50-95. So do keypoints. Of masks counts the probability of each pixel in
the box, in units of a twentieth: a mask that is off by a share of its pixels loses that much of its IoU. Squares of all
these, per detection, are the noise; noise of different layers adds up.
"""

from __future__ import annotations

import torch
from torch import Tensor

from yolodeploy.backend import OUTPUT, PROTOTYPES
from yolodeploy_coreml.runtime import Head

_BEST = 100
_SIDE = 0.05
_LEAST, _MOST = 1e-12, 1 - 1e-6  # between these scores the slope of the angle is finite
_BOX = 4
_PLANE = 2  # numbers of a keypoint that are a place


def noise_features(head: Head, found: dict[str, Tensor]) -> tuple[Tensor, float]:
    """Features of the outputs for one image whose squared errors are noise, and how many detections these hold.

    `found` is as `head` gives it, with anchors; its values, without gradients, stand for the float model.
    """
    raw = found[OUTPUT][0]
    exact = raw.detach()
    if head.task == "classify":
        return _angle(raw), 1.0
    plain = _BOX + head.classes
    if head.task == "obb":
        return _rotated_features(raw, exact, plain)
    features, detections = detection_features(raw[:plain], exact[:plain])
    if head.task == "detect":
        return features, detections
    best, confidence = _best(exact[:plain])
    boxes, extras = exact[:_BOX, best], raw[plain:, best]
    if head.task == "segment":
        more = _masks(extras, found[PROTOTYPES][0], boxes / head.size[:, None], confidence)
    else:
        more = _keypoints(extras, head.kpt_shape, boxes, confidence)
    return torch.cat([features, more]), detections


def detection_features(raw: Tensor, exact: Tensor) -> tuple[Tensor, float]:
    """Features of a raw output `[4 + classes, anchors]` whose squared errors are noise.

    `exact` is the output of the float model, which tells the best boxes and their size. Also returns
    how many detections it holds: the sum of the best scores.
    """
    angle = _angle(raw[_BOX:])
    best, confidence = _best(exact)
    centre, half = raw[:2, best], raw[2:4, best] / 2
    corners = torch.cat([centre - half, centre + half])
    scale = _scale(exact[:_BOX, best], confidence, len(corners))
    return torch.cat([angle.flatten(), (corners * scale).flatten()]), float(confidence.sum())


def _rotated_features(raw: Tensor, exact: Tensor, plain: int) -> tuple[Tensor, float]:
    """The same for boxes with an angle in the last row: all four corners count."""
    best, confidence = _best(exact[:plain])
    centre, half, turn = raw[:2, best], raw[2:4, best] / 2, raw[plain, best]
    sine, cosine = turn.sin(), turn.cos()
    across = torch.stack([half[0] * cosine, half[0] * sine])
    down = torch.stack([-half[1] * sine, half[1] * cosine])
    corners = torch.cat([centre + i * across + j * down for i in (-1, 1) for j in (-1, 1)])
    scale = _scale(exact[:_BOX, best], confidence, len(corners))
    features = torch.cat([_angle(raw[_BOX:plain]).flatten(), (corners * scale).flatten()])
    return features, float(confidence.sum())


def _masks(coefficients: Tensor, prototypes: Tensor, boxes: Tensor, confidence: Tensor) -> Tensor:
    """The pixels of the masks of the best boxes `[4, n]`, which are relative to the image, within these."""
    _, height, width = prototypes.shape
    logits = coefficients.T @ prototypes.flatten(1)
    centre, half = boxes[:2, :, None], boxes[2:, :, None] / 2
    across = ((torch.arange(width) + 0.5) / width - centre[0]).abs() <= half[0]
    down = ((torch.arange(height) + 0.5) / height - centre[1]).abs() <= half[1]
    inside = (down[..., None] & across[:, None]).flatten(1)
    pixels = inside.sum(1).clamp(min=1)
    weight = (confidence / pixels).sqrt() / _SIDE
    return (logits.sigmoid() * inside * weight[:, None]).flatten()


def _keypoints(raw: Tensor, shape: tuple[int, int], boxes: Tensor, confidence: Tensor) -> Tensor:
    """The places of the keypoints of the best boxes `[4, n]`, and their visibilities as scores."""
    points = raw.reshape(*shape, -1)
    scale = _scale(boxes, confidence, shape[0] * _PLANE)
    visible = _angle(points[:, _PLANE:]) * (confidence / shape[0]).sqrt()
    return torch.cat([(points[:, :_PLANE] * scale).flatten(), visible.flatten()])


def _angle(scores: Tensor) -> Tensor:
    return 2 * scores.clamp(_LEAST, _MOST).sqrt().asin()


def _best(exact: Tensor) -> tuple[Tensor, Tensor]:
    """The anchors with the best scores, and these."""
    confidence = exact[_BOX:].max(0).values
    best = torch.argsort(confidence, descending=True, stable=True)[:_BEST]
    return best, confidence[best]


def _scale(boxes: Tensor, confidence: Tensor, numbers: int) -> Tensor:
    """The factor with which so many coordinates of a box count together as one shift relative to its side."""
    area = boxes[2:4].prod(0).clamp(min=1)
    return (confidence / (numbers * area)).sqrt() / _SIDE
