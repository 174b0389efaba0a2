"""The parts and names by which a recipe selects the layers of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal, get_args

from yolodeploy.errors import PlanRefused

Part = Literal[
    "backbone", "neck", "head", "head.last", "head.proto", "head.keypoints", "head.angle", "dfl", "decode",
]  # fmt: skip
PARTS: tuple[Part, ...] = get_args(Part)
_MAY_LACK = frozenset({"dfl", "decode"})


def choose(selectors: Iterable[str], parts: Mapping[str, Part], where: str) -> frozenset[str]:
    """The names that a part or a glob selects; `head` includes `head.last` and the like.

    `where` is the parameter's name. Raises PlanRefused for a selector that matches nothing, except
    `decode`, which has no convolution of its own, and `dfl`, which heads without distributions lack.
    """
    chosen: set[str] = set()
    for selector in selectors:
        matched = {name for name, part in parts.items() if _matches(selector, name, part)}
        if not matched and selector not in _MAY_LACK:
            raise PlanRefused(f"`{where}: {selector}` matches no layer.{_remedy(selector, parts)}")
        chosen |= matched
    return frozenset(chosen)


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
