"""The class of a whole image."""

from __future__ import annotations

from typing import Any

from bundle import Bundle, Found, differences


def decode(bundle: Bundle) -> Found:
    """The golden results of a classifier: the best classes with their probabilities.

    Highest first, of equals the lower index; the softmax is already applied.
    """
    probabilities = bundle.outputs["output"].tolist()
    order = sorted(range(len(probabilities)), key=lambda index: -probabilities[index])
    return [
        {"class": index, "name": bundle.labels[index], "probability": probabilities[index]}
        for index in order[: bundle.contract["postprocess"]["best"]]
    ]


def describe(found: dict[str, Any]) -> str:
    """What is printed of a class beside its name and probability."""
    return f"class {found['class']}"


def check(found: Found, bundle: Bundle) -> list[str]:
    """Differences from the golden results."""
    return differences(found, bundle.golden["classes"])
