"""The bundle `dist/<name>/`: what an app team gets. It appears whole, or the old one stays.

<artifact files>   labels.txt   contract.json   golden/   report.json   report.html
plan.json          manifest.json (sha256 of every other file)
"""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from yolodeploy.backend import ModelInfo
from yolodeploy.digest import file_digest, tree_files
from yolodeploy.diskfaults import FULL
from yolodeploy.errors import EnvironmentProblem
from yolodeploy.evidence import copy_golden
from yolodeploy.exchange import exchange
from yolodeploy.manifest import MANIFEST, PLAN, REPORT, identify, read_manifest
from yolodeploy.objects import Stored
from yolodeploy.page import html
from yolodeploy.plan import Plan


def bundle_id(plan: Plan, report: Mapping[str, Any]) -> str:
    """Digest of what a bundle is made of; one with the same id need not be written again."""
    return identify(resolved_plan(plan), report)


def is_current(folder: Path, id_: str) -> bool:
    """Whether the folder holds the bundle with this id, every byte as it was written."""
    try:
        manifest = read_manifest(folder)
        files = {name: path for name, path in tree_files(folder).items() if name != MANIFEST}
        return manifest.id == id_ and manifest.files == {
            name: file_digest(path) for name, path in files.items()
        }
    except (OSError, ValueError):
        return False


def write_bundle(
    dist: Path,
    plan: Plan,
    artifact: Stored,
    evidence: Stored,
    info: ModelInfo,
    report: Mapping[str, Any],
) -> Path:
    """Write `dist/<name>` and return it; the bundle that was there is replaced in one move."""
    home = dist / plan.file.recipe.name
    with _explained(dist):
        dist.mkdir(parents=True, exist_ok=True)
        guard = dist / f".{home.name}.lock"
        if guard.is_symlink():  # a lock file is emptied, and so would be what the link leads to
            guard.unlink()
        with FileLock(guard):
            _recover(home)
            _require_ours(home)
            work = Path(tempfile.mkdtemp(prefix=f".{home.name}~", dir=dist))
            try:
                new = work / home.name
                _fill(new, plan, artifact, evidence, info, report)
                exchange(new, home)
            finally:
                shutil.rmtree(work, ignore_errors=True)  # what is left goes next time
    return home


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


def _fill(
    folder: Path,
    plan: Plan,
    artifact: Stored,
    evidence: Stored,
    info: ModelInfo,
    report: Mapping[str, Any],
) -> None:
    shutil.copytree(artifact.path, folder, copy_function=shutil.copyfile)
    copy_golden(evidence, folder / "golden")
    (folder / "labels.txt").write_text(
        "".join(f"{name}\n" for name in info.names), encoding="utf-8"
    )
    _write_json(folder / "contract.json", contract(plan, info, report["interface"]))
    _write_json(folder / PLAN, resolved_plan(plan))
    _write_json(folder / REPORT, report)
    (folder / "report.html").write_text(html(report), encoding="utf-8")
    files = {name: file_digest(path) for name, path in tree_files(folder).items()}
    _write_json(folder / MANIFEST, {"id": bundle_id(plan, report), "files": files})


def contract(plan: Plan, info: ModelInfo, interface: Mapping[str, Any]) -> dict[str, Any]:
    """What an app has to do before and after it runs the artifact."""
    from yolodeploy.detect import APP
    from yolodeploy.images import FILL

    imgsz = plan.file.recipe.model.imgsz
    return {
        **interface,
        "task": info.task,
        "classes": len(info.names),
        "strides": list(info.strides),
        "input_size": [imgsz, imgsz],
        "colour_order": "RGB",
        "letterbox": {
            "rule": (
                "s = input_size / max(width, height); resize to round(width * s) x round(height * s), "
                "bilinear, round half to even; place at left = (input_size - new width) // 2, top likewise; fill the rest"
            ),
            "fill": [FILL, FILL, FILL],
            "inverse": "x = (x_letterboxed - left) / s; y = (y_letterboxed - top) / s",
        },
        "thresholds": asdict(APP.with_thresholds(interface["confidence"], interface["iou"])),
        "golden": "golden/detections.json",
    }


def resolved_plan(plan: Plan) -> dict[str, Any]:
    """The plan as data: every parameter written out, defaults included."""
    return {
        "recipe": json.loads(
            plan.file.recipe.model_dump_json(exclude={"model": {"weights"}, "data": {"path"}})
        ),
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


def _write_json(path: Path, value: object) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


@contextlib.contextmanager
def _explained(dist: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        what = _what(fault)
        raise EnvironmentProblem(
            f"{fault.filename or dist}: the bundle cannot be written: {what}. An earlier bundle is as it was. "
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
