"""Has a process of its own load a checkpoint with Ultralytics and export it to ONNX.

The checkpoint is executed there, with the user's rights: the process is a matter of order, not a wall. It gets copies of the
checkpoint and of the modules, and settings of its own, and may not download or install anything.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from yolodeploy.backend import code_files
from yolodeploy.errors import EnvironmentProblem, ModelError
from yolodeploy.recipe import Head
from yolodeploy.system import ImageShape, child_environment, one_line, python_command, shown
from yolodeploy_ultralytics.params import LoadUltralytics

WEIGHTS, MODEL, REPORT, REFUSAL = "model.pt", "model.onnx", "report.json", "refusal.txt"
_PATIENCE = 900  # seconds of wall time
_SAID = 300  # letters of what the child said, in a message


@dataclass(frozen=True)
class Exported:
    """The ONNX file, the heads of the checkpoint, its own first, and the height and width it was trained at."""

    file: Path
    heads: tuple[Head, ...]
    imgsz: tuple[int, int] | None


def export(
    weights: Path, params: LoadUltralytics, imgsz: ImageShape | None, folder: Path
) -> Exported:
    """Export a checkpoint into an empty folder for images of a size; None: that of its training.

    Executes the checkpoint. Raises ModelError if it cannot be loaded or exported.
    """
    shutil.copyfile(weights, folder / WEIGHTS)
    modules = _copied(params.path.folder, folder / "modules") if params.path else None
    job = {
        "sides": [imgsz.height, imgsz.width] if imgsz else None,
        "head": params.head,
        "modules": modules,
    }
    _run(weights, folder, json.dumps(job))
    try:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        sides = report["imgsz"]
        return Exported(folder / MODEL, tuple(report["heads"]), tuple(sides) if sides else None)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{shown(weights)} cannot be used: executing it ended without a result."
        ) from error


def _copied(source: Path, target: Path) -> str:
    """Copy exactly the modules whose digests are in the step's id."""
    for name, file in code_files(source).items():
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    return str(target)


def _environment(folder: Path) -> dict[str, str]:
    """The child's environment: settings and caches in its own folder, no network, no installation, no GPU."""
    settings = folder / "settings"
    settings.mkdir()
    own = ("YOLO_CONFIG_DIR", "MPLCONFIGDIR", "TORCH_HOME", "XDG_CACHE_HOME")
    return {
        **child_environment(),
        **dict.fromkeys(own, str(settings)),
        "YOLO_AUTOINSTALL": "false",
        "YOLO_OFFLINE": "true",
        "YOLO_VERBOSE": "false",
        "PIP_NO_INDEX": "1",
        "UV_OFFLINE": "1",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
    }


def _run(weights: Path, folder: Path, job: str) -> None:
    try:
        done = subprocess.run(
            python_command("yolodeploy_ultralytics.child", str(folder), job),
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            f"{shown(weights)} cannot be used: executing and exporting it takes longer than {_PATIENCE // 60} minutes."
        ) from error
    except OSError as error:
        raise EnvironmentProblem(f"no process could be started: {error.strerror}") from error
    if done.returncode == 0:
        return
    refusal = folder / REFUSAL
    if refusal.exists():
        reason = refusal.read_text(encoding="utf-8")
        raise ModelError(f"{shown(weights)} cannot be used: {one_line(reason)}")
    said = done.stderr.decode(errors="replace").strip().splitlines()
    last = f" ({one_line(said[-1])[:_SAID]})" if said else ""
    raise ModelError(
        f"{shown(weights)} cannot be used: the process that executed it ended with code {done.returncode}{last}."
    )
