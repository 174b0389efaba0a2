"""A parameter of a step that names a file, pinned by its digest."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from yolodeploy.backend.params import Params
from yolodeploy.errors import ModelError
from yolodeploy.recipe import SHA256, AllowedPaths, Position
from yolodeploy.system import StatCache, shown


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
