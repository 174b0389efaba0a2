"""Assign anchors to labelled boxes: task-aligned assignment.

From TOOD (Feng et al., https://arxiv.org/abs/2108.07755): an anchor is aligned with a box to the
degree that it both scores the box's class and overlaps the box. Only matches of a box and an anchor
inside it are looked at, so the cost follows the area of the boxes, not their number times all anchors.

A head that gives no duplicates is trained on one anchor per object: the best of those that a head which may give
many is trained on. Both agree on what is best (consistent dual assignments, https://arxiv.org/abs/2405.14458).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from yolodeploy_torch.losses.iou import ciou

TOP_K = 10  # anchors that a box gets at most
_SCORE_POWER = 0.5
_OVERLAP_POWER = 6.0
_INSIDE = 1e-9  # px
_EPS = 1e-9


class Matches(NamedTuple):
    """Matches of a labelled box and an anchor: the box's index, its image, and the anchor's index."""

    box: Tensor
    image: Tensor
    anchor: Tensor

    def take(self, chosen: Tensor) -> Matches:
        """The matches that a mask or an index selects."""
        return Matches(self.box[chosen], self.image[chosen], self.anchor[chosen])


def find_candidates(corners: Tensor, image: Tensor, points: Tensor, least: int) -> Matches:
    """All matches whose anchor lies inside the box, whose sides count as at least `least` px long.

    `corners` are the boxes [n, 4] as left, top, right, bottom and `points` [2, A] the anchors' centres, in px;
    `image` [n] is the image of each box. Without `least` a small object could miss all anchors, or all of a
    level (small-target-aware assignment, as Ultralytics 8.4 trains).
    """
    centre = (corners[:, :2] + corners[:, 2:]) / 2
    half = (corners[:, 2:] - corners[:, :2]).clamp(min=least) / 2
    left_top, right_bottom = (centre - half)[..., None], (centre + half)[..., None]
    inside = torch.minimum(points - left_top, right_bottom - points).amin(1) > _INSIDE
    box, anchor = inside.nonzero(as_tuple=True)
    return Matches(box, image[box], anchor)


def find_rotated_candidates(rotated: Tensor, image: Tensor, points: Tensor, least: int) -> Matches:
    """The same for rotated boxes [n, 5]: centre x and y, width, height in px, angle in radians."""
    away = points - rotated[:, :2, None]
    cos, sin = rotated[:, 4].cos()[:, None], rotated[:, 4].sin()[:, None]
    along, across = away[:, 0] * cos + away[:, 1] * sin, away[:, 1] * cos - away[:, 0] * sin
    half = rotated[:, 2:4].clamp(min=least) / 2
    off = torch.stack((along.abs(), across.abs()), dim=1)
    inside = (half[..., None] - off).amin(1) >= 0
    box, anchor = inside.nonzero(as_tuple=True)
    return Matches(box, image[box], anchor)


def assign(
    matches: Matches,
    predicted: Tensor,
    score: Tensor,
    corners: Tensor,
    anchors: int,
    top_k: int = TOP_K,
    similarity: Callable[[Tensor, Tensor], Tensor] = ciou,
) -> tuple[Matches, Tensor]:
    """The positive matches, each anchor of an image at most once, and the score [p] that each should reach.

    A box gets its `top_k` best anchors, of those that no other box overlaps more among its own TOP_K.
    `predicted` [matches, 4] are the anchors' boxes as corners in px, `score` [matches] in 0..1 what they give
    the box's class, `corners` [n, 4] the labelled boxes, `anchors` the number of anchors of an image. Rotated boxes
    [..., 5] have another `similarity`, 1 for equal ones.
    """
    overlap = similarity(predicted, corners[matches.box]).clamp(min=0)
    aligned = score.pow(_SCORE_POWER) * overlap.pow(_OVERLAP_POWER)
    # an anchor without overlap is never positive, even if the box has too few others
    wanted = (_rank(matches.box, aligned) < TOP_K) & (aligned > 0)
    chosen = _resolve_conflicts(matches, wanted, overlap, anchors)
    if top_k < TOP_K:
        chosen = chosen[_rank(matches.box[chosen], aligned[chosen]) < top_k]
    positive = matches.take(chosen)
    aligned, overlap = aligned[chosen], overlap[chosen]
    best_aligned = _best(positive.box, aligned, len(corners))
    best_overlap = _best(positive.box, overlap, len(corners))
    return positive, aligned * best_overlap / (best_aligned + _EPS)


def _resolve_conflicts(matches: Matches, wanted: Tensor, overlap: Tensor, anchors: int) -> Tensor:
    """Indices of the wanted matches; an anchor wanted by several boxes goes to the one it overlaps most."""
    place = matches.image * anchors + matches.anchor
    if not len(place):
        return place
    times = torch.bincount(place[wanted], minlength=int(place.max()) + 1)[place]
    disputed = (times > 1).nonzero().flatten()
    first = _rank(place[disputed], overlap[disputed]) == 0
    return torch.cat(((wanted & (times <= 1)).nonzero().flatten(), disputed[first]))


def _rank(group: Tensor, value: Tensor) -> Tensor:
    """The place of every value among those of its group, 0 for the highest; ties keep their order."""
    order = value.argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]
    grouped = group[order]
    place = torch.arange(len(group), device=group.device)
    rank = torch.empty_like(place)
    rank[order] = place - torch.searchsorted(grouped, grouped)
    return rank


def _best(box: Tensor, value: Tensor, boxes: int) -> Tensor:
    """For every match the highest value of its box in any match."""
    highest = value.new_zeros(boxes).scatter_reduce(0, box, value, "amax")
    return highest[box]
