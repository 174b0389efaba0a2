"""The child of `export`: `python -m yolodeploy_ultralytics.child FOLDER JOB`. It executes the checkpoint."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from yolodeploy.data import TASKS
from yolodeploy.recipe import Head
from yolodeploy.system import quotable
from yolodeploy_ultralytics.export import MODEL, REFUSAL, REPORT, WEIGHTS

_OPSET = 17
_SIDE = 640  # what Ultralytics takes where nothing says otherwise
_LEAST, _MOST, _STEP = 32, 4096, 32
_SAID = 300
_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname")


class _Refused(Exception):
    """Why the checkpoint cannot be exported, as a sentence with the remedy."""


def main() -> None:
    """Export the checkpoint in the folder; exit code 1 and a refusal if that cannot be done."""
    folder, job = Path(sys.argv[1]), json.loads(sys.argv[2])
    sys.addaudithook(_stay_offline)
    if job["modules"]:
        sys.path.insert(0, job["modules"])
    try:
        report = _export(folder, job["sides"], job["head"])
    except _Refused as refused:
        _refuse(folder, str(refused))
    except ModuleNotFoundError as error:
        _refuse(
            folder,
            f"it needs the module `{quotable(error.name or '?')}`, which is not found. Name the folder that it lies in: "
            "`loader: {ultralytics: {path: FOLDER}}`, or install it.",
        )
    except Exception as error:  # noqa: BLE001 - it runs somebody's code
        text = quotable(" ".join(str(error).split()), _SAID)
        if isinstance(error, AttributeError) and "'__main__'" in text:
            _refuse(
                folder,
                f"it names a class of the script that saved it ({text}). Put the class into a module, and save the "
                "checkpoint again with the class imported from there.",
            )
        _refuse(folder, f"executing and exporting it failed with {type(error).__name__}: {text}.")
    else:
        (folder / REPORT).write_text(json.dumps(report), encoding="utf-8")


def _refuse(folder: Path, reason: str) -> NoReturn:
    (folder / REFUSAL).write_text(reason, encoding="utf-8")
    sys.exit(1)


def _stay_offline(event: str, _: object) -> None:
    """No wall against code that means harm; it keeps libraries from downloading what they miss."""
    if event in _NETWORK:
        raise ConnectionRefusedError("a loader gets no network. Install what is missing first")


def _export(folder: Path, sides: list[int] | None, head: Head | None) -> dict[str, Any]:
    from ultralytics.models import YOLO

    model: Any = YOLO(str(folder / WEIGHTS))
    if model.task not in TASKS:
        raise _Refused(
            f"it is a model for `{quotable(model.task)}`, and known are {', '.join(TASKS)}."
        )
    heads = _heads(model.model)
    chosen: dict[str, Any] = {}
    if head and len(heads) > 1:
        chosen["end2end"] = head == "one-to-one"
    trained = _trained(model.model)
    model.export(
        format="onnx",
        imgsz=sides or trained or [_SIDE, _SIDE],
        opset=_OPSET,
        batch=1,
        device="cpu",
        half=False,
        dynamic=False,
        simplify=False,
        nms=False,
        **chosen,
    )
    if not (folder / MODEL).exists():
        raise _Refused("Ultralytics wrote no ONNX file.")
    return {"heads": heads, "imgsz": trained}


def _heads(model: Any) -> Sequence[Head]:
    """Both heads of a model that has a one-to-one head beside the other, which is then its own."""
    branches = {name for name, _ in model.model[-1].named_children()}
    return ["one-to-one", "one-to-many"] if "one2one_cv2" in branches else ["one-to-many"]


def _trained(model: Any) -> list[int] | None:
    """The size that the model was trained at, if a recipe could have it."""
    args = getattr(model, "args", None)
    size = args.get("imgsz") if isinstance(args, dict) else getattr(args, "imgsz", None)
    sides = list(size) if isinstance(size, list | tuple) else [size, size]
    whole = [side for side in sides if type(side) is int]
    usable = all(_LEAST <= side <= _MOST and side % _STEP == 0 for side in whole)
    return whole if usable and len(whole) == len(sides) == len(("height", "width")) else None


if __name__ == "__main__":
    main()
