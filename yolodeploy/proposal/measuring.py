"""Set the checks of recipes that were just written by a first measurement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from yolodeploy.proposal.limits import measured
from yolodeploy.proposal.proposal import Proposal, Written, text_of
from yolodeploy.system import quotable, replace_file, shown

if TYPE_CHECKING:
    from yolodeploy.measure import Evidence


def with_limits(
    proposal: Proposal, found: Mapping[Path, Evidence], warn: Callable[[str], None]
) -> Proposal:
    """Write limits with a margin around what was measured into the recipes; `found` has what was, by recipe.

    A recipe that was not measured keeps its first limits, and so does one that somebody has changed meanwhile.
    """
    recipes = [
        _limited(proposal, each, found[each.path], warn) if each.path in found else each
        for each in proposal.recipes
    ]
    return replace(proposal, recipes=recipes)


def _limited(
    proposal: Proposal, written: Written, evidence: Evidence, warn: Callable[[str], None]
) -> Written:
    limits = measured(evidence, proposal.model.info.task)
    limited = replace(written, limits=limits, note=_note(evidence))
    try:
        if written.path.read_text(encoding="utf-8") != text_of(proposal, written):
            warn(f"{shown(written.path)} was changed meanwhile and keeps its checks.")
            return written
        replace_file(written.path, text_of(proposal, limited).encode())
    except OSError as error:
        warn(
            f"{shown(written.path)} keeps its first checks: it cannot be written: {error.strerror}"
        )
        return written
    return limited


def _note(evidence: Evidence) -> str:
    place = quotable(evidence.place.words(), 200)
    return (
        f"Limits with a margin around what was measured on {evidence.images:,} images, on {place}."
    )
