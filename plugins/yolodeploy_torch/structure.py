"""Which convolution of a model is backbone, neck or head, read off the table of layers.

Recipes name layers by these parts, because names of graph nodes change with every release of the
tools. A backend gives the nodes of its own graph the same parts and selects with `choose`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal, get_args

from yolodeploy.errors import PlanRefused
from yolodeploy_torch.arch import (
    Arch,
    C2fLayer,
    ConvLayer,
    DetectLayer,
    Layer,
    SppfLayer,
    UpsampleLayer,
)

Part = Literal["backbone", "neck", "head", "head.last", "dfl", "decode"]
PARTS: tuple[Part, ...] = get_args(Part)


def convolutions(arch: Arch) -> dict[str, Part]:
    """The part of every convolution, by the name of its module, in order of execution.

    `backbone` ends where the first map is upsampled, `neck` is what depends on an upsampled map,
    `head` are the branches of the detection head, `head.last` the last convolution of each, and
    `dfl` the fixed one that turns a box side's distribution into its mean.
    """
    upsampled: set[int] = set()
    found: dict[str, Part] = {}
    for row, layer in enumerate(arch.layers):
        if isinstance(layer, UpsampleLayer) or upsampled.intersection(layer.sources):
            upsampled.add(row)
        body: Part = "neck" if row in upsampled else "backbone"
        for name, part in _inside(layer, body):
            found[f"model.{row}.{name}"] = part
    return found


def choose(selectors: Iterable[str], parts: Mapping[str, Part], where: str) -> frozenset[str]:
    """The names that a part or a glob selects; `head` includes `head.last`.

    Raises PlanRefused for a selector that matches nothing; only `decode` may, for it has no
    convolution of its own and some graphs leave it to the app. `where` is the parameter's name.
    """
    chosen: set[str] = set()
    for selector in selectors:
        matched = {name for name, part in parts.items() if _matches(selector, name, part)}
        if not matched and selector != "decode":
            raise PlanRefused(f"`{where}: {selector}` matches no layer.{_remedy(selector, parts)}")
        chosen |= matched
    return frozenset(chosen)


def _inside(layer: Layer, body: Part) -> Iterator[tuple[str, Part]]:
    """The convolutions of one row, by name below the row."""
    match layer:
        case ConvLayer():
            yield "conv", body
        case C2fLayer():
            yield "cv1.conv", body
            for block in range(len(layer.blocks)):
                yield f"m.{block}.cv1.conv", body
                yield f"m.{block}.cv2.conv", body
            yield "cv2.conv", body
        case SppfLayer():
            yield "cv1.conv", body
            yield "cv2.conv", body
        case DetectLayer():
            for branches, name in ((layer.boxes, "cv2"), (layer.scores, "cv3")):
                for level in range(len(branches)):
                    yield f"{name}.{level}.0.conv", "head"
                    yield f"{name}.{level}.1.conv", "head"
                    yield f"{name}.{level}.2", "head.last"
            yield "dfl.conv", "dfl"


def _matches(selector: str, name: str, part: Part) -> bool:
    if selector in PARTS:
        return part == selector or part.startswith(f"{selector}.")
    return part != "decode" and fnmatchcase(name, selector)


def _remedy(selector: str, parts: Mapping[str, Part]) -> str:
    known = [part for part in PARTS if part in {*parts.values(), "decode"}]
    layers = [name for name, part in parts.items() if part != "decode"]
    near = get_close_matches(selector, [*known, *layers], n=1)
    guess = f" Perhaps you meant `{near[0]}`." if near else ""
    return (
        f"{guess} Allowed are {', '.join(known)}, and the names of the {len(layers)} convolutions, "
        f"from `{layers[0]}` to `{layers[-1]}`, with * and ?."
    )
