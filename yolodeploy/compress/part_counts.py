"""Add up what the layers of an exported model hold and cost, part by part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from yolodeploy.backend import LayerBytes, PartCount
from yolodeploy.compress.layers import PARTS, Part

KERNELS_ONLY = "Parameters and FLOPs are those of the layers with kernels, without biases."


def count_parts(
    parts: Mapping[str, Part],
    forms: Mapping[str, str],
    parameters: Mapping[str, int],
    macs: Mapping[str, int] | None = None,
) -> tuple[PartCount, ...]:
    """Count the layers of `forms` by part; all tables are by name of the layer. Without `macs` none are counted."""
    found = []
    for part in PARTS:
        names = [name for name in forms if parts.get(name) == part]
        if names:
            held = sum(parameters.get(name, 0) for name in names)
            cost = None if macs is None else sum(macs.get(name, 0) for name in names)
            stored = Counter(forms[name] for name in names)
            found.append(PartCount(part, len(names), held, cost, stored))
    return tuple(found)


def weigh(
    parts: Mapping[str, Part], forms: Mapping[str, str], sizes: Mapping[str, int]
) -> tuple[LayerBytes, ...]:
    """The layers of `forms` with their bytes; all tables are by name of the layer. What has no part decodes distances."""
    return tuple(
        LayerBytes(name, parts.get(name, "dfl"), form, sizes.get(name, 0))
        for name, form in forms.items()
    )
