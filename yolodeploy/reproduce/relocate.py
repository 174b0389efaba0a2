"""Copies a recipe with everything that it reads into one folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from yolodeploy.backend import CodeFolder, PinnedFile, code_files
from yolodeploy.data import Dataset, label_file, numbers_of
from yolodeploy.planning import Plan


def relocate(plan: Plan, folder: Path) -> Path:
    """Copy recipe, weights, pinned files, modules of the loader, and the images and labels of every view; returns the recipe's copy.

    `extends` is resolved, and paths are those of the copies. All ids of the copy's plan are the same. The folder
    must not exist.
    """
    folder.mkdir(parents=True)
    value = json.loads(json.dumps(plan.file.document.value, default=str))
    value["name"] = plan.file.recipe.name
    value["model"]["weights"] = _copy(plan.weights, folder / "model")
    for field in type(plan.steps[0].params).model_fields:
        code = getattr(plan.steps[0].params, field)
        if isinstance(code, CodeFolder):
            copied = _copy_code(code, folder / "code" / field)
            value["model"]["loader"][plan.steps[0].backend.NAME][field] = copied
    value["data"]["path"] = _copy_data(plan, folder / "data")
    for name in plan.views:
        value["data"][name] = {"split": name}
    for number, planned in enumerate(plan.steps[1:]):
        for field in type(planned.params).model_fields:
            pinned = getattr(planned.params, field)
            if isinstance(pinned, PinnedFile):
                copied = _copy(pinned.file, folder / "pinned" / f"{number}-{field}")
                value["steps"][number][planned.step.name][field]["file"] = copied
    return _write(folder / f"{plan.file.recipe.name}.yaml", value)


def _copy(file: Path, folder: Path) -> str:
    """Copy a file into a folder; returns its absolute path."""
    folder.mkdir(parents=True, exist_ok=True)
    return str(shutil.copyfile(file, folder / file.name).absolute())


def _copy_code(code: CodeFolder, folder: Path) -> str:
    """Copy the modules of a folder that a loader imports; returns the copy's absolute path."""
    for name, file in code_files(code.folder).items():
        _copy(file, (folder / name).parent)
    return str(folder.absolute())


def _copy_data(plan: Plan, folder: Path) -> str:
    """A data set whose splits are the views, named as they are."""
    if plan.views["evaluation"].place is not None:
        for name, view in plan.views.items():
            _copy_classes(view, folder / name)
        return str(folder.absolute())
    splits = {name: _copy_view(view, folder, name) for name, view in plan.views.items()}
    return str(_write(folder / "data.yaml", {**_classes(plan.views["evaluation"]), **splits}))


def _copy_classes(view: Dataset, folder: Path) -> None:
    """Copy images to the folders of their classes, in numbered folders that keep their order.

    Every class has a folder, for it may be what names the classes of the model; but not what no image can lie in: a name
    that two classes of the model have, or one that no folder can have.
    """
    names = view.given or view.names
    for name in names:
        if numbers_of(name, names) == [names.index(name)] and Path(name).name == name:
            (folder / name).mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(view.images):
        _copy(image, folder / view.folder_of(image) / f"{number:07}")


def _classes(view: Dataset) -> dict[str, Any]:
    """The classes that the labels name, which may be more than the view has; the plan chooses or merges them again.

    With the keypoints of a pose data set.
    """
    keypoints = view.keypoints
    shape = {"kpt_shape": list(keypoints.shape)} if keypoints else {}
    flip = {"flip_idx": list(keypoints.flip)} if keypoints and keypoints.flip else {}
    if view.merged:
        return {"nc": view.merged, **shape, **flip}
    if view.given:
        return {"names": list(view.given), **shape, **flip}
    classes = {"names": list(view.names)} if view.named else {"nc": len(view.names)}
    return {**classes, **shape, **flip}


def _copy_view(view: Dataset, folder: Path, name: str) -> list[str]:
    """Copy images to numbered folders, which keep their order and images of the same name apart.

    Returns the sources of the split: the folder, and a list of the hidden images, which folders leave out. Not
    a list alone: images of a folder may have names that no line of a list can hold.
    """
    hidden: list[str] = []
    for number, image in enumerate(view.images):
        inner = Path(name, f"{number:07}")
        _copy(image, folder / "images" / inner)
        if (label := label_file(image)).is_file():
            _copy(label, folder / "labels" / inner)
        if image.name.startswith("."):
            hidden.append(f"./images/{inner}/{image.name}\n")
    if not hidden:
        return [f"images/{name}"]
    (folder / f"{name}.txt").write_text("".join(hidden), encoding="utf-8")
    return [f"images/{name}", f"{name}.txt"]


def _write(file: Path, value: Any) -> Path:
    """Write a value as JSON, which is YAML."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return file.absolute()
