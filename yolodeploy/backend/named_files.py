"""Parameters of steps that name files: a pinned file, and a folder of Python modules; both known by their digests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from yolodeploy.backend.params import Params
from yolodeploy.errors import ModelError
from yolodeploy.recipe import SHA256, AllowedPaths, Position
from yolodeploy.system import StatCache, digest_of, shown

_MOST_FILES, _MOST_BYTES = 10_000, 256 << 20
_MODULES = (".py", ".so", ".pyd")
_OF_THE_MODEL = (
    "head",
    "layout",
    "kpt_shape",
    "classes",
    "preprocess",
    "names",
)  # other keys of `model` say them


class PinnedFile(BaseModel):
    """A file beside the recipe. Only its digest goes into step ids and locks, not its path."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path = Field(description="The file, relative to the recipe.")
    sha256: str = Field(pattern=SHA256, description="Digest that the file must have.")

    @field_validator("file", mode="before")
    @classmethod
    def _beside_the_recipe(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str) and "\0" in value:
            raise ValueError("holds a NUL character, which a path must not")
        folder = (info.context or {}).get("folder")
        return Path(folder, value) if folder and isinstance(value, str) else value

    @model_serializer(mode="plain")
    def _content(self, info: SerializationInfo) -> dict[str, Any]:
        plain = {"sha256": self.sha256}
        return plain if info.mode == "json" else {"file": self.file, **plain}


def verify_pinned(params: Params, at: Position, cache: StatCache, allowed: AllowedPaths) -> None:
    """Raise ModelError if a pinned file is missing or has another digest.

    Raises PlanRefused for a file that the recipe may not read.
    """
    for name in type(params).model_fields:
        pinned = getattr(params, name)
        if isinstance(pinned, PinnedFile):
            allowed.require(pinned.file, at, f"`{name}`:")
            _verify(name, pinned, at, cache)


def _verify(name: str, pinned: PinnedFile, at: Position, cache: StatCache) -> None:
    if not os.path.isfile(pinned.file):  # noqa: PTH113 - unlike Path's, it takes any text
        raise ModelError(f"{at}: `{name}`: there is no file {shown(pinned.file)}")
    try:
        digest = cache.digest(pinned.file)
    except OSError as error:
        raise ModelError(f"{at}: {shown(pinned.file)} cannot be read: {error.strerror}") from None
    if digest != pinned.sha256:
        raise ModelError(
            f"{at}: `{name}`: {shown(pinned.file)} has sha256 {digest}, not the pinned one. Restore "
            "the file, or change the pin if the new one is meant."
        )


class CodeFolder(BaseModel):
    """A folder that modules are imported from. Only its digest goes into step ids and locks, not its path.

    `sha256` is that of the list of its files with their digests; planning finds it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    sha256: str = ""

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: object) -> object:
        if isinstance(value, str) and "\0" in value:
            raise ValueError("holds a NUL character, which a path must not")
        return {"folder": Path(value)} if isinstance(value, str) else value

    @model_serializer(mode="plain")
    def _content(self, info: SerializationInfo) -> dict[str, Any]:
        plain = {"sha256": self.sha256}
        return plain if info.mode == "json" else {"folder": self.folder, **plain}


def loader_options(params: type[Params]) -> dict[str, bool]:
    """The parameters of a loading step that recipes give under `loader:`, and whether each is a folder of modules."""
    return {
        name: CodeFolder in (field.annotation, *get_args(field.annotation))
        for name, field in params.model_fields.items()
        if name not in _OF_THE_MODEL
    }


def code_files(folder: Path) -> dict[str, Path]:
    """The files that can be imported from a folder, or that its packages read; by relative POSIX path, sorted.

    These are its modules, and everything in its packages (folders with `__init__.py`) but hidden and compiled
    files. So training runs and data beside them do not count. Raises ModelError if there are none or too many,
    or links to folders, which nobody could follow safely.
    """
    found: dict[str, Path] = {}
    size = 0
    for path in _importable(folder):
        found[path.relative_to(folder).as_posix()] = path
        size += path.stat().st_size
        if len(found) > _MOST_FILES or size > _MOST_BYTES:
            raise ModelError(
                f"{shown(folder)} holds more than {_MOST_FILES:,} files or {_MOST_BYTES >> 20} MiB in its packages. "
                "Name a folder with only the modules that are needed."
            )
    if not found:
        raise ModelError(
            f"{shown(folder)} holds no Python modules, and no packages (folders with `__init__.py`). Name the folder "
            "that they lie in."
        )
    return dict(sorted(found.items()))


def with_digests(params: Params, at: Position, cache: StatCache, allowed: AllowedPaths) -> Params:
    """The parameters with the digests of the folders that they name.

    Raises PlanRefused for a folder that the recipe may not read, ModelError for one that cannot be used.
    """
    changed: dict[str, CodeFolder] = {}
    for name in type(params).model_fields:
        code = getattr(params, name)
        if isinstance(code, CodeFolder):
            changed[name] = _digested(name, code, at, cache, allowed)
    return params.model_copy(update=changed) if changed else params


def _digested(
    name: str, code: CodeFolder, at: Position, cache: StatCache, allowed: AllowedPaths
) -> CodeFolder:
    allowed.require(code.folder, at, f"`{name}`:")
    if not os.path.isdir(code.folder):  # noqa: PTH112 - unlike Path's, it takes any text
        raise ModelError(f"{at}: `{name}`: there is no folder {shown(code.folder)}")
    try:
        files = code_files(code.folder)
        allowed.require_all(files.values(), at, f"`{name}`:")
        digests = {file: cache.digest(path) for file, path in files.items()}
    except ModelError as error:
        raise ModelError(f"{at}: `{name}`: {error}") from None
    except OSError as error:
        raise ModelError(
            f"{at}: `{name}`: {shown(code.folder)} cannot be read: {error.strerror or error}"
        ) from None
    return CodeFolder(folder=code.folder, sha256=digest_of(digests))


def _importable(folder: Path) -> Iterator[Path]:
    for entry in _entries(folder):
        if not entry.is_dir():
            if entry.suffix in _MODULES:
                yield entry
        elif (entry / "__init__.py").is_file():
            yield from _everything(entry)


def _everything(folder: Path) -> Iterator[Path]:
    if folder.is_symlink():
        raise ModelError(
            f"{shown(folder)} is a link to a folder, which is not followed. Put the folder itself there, or name "
            "the one that it lies in."
        )
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _everything(entry)
        elif entry.suffix != ".pyc":
            yield entry


def _entries(folder: Path) -> Iterator[Path]:
    """What lies in a folder, without what is hidden or compiled."""
    for entry in folder.iterdir():
        if not entry.name.startswith(".") and entry.name != "__pycache__":
            yield entry
