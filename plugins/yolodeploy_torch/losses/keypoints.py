"""The loss of keypoints on labels (YOLO-Pose, https://arxiv.org/abs/2204.06806).

A keypoint lacks 1 - exp(-d^2 / (2 s^2 k^2)) to its place: what is missing to a similarity of 1 by the measure of poses
(OKS), where d is the distance, s^2 the area of the labelled box, and k twice the spread of the keypoint. Only labelled
keypoints count. Where a keypoint has a visibility, that is trained to say whether it is labelled. Every anchor that
learns the object learns its keypoints.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from yolodeploy.tasks.pose import spreads
from yolodeploy_torch.losses.anchors import flat, taken
from yolodeploy_torch.losses.assigner import Matches
from yolodeploy_torch.model import Logits

KEYPOINT_GAIN, VISIBLE_GAIN = 12.0, 1.0
_PLANE = 2  # numbers of a keypoint that are a place
_EPS = 1e-9


def keypoint_losses(
    logits: Logits, shape: tuple[int, int], keypoints: Tensor, boxes: Tensor, matches: Matches
) -> dict[str, Tensor]:
    """The losses of a head with keypoints of this shape, means over the matches, times their gains.

    `keypoints` [n, K, 3] are the labelled x and y in px, and a visibility, 0 if there is no label; `boxes` [n, 4] left,
    top, right, bottom in px.
    """
    truth, box = keypoints[matches.box], boxes[matches.box]
    labelled = (truth[..., _PLANE] > 0).float()
    area = (box[:, 2:] - box[:, :2]).prod(1).clamp(min=1)
    spread = torch.tensor(spreads(shape[0]), dtype=torch.float32, device=box.device)
    places = taken(logits.extra, matches).view(-1, *shape)[..., :_PLANE]
    distance = (places - truth[..., :_PLANE]).square().sum(2)
    missing = 1 - (-distance / (2 * area[:, None] * (2 * spread).square())).exp()
    count = max(len(box), 1)
    off = (missing * labelled).sum(1) / (labelled.sum(1) + _EPS)
    losses = {"keypoints": KEYPOINT_GAIN * off.sum() / count}
    if shape[1] > _PLANE:
        visible = taken(flat(logits.extras), matches).view(-1, *shape)[..., _PLANE]
        cross = functional.binary_cross_entropy_with_logits(visible, labelled, reduction="none")
        losses["visibility"] = VISIBLE_GAIN * cross.mean(1).sum() / count
    return losses
