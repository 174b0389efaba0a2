"""The parameter `keep_float`: which layers a quantizing step leaves in floating point."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from yolodeploy.compress.layers import Part, choose
from yolodeploy.errors import PlanRefused

if TYPE_CHECKING:
    from yolodeploy.compress.learned_ranges import Ranges

UNTOUCHED: tuple[Part, ...] = ("dfl", "decode")


def refuse_missing(
    keep_float: Sequence[str], why: str, required: Sequence[str] = UNTOUCHED
) -> str | None:
    """Say which required parts `keep_float` lacks, why it needs them, and what to write; None if none."""
    absent = [part for part in required if part not in keep_float]
    if not absent:
        return None
    return (
        f"`keep_float` leaves out {' and '.join(f'`{part}`' for part in absent)}: {why}. "
        f"Write keep_float: [{', '.join((*keep_float, *absent))}]."
    )


def refuse_compressed(forms: Mapping[str, str], weights_only: str) -> None:
    """Raise PlanRefused where a model to quantize has layers that are not stored as floats.

    `forms` says how every convolution is stored, as in `Interface.layers`; `weights_only` names the
    step that may have compressed the weights alone.
    """
    if "int8" in forms.values():
        raise PlanRefused("the model is quantized already. Remove the second `quantize`.")
    for name, form in forms.items():
        if form not in ("fp32", "fp16"):
            raise PlanRefused(
                f"the weights of {name} are compressed already ({form}), and `quantize` would round them "
                f"again. Put `{weights_only}` after `quantize`: it then compresses the layers that stayed "
                "float."
            )


def layers_to_quantize(
    keep_float: Iterable[str],
    parts: Mapping[str, Part],
    candidates: Iterable[str],
    learned: Ranges | None = None,
) -> tuple[str, ...]:
    """The `candidates` that `keep_float` does not select, in their order.

    `parts` are those of all layers, by name. Raises PlanRefused for a selector that matches nothing,
    if no candidate is left, and if training learned ranges for other layers than these.
    """
    kept = choose(keep_float, parts, "keep_float")
    names = tuple(name for name in candidates if name not in kept)
    if not names:
        raise PlanRefused("`keep_float` selects every convolution. Remove `quantize`.")
    if learned:
        learned.require(names)
    return names
