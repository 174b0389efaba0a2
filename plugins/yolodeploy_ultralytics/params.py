"""Parameters of the step that loads a checkpoint by executing it."""

from __future__ import annotations

from pydantic import Field

from yolodeploy.backend import CodeFolder
from yolodeploy_onnx.params import LoadOnnx


class LoadUltralytics(LoadOnnx):
    """Load a checkpoint with Ultralytics, which executes it and the modules that it names."""

    path: CodeFolder | None = Field(
        default=None,
        description="The folder that the checkpoint's own modules, or a fork of Ultralytics, are imported from, relative "
        "to the recipe; left out, only what is installed.",
    )
