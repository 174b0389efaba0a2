"""A file that a step's parameters name, pinned by its digest."""

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

from yolodeploy.digest import StatCache
from yolodeploy.errors import ModelError
from yolodeploy.transforms import Params
from yolodeploy.trust import Trust
from yolodeploy.wording import SHA256
from yolodeploy.yamlfile import Position, shown


class PinnedFile(BaseModel):
    """A file beside the recipe. Only its digest goes into step ids and locks, not where it lies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path = Field(description="The file, relative to the recipe.")
    sha256: str = Field(pattern=SHA256, description="Digest that the file must have.")

    @field_validator("file", mode="before")
    @classmethod
    def _beside_the_recipe(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str) and "\0" in value:
            raise ValueError("holds a NUL character, which no path can")
        folder = (info.context or {}).get("folder")
        return Path(folder, value) if folder and isinstance(value, str) else value

    @model_serializer(mode="plain")
    def _content(self, info: SerializationInfo) -> dict[str, Any]:
        plain = {"sha256": self.sha256}
        return plain if info.mode == "json" else {"file": self.file, **plain}


def verify_pinned(params: Params, at: Position, cache: StatCache, trust: Trust) -> None:
    """Raise ModelError for a pinned file of the parameters that is absent or not the pinned one.

    Raises PlanRefused for one that the recipe may not read.
    """
    for name in type(params).model_fields:
        pinned = getattr(params, name)
        if isinstance(pinned, PinnedFile):
            trust.require(pinned.file, at, f"`{name}`:")
            _verify(name, pinned, at, cache)


def _verify(name: str, pinned: PinnedFile, at: Position, cache: StatCache) -> None:
    if not os.path.isfile(pinned.file):  # noqa: PTH113 - unlike Path's, it takes any text
        raise ModelError(f"{at}: `{name}`: there is no file {shown(pinned.file)}")
    try:
        digest = cache.digest(pinned.file)
    except OSError as fault:
        raise ModelError(f"{at}: {shown(pinned.file)} cannot be read: {fault.strerror}") from None
    if digest != pinned.sha256:
        raise ModelError(
            f"{at}: `{name}`: {shown(pinned.file)} has sha256 {digest}, not the pinned one. Restore "
            "the file, or change the pin if the new one is meant."
        )
