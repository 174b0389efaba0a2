"""Find the data set of a model: the one that its training named, or one of the same classes beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TypeVar

from yolodeploy.data import read_class_names, same_name
from yolodeploy.errors import DataError, YolodeployError
from yolodeploy.proposal.model import Model
from yolodeploy.recipe import View
from yolodeploy.system import quotable, shown

_USUAL = ("data.yaml", "data.yml", "dataset.yaml")
_ABOVE = 6  # folders: Ultralytics writes runs/detect/train/weights/best.pt
_SPLITS = ("val", "validation", "valid", "test", "train")
_NAMED, _NEAR = "named in the weights", "found near the weights"
Ask = Callable[[str], str]
Used = TypeVar("Used")


@dataclass(frozen=True)
class Source:
    """A data.yaml, or for classification a folder; `how` says how it was found."""

    path: Path
    how: str


def find_data(
    model: Model, given: Path | None, ask: Ask | None, use: Callable[[Path], Used]
) -> tuple[Source, Used]:
    """The data set, and what `use` makes of it: the given one, the one that the training named, or one of the same classes nearby.

    One nearby is passed over if `use` raises DataError, for instance because it is labelled for another task. Of a folder
    that somebody names, its data.yaml is meant, except for classification. `ask` puts a question to somebody; None if nobody is
    there. Raises DataError with the remedy if there is none.
    """
    if given is not None:
        path = _existing(given, "--data", model)
        return Source(path, "as given"), use(path)
    others: list[str] = []
    for path, how in _candidates(model):
        if (problem := _misfit(path, model)) is None:
            try:
                return Source(path, how), use(path)
            except DataError as error:
                if how == _NAMED:
                    raise
                problem = f"cannot be used ({str(error).splitlines()[0]})"
        others.append(f"{shown(path)} {problem}")
    question = f"{_sought(model, others)}\nData set ({_kind(model)}): "
    if ask and (answer := ask(question).strip()):
        path = _existing(Path(answer).expanduser(), "the data set", model)
        return Source(path, "as given"), use(path)
    raise DataError(f"{_sought(model, others)} Add: --data {_example(model)}")


def _existing(path: Path, what: str, model: Model) -> Path:
    if not os.path.exists(path):  # noqa: PTH110 - unlike Path's, it takes any text
        raise DataError(f"{what}: {shown(path)} does not exist. Check the path.")
    return _file_of(path) if model.info.task != "classify" else path


def _file_of(path: Path) -> Path:
    """The data.yaml of a folder; other paths as they are."""
    files = (path / name for name in _USUAL)
    return next((file for file in files if os.path.isfile(file)), path)  # noqa: PTH113


def _candidates(model: Model) -> Iterator[tuple[Path, str]]:
    """Existing files and folders that may be the data set, each once, the likeliest first."""
    seen: set[Path] = set()
    for path, how in _places(model):
        if not _fits_kind(path, model):
            continue
        real = Path(os.path.realpath(path))
        if real not in seen:
            seen.add(real)
            yield path, how


def _places(model: Model) -> Iterator[tuple[Path, str]]:
    named, folders = model.trained_on, _folders(model.path)
    if named:
        yield Path(named), _NAMED
        if not os.path.isabs(named):  # noqa: PTH117
            yield from ((folder / named, _NAMED) for folder in folders)
    own = PureWindowsPath(named).name if "\\" in named else PurePosixPath(named).name
    usual = () if model.info.task == "classify" else _USUAL
    for folder in folders:
        for name in dict.fromkeys(filter(None, (own, *usual))):
            yield folder / name, _NEAR
            yield folder / "data" / name, _NEAR
            yield folder / "datasets" / name, _NEAR


def _folders(weights: Path) -> list[Path]:
    """The folder of the weights and those above, and the current one; the home folder and the root are too wide."""
    start = Path(os.path.abspath(weights)).parent  # noqa: PTH100 - keeps links
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - unlike Path's, it never fails
    folders = []
    for folder in (start, *start.parents[: _ABOVE - 1]):
        if folder in (home, Path(folder.anchor)):
            break
        folders.append(folder)
    return list(dict.fromkeys([*folders, Path.cwd()]))


def _fits_kind(path: Path, model: Model) -> bool:
    if model.info.task == "classify":
        return any(os.path.isdir(path / split) for split in _SPLITS)  # noqa: PTH112
    return os.path.isfile(path)  # noqa: PTH113


def _misfit(path: Path, model: Model) -> str | None:
    """Why a file that nobody named is not the data set of the model, as the rest of a sentence; None if it may be."""
    ours = model.info.names
    try:
        names = read_class_names(path, View())
    except YolodeployError as error:
        return f"cannot be read ({str(error).splitlines()[0]})"
    if model.info.single_cls:
        return None
    if len(names) != len(ours):
        return f"has {len(names)} classes, the model {len(ours)}"
    pairs = zip(names, ours, strict=True)
    other = next(((a, b) for a, b in pairs if not same_name(a, b)), None)
    return (
        f"has the class `{quotable(other[0])}` for the model's `{quotable(other[1])}`"
        if other
        else None
    )


def _sought(model: Model, others: list[str]) -> str:
    named = quotable(model.trained_on, 200)
    told = f"its training named `{named}`, which is not here" if named else "it does not name it"
    found = f" Passed over: {'; '.join(others[:3])}." if others else ""
    return f"The data set of {shown(model.path)} was not found: {told}, and none of the same classes lies near.{found}"


def _kind(model: Model) -> str:
    folder = "a folder with a folder for each class in `train` and `val`"
    return folder if model.info.task == "classify" else "a data.yaml"


def _example(model: Model) -> str:
    return "path/to/folder" if model.info.task == "classify" else "path/to/data.yaml"
