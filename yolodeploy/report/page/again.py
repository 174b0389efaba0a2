"""Writes the page of a bundle again: of this release, from the files of any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError

from yolodeploy.backend import MANIFEST, PICTURES, REPORT
from yolodeploy.bundle import EvidenceSet, inspect_bundle, why_no_bundle
from yolodeploy.errors import VerificationFailed
from yolodeploy.report.page.assembly import report_page
from yolodeploy.system import is_file, is_folder, read_json, shown
from yolodeploy.tasks import Pictures, read_pictures

_UNSHOWABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, UndefinedError)
_PARTS = {
    "curves": "curves of precision, recall and confidence",
    "latencies": "the distribution of latencies",
    "bytes_by_layer": "where the bytes are",
}


@dataclass(frozen=True)
class BundlePage:
    """The page of a bundle or report, its name, what it lacks and why, and what is wrong with the bundle: a sentence each.

    `bundle` is the folder, None where there is a report alone.
    """

    bundle: Path | None
    name: str
    html: str
    missing: Sequence[str]
    problems: Sequence[str]


@dataclass(frozen=True)
class _Found:
    bundle: Path | None
    report: Mapping[str, Any]
    sets: Sequence[EvidenceSet] = ()
    pictures: Pictures | None = None
    why: str = "there is a report alone, without its bundle"
    problems: Sequence[str] = ()


def bundle_page(path: Path, *, images: bool = True) -> BundlePage:
    """The page of a bundle, or of a `report.json` alone, of this release or an older one; `images` shows its pictures.

    What `deploy --json` prints of a deployment whose checks failed is a report, too. Raises VerificationFailed if it is neither.
    """
    found = _found(path, images=images)
    try:
        page = report_page(found.report, found.sets, found.pictures)
    except _UNSHOWABLE as error:
        lacks = f"it has no {error}" if isinstance(error, KeyError) else repr(error)
        raise VerificationFailed(
            f"{shown(path)}: its report is not one that this release can show ({lacks}). Deploy the recipe again."
        ) from error
    missing = list(_missing(found.report))
    if found.pictures is None:
        missing.append(f"pictures: {found.why}")
    name = str(found.report.get("name", path.stem))
    return BundlePage(found.bundle, name, page, missing, found.problems)


def _found(path: Path, *, images: bool) -> _Found:
    bundle = path.parent if path.name == REPORT else path
    if is_file(bundle / MANIFEST):
        return _of_bundle(bundle, images=images)
    file = path / REPORT if is_folder(path) else path
    try:
        value = read_json(file, links=True)
        failed = "error" in value and isinstance(value.get("report"), dict)
        return _Found(None, value["report"] if failed else value)
    except FileNotFoundError:
        reason = why_no_bundle(path, f"a bundle such as dist/NAME, or a {REPORT}")
        reason = (
            reason
            or f"{shown(path)}: neither its {MANIFEST} nor a {REPORT} is a file. Deploy again."
        )
    except (OSError, ValueError) as error:
        reason = f"{shown(path)}: cannot be read as a report: {error}"
    raise VerificationFailed(reason) from None


def _of_bundle(bundle: Path, *, images: bool) -> _Found:
    """What a bundle has, whether or not it is as it was deployed."""
    inspected = inspect_bundle(bundle)
    report, problems = inspected.report, list(inspected.problems)
    if not report:
        try:
            report = read_json(bundle / REPORT)
        except (OSError, ValueError) as error:
            raise VerificationFailed(
                f"{shown(bundle)}: its {REPORT} cannot be read: {error}"
            ) from None
    if not images:
        return _Found(
            bundle, report, inspected.sets, None, "left out, as --no-images says", problems
        )
    try:
        return _Found(
            bundle, report, inspected.sets, read_pictures(bundle / PICTURES), "", problems
        )
    except FileNotFoundError:
        why = "the bundle was deployed with --no-images, or by an older release"
    except (OSError, ValueError) as error:
        why = f"{PICTURES} cannot be read: {error}"
    return _Found(bundle, report, inspected.sets, None, why, problems)


def _missing(report: Mapping[str, Any]) -> Iterator[str]:
    for name, title in _PARTS.items():
        if report.get(name) is None:
            reason = (
                report.get(f"{name}_reason")
                or "an older release wrote the report, or nothing was measured"
            )
            yield f"{title}: {reason}"
