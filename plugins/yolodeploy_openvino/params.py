"""Parameters of the steps that only OpenVINO offers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from yolodeploy import transforms


class Quantize(transforms.Quantize):
    """Post-training W8A8 by NNCF."""

    preset: Literal["mixed", "performance"] = Field(
        default="mixed",
        description="Activations in asymmetric ranges (mixed: closer) or symmetric ones "
        "(performance: simpler arithmetic). Weights are symmetric in both.",
    )
    fast_bias_correction: bool = Field(
        default=True,
        description="Correct the mean error of each layer from the statistics already taken; "
        "false runs the images again for every layer, which takes many times longer.",
    )
