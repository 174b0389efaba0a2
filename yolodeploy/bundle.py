"""The bundle `dist/<name>/`: what an app team gets. It appears whole, or the old one stays.

<artifact files>   labels.txt        contract.json           golden/    report.json   report.html
plan.json          provenance.json   provenance.dsse.json    bom.cdx.json
manifest.json (sha256 of every other file)
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from yolodeploy.digest import tree_files
from yolodeploy.diskfaults import FULL
from yolodeploy.errors import EnvironmentProblem
from yolodeploy.evidence import copy_golden
from yolodeploy.exchange import exchange
from yolodeploy.manifest import BILL, MANIFEST, PLAN, PROVENANCE, REPORT, SIGNATURE, identify
from yolodeploy.objects import Stored
from yolodeploy.page import html
from yolodeploy.papers import digests, seal, write_json
from yolodeploy.plan import Plan

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner


@dataclass(frozen=True)
class Contents:
    """What a bundle is filled with; `outputs` are the digests of the steps' results by step id."""

    artifact: Stored
    evidence: Stored
    report: Mapping[str, Any]
    outputs: Mapping[str, str]
    app_files: Mapping[str, bytes]
    task: str


def bundle_id(plan: Plan, report: Mapping[str, Any]) -> str:
    """Digest of what a bundle is made of; one with the same id need not be written again."""
    return identify(resolved_plan(plan), report)


def write_bundle(
    dist: Path, plan: Plan, contents: Contents, signer: CryptoSigner | None = None
) -> Path:
    """Write `dist/<name>` and return it; the bundle that was there is replaced in one move."""
    home = dist / plan.file.recipe.name
    with _replacing(dist, home) as new:
        _require_ours(home)
        if signer is None and (home / SIGNATURE).exists():
            raise EnvironmentProblem(
                f"{home}: is signed, and what would take its place is not. Sign that with --key, or move "
                "the signed bundle away."
            )
        _fill(new, plan, contents)
        seal(new, bundle_id(plan, contents.report), signer)
    return home


@contextlib.contextmanager
def _replacing(dist: Path, home: Path) -> Iterator[Path]:
    """Give a folder, not there yet, that takes the place of `home` in one move if all goes well."""
    with _explained(dist):
        dist.mkdir(parents=True, exist_ok=True)
        guard = dist / f".{home.name}.lock"
        if guard.is_symlink():  # a lock file is emptied, and so would be what the link leads to
            guard.unlink()
        with FileLock(guard):
            _recover(home)
            work = Path(tempfile.mkdtemp(prefix=f".{home.name}~", dir=dist))
            try:
                yield work / home.name
                exchange(work / home.name, home)
            finally:
                shutil.rmtree(work, ignore_errors=True)  # what is left goes next time


def _require_ours(home: Path) -> None:
    """Refuse to replace what is not a bundle: `--dist .` must not cost anyone a folder."""
    ours = (home / MANIFEST).is_file() or not home.exists()
    if not ours and not (home.is_dir() and not any(home.iterdir())):
        raise EnvironmentProblem(
            f"{home}: exists and is not a bundle that yolodeploy wrote. "
            "Move it away, or choose another folder with --dist."
        )


def _recover(home: Path) -> None:
    """Clear what a killed run left; if it was killed between two renames, put the old bundle back."""
    for left in home.parent.glob(f".{home.name}~*/"):  # `~` is in no recipe's name
        if left.is_symlink():
            continue
        for old in left.glob("*.old"):
            if not home.exists():
                old.replace(home)
        shutil.rmtree(left)


def _fill(folder: Path, plan: Plan, contents: Contents) -> None:
    report = contents.report
    artifact = tree_files(contents.artifact.path)  # without empty folders, which no digest knows
    for name, file in artifact.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name)
    copy_golden(contents.evidence, folder / "golden")
    for name, data in contents.app_files.items():
        (folder / name).write_bytes(data)
    write_json(folder / PLAN, resolved_plan(plan))
    write_json(folder / REPORT, report)
    (folder / "report.html").write_text(html(report), encoding="utf-8")
    _write_papers(folder, plan, contents)


def _write_papers(folder: Path, plan: Plan, contents: Contents) -> None:
    from yolodeploy.bom import bill
    from yolodeploy.provenance import Made, statement
    from yolodeploy.tools import tools

    made = Made(
        id=bundle_id(plan, contents.report),
        plan=resolved_plan(plan),
        report=contents.report,
        files=digests(folder),
        outputs=contents.outputs,
        created=contents.artifact.meta.created,
        tools=tools(plan.versions()),
    )
    write_json(folder / BILL, bill(made, contents.task))
    write_json(folder / PROVENANCE, statement(replace(made, files=digests(folder))))


def resolved_plan(plan: Plan) -> dict[str, Any]:
    """The plan as data: every parameter written out, defaults included; no path of this disk."""
    recipe = plan.file.recipe.model_dump(
        mode="json", exclude={"model": {"weights"}, "data": {"path"}, "steps": True}
    )
    return {
        "recipe": {
            **recipe,
            "steps": [
                {"name": planned.step.name, "params": planned.params.model_dump(mode="json")}
                for planned in plan.steps[1:]  # the first, which loads the weights, is in no recipe
            ],
        },
        "target": {
            "device": plan.target.device.name,
            "os": plan.target.os_version,
            "backend": plan.backend.NAME,
        },
        "weights": plan.weights_digest,
        "data": dict(plan.view_digests),
        "steps": [
            {
                "name": planned.step.name,
                "backend": planned.backend.NAME,
                "params": planned.params.model_dump(mode="json"),
                "id": planned.id,
            }
            for planned in plan.steps
        ],
        "versions": plan.versions(),
    }


@contextlib.contextmanager
def _explained(dist: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        what = _what(fault)
        where = dist if fault.errno in FULL else fault.filename or dist  # copying names the source
        raise EnvironmentProblem(
            f"{where}: the bundle cannot be written: {what}. An earlier bundle is as it was. "
            "Choose another folder with --dist, or make room."
        ) from None


def _what(fault: OSError) -> str:
    if isinstance(fault, shutil.Error):  # copytree's list of (source, target, text)
        text = str(fault.args[0][0][2])
        full = any(text.startswith(f"[Errno {code}]") for code in FULL)
        return "the disk is full" if full else text
    if fault.errno in FULL:
        return "the disk is full"
    if fault.errno in (errno.EEXIST, errno.ENOTDIR):
        return "it is a file, not a folder"
    return fault.strerror or str(fault)
