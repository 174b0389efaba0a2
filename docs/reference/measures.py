"""The page of what reports measure, and of the checks on it."""

from __future__ import annotations

from collections.abc import Mapping

from reference.text import allowed, sentence, table
from yolodeploy.recipe import Checks
from yolodeploy.tasks import Key

INTRODUCTION = """\
# Measures and checks

`report.json` holds every figure as an entry of `measures`: `key`, `source` (the model before compression), `artifact`, `loss`,
`interval`, `confidence`, `group`, `count` and, where it could not be measured, `reason`. [Recipes](../recipes.md#checks) says how each is
measured and when a check fails.
"""
MEANINGS: Mapping[Key, str] = {
    Key.MAP50_95: "Mean average precision over IoU 0.50 to 0.95 of boxes (of rotated boxes for `obb`).",
    Key.MAP50: "Mean average precision at IoU 0.50 of boxes.",
    Key.MASK_MAP50_95: "The same as `map50_95`, for masks.",
    Key.MASK_MAP50: "The same as `map50`, for masks.",
    Key.POSE_MAP50_95: "Mean average precision over OKS 0.50 to 0.95 of poses.",
    Key.POSE_MAP50: "Mean average precision at OKS 0.50 of poses.",
    Key.TOP1: "Share of images whose most probable class is right.",
    Key.TOP5: "Share of images whose class is among the five most probable.",
    Key.SIZE_AP: "AP50-95 of small, medium and large objects; `group` is the size.",
    Key.CLASS_AP: "AP50-95 of each class, or its accuracy for classification; `group` is the class.",
    Key.FIDELITY: "AP50-95 of the artifact's findings against the source model's; the share of equal answers for classification. Needs no labels.",
    Key.DIVERGENCE: "How far the artifact's probabilities are from the source model's, in nats. Classification only.",
    Key.OUTPUT_DIFF: "Largest difference of a raw output value from the source model; `group` is the kind of output.",
    Key.OUTPUT_DIFF_MEAN: "Mean difference of raw output values from the source model.",
    Key.GOLDEN_DIFF: "Largest difference of a raw output value from the golden output in the bundle.",
    Key.GOLDEN_FOUND: "Share of the findings in the golden image on which both agree.",
    Key.LATENCY: "Median latency per image, in milliseconds.",
    Key.LATENCY_P90: "Latency that 90 % of the runs stay below, in milliseconds.",
    Key.PEAK_MEMORY: "Peak memory of the process that runs the artifact, in megabytes.",
    Key.LATENCY_RATIO: "Median latency relative to the same backend's fp32 export of the same model.",
    Key.SPEEDUP: "How many times as fast as the fp32 export of the model as loaded, before pruning.",
    Key.THROUGHPUT: "Images per second with many requests in flight.",
    Key.THROUGHPUT_RATIO: "Images per second relative to the fp32 export for one image.",
}


def measures_page() -> str:
    """Every key of a measure, then every check; raises KeyError for a measure without a meaning."""
    fields = Checks.model_json_schema()["properties"]
    measures = [(f"`{key.value}`", MEANINGS[key]) for key in Key]
    checks = [
        (f"`{name}`", allowed(field), sentence(field["description"]))
        for name, field in fields.items()
    ]
    return "\n\n".join(
        [
            INTRODUCTION,
            "## Measures",
            table(("key", "meaning"), measures),
            "## Checks",
            table(("check", "takes", "the artifact must satisfy"), checks),
        ]
    )
