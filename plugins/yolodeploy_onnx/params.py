"""Parameters of the step that reads an ONNX file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from yolodeploy.backend import Load
from yolodeploy.recipe import Layout, Preprocess


class LoadOnnx(Load):
    """Read an ONNX file; what its images and outputs are comes from the file, or from the recipe's `model`."""

    layout: Layout | None = Field(
        default=None, description="What the numbers of the output mean; left out, recognised."
    )
    kpt_shape: tuple[int, Literal[2, 3]] | None = Field(
        default=None,
        description="How many keypoints a pose has, and the numbers of each; left out, as the file says.",
    )
    preprocess: Preprocess | None = Field(
        default=None,
        description="What is done to images; left out, they are letterboxed (of a classifier cropped) and given in 0..1, RGB.",
    )
    names: tuple[str, ...] | None = Field(
        default=None,
        description="The classes of the data set, for a file that does not name its own.",
    )
