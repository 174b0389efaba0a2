"""Read what is to be compared: bundles, report.json files, and folders of bundles."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from yolodeploy.backend import MANIFEST, PICTURES
from yolodeploy.bundle import bundles_in, inspect_bundle, why_no_bundle
from yolodeploy.comparison.parsing import described
from yolodeploy.comparison.subject import Subject
from yolodeploy.errors import VerificationFailed
from yolodeploy.system import is_file, read_json, shown

_ALLOWED = "bundles such as dist/NAME, folders of bundles such as dist, or report.json files"


def read_subjects(paths: Sequence[Path]) -> tuple[list[Subject], list[str]]:
    """What the paths name, each once, and for everything that cannot be compared a sentence with the reason."""
    subjects, problems, seen = list[Subject](), list[str](), set[str]()
    for place in _places(paths, problems):
        real = os.path.realpath(place)
        if real in seen:
            continue
        seen.add(real)
        try:
            subjects.append(_report(place) if place.is_file() else _bundle(place))
        except VerificationFailed as error:
            problems.append(str(error))
    return subjects, problems


def _places(paths: Sequence[Path], problems: list[str]) -> Iterator[Path]:
    """Bundles and reports by themselves, and the bundles of folders."""
    for path in paths:
        if is_file(path) or is_file(path / MANIFEST):
            yield path
        elif found := [each for each in bundles_in(path) if is_file(each / MANIFEST)]:
            yield from found
        elif why := why_no_bundle(path, _ALLOWED):
            problems.append(why)
        else:
            yield path


def _report(file: Path) -> Subject:
    try:
        return described(file, read_json(file), {})
    except (OSError, ValueError) as error:
        raise VerificationFailed(
            f"{shown(file)} is not a report.json that yolodeploy wrote, and is left out: {_reason(error)}."
        ) from None


def _bundle(folder: Path) -> Subject:
    found = inspect_bundle(folder)
    if found.problems:
        count = len(found.problems) - 1
        more = f" (and {count} more: `yolodeploy verify`)" if count else ""
        first = found.problems[0].rstrip(".")
        raise VerificationFailed(
            f"{shown(folder)} is not what was deployed and is left out: {first}{more}."
        )
    pictures = folder / PICTURES if PICTURES in found.digests else None
    try:
        return described(folder, found.report, found.plan, found.sets, pictures)
    except ValueError as error:
        raise VerificationFailed(
            f"{shown(folder)} is not a bundle that this release can read, and is left out: {_reason(error)}."
        ) from None


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.splitlines()[0][:200].rstrip(".") if text else type(error).__name__
