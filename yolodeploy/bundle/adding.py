"""Adds a set of evidence to a bundle that was deployed, and changes nothing that ships."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yolodeploy
from yolodeploy.backend import PICTURES, PROVENANCE, SIGNATURE
from yolodeploy.bundle.attest import with_subjects
from yolodeploy.bundle.bundle import digests, replacing, seal_bundle, warn_of_other_key
from yolodeploy.bundle.evidence_sets import MAX_SETS, EvidenceSet, plain_set, read_sets, set_file
from yolodeploy.bundle.integrity import Inspection, inspect_bundle
from yolodeploy.bundle.manifest import set_names
from yolodeploy.errors import EnvironmentProblem, VerificationFailed
from yolodeploy.system import encoded, read_json, shown, write_json
from yolodeploy.tasks import Pictures, read_pictures

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

Page = Callable[[Mapping[str, Any], Sequence[EvidenceSet], Pictures | None], str]


def add_evidence(
    home: Path,
    value: Mapping[str, Any],
    page: Page,
    signer: CryptoSigner | None,
    warn: Callable[[str], None],
) -> Path:
    """Add a set of evidence to a bundle, instead of what the same host gave before; returns its file.

    `page` renders report, sets and pictures. The bundle appears complete, or stays as it was. Raises VerificationFailed if it is not
    intact, or of another artifact than the set; EnvironmentProblem if it is signed and there is no key.
    """
    name = set_file(value["place"]["host"], alone=value["plan"] is None)
    data = encoded(plain_set(value))
    if signer:
        warn_of_other_key(home, signer.public_key.keyid, warn)
    with replacing(home.parent, home) as new:
        found = require_intact(home)
        if found.report["artifact"]["digest"] != value["artifact"]:
            raise VerificationFailed(
                f"{shown(home)}: has another artifact than the one that was measured. Measure it again."
            )
        require_key(home, found, signer)
        shutil.copytree(home, new, copy_function=shutil.copyfile)
        (new / name).parent.mkdir(exist_ok=True)
        (new / name).write_bytes(data)
        _require_few(new, home)
        _write_page(new, found, page)
        write_json(new / PROVENANCE, with_subjects(read_json(new / PROVENANCE), digests(new)))
        assert found.id is not None  # noqa: S101 - an intact bundle has one
        seal_bundle(new, found.id, signer)
    return home / name


def require_intact(home: Path) -> Inspection:
    """What a bundle is; VerificationFailed if it is not as it was deployed."""
    found = inspect_bundle(home)
    if found.problems:
        listed = "\n  ".join(found.problems)
        raise VerificationFailed(
            f"{shown(home)} is not what was deployed:\n  {listed}\nDeploy again, or bring it back as it was."
        )
    return found


def require_key(home: Path, found: Inspection, signer: CryptoSigner | None) -> None:
    """Refuse to leave a signed bundle without a signature."""
    if signer is None and SIGNATURE in found.digests:
        raise EnvironmentProblem(
            f"{shown(home)}: is signed, and evidence that is added changes what the signature is of. Sign again, with --key."
        )


def _require_few(new: Path, home: Path) -> None:
    if len(set_names(digests(new))) > MAX_SETS:
        raise EnvironmentProblem(
            f"{shown(home)}: has evidence from {MAX_SETS} places already, which is as many as a bundle may have. Deploy it to another --dist."
        )


def _write_page(new: Path, found: Inspection, page: Page) -> None:
    """Write the page again with all sets, unless another release wrote the report: that knows its own page."""
    if found.report["versions"].get("yolodeploy") != yolodeploy.__version__:
        return
    artifact, device = found.report["artifact"]["digest"], found.plan["target"]["device"]
    sets, _ = read_sets(new, digests(new), artifact, device)
    pictures = read_pictures(new / PICTURES) if PICTURES in found.digests else None
    (new / "report.html").write_text(page(found.report, sets, pictures), encoding="utf-8")
