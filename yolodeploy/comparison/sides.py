"""The same images through several artifacts: labels, the source model, and each artifact beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from yolodeploy.comparison.groups import Entry
from yolodeploy.errors import YolodeployError
from yolodeploy.report import Shown, gallery
from yolodeploy.system import shown
from yolodeploy.tasks import Picture, Pictures, read_pictures

_MOST = 8  # images, as many as bundles of the same data have in common
_MOST_SIDES = 10  # artifacts


def side_by_side(entries: Sequence[Entry]) -> tuple[list[Shown], list[str]]:
    """The images that all artifacts with pictures have, and sentences on those that could not be read."""
    found, notes = dict[str, Pictures](), list[str]()
    for entry in entries:
        if entry.subject.pictures is None:
            continue
        try:
            found[entry.label] = read_pictures(entry.subject.pictures)
        except (YolodeployError, OSError, ValueError) as error:
            notes.append(f"{shown(entry.subject.pictures)} cannot be read: {error}")
    if len(found) > _MOST_SIDES:
        notes.append(f"Pictures of the first {_MOST_SIDES} of {len(found)} artifacts are shown.")
        found = dict(list(found.items())[:_MOST_SIDES])
    common = _common(found)
    if len(found) > 1 and not common:
        notes.append("No image is in the pictures of all of them.")
    return [_shown(digest, found) for digest in common[:_MOST]], notes


def _common(found: dict[str, Pictures]) -> list[str]:
    """The digests of the images that all have, the samples of the first before its others."""
    if not found:
        return []
    first, *others = found.values()
    ordered = sorted(first.pictures, key=lambda picture: picture.chosen != "sample")
    sets = [{picture.digest for picture in each.pictures} for each in others]
    digests = dict.fromkeys(picture.digest for picture in ordered)
    return [digest for digest in digests if all(digest in each for each in sets)]


def _shown(digest: str, found: dict[str, Pictures]) -> Shown:
    """An image with a panel for the labels, one for the source model, and one for each artifact."""
    base, panels = None, []
    for label, pictures in found.items():
        picture = next(each for each in pictures.pictures if each.digest == digest)
        drawn = _panels(picture, pictures.task)
        if base is None:
            base = replace(_panels(_unmarked(picture), pictures.task), note="")
            panels = [panel for panel in base.panels if panel.kind != "artifact"]
        panel = next(panel for panel in drawn.panels if panel.kind == "artifact")
        note = f"{label}, {drawn.note}" if drawn.note else label
        panels.append(replace(panel, title=note, words=f"{label}: {panel.words}"))
    if base is None:
        raise ValueError("no artifact has pictures")
    return replace(base, panels=panels)


def _panels(picture: Picture, task: str) -> Shown:
    drawn = gallery(Pictures(task, (replace(picture, chosen="sample"),)))
    return drawn.sample[0]


def _unmarked(picture: Picture) -> Picture:
    """What the source model found, whatever an artifact lost of it."""
    return replace(picture, source=tuple(replace(shape, mark=None) for shape in picture.source))
