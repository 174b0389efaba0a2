"""Write a recipe as a person would: in the order of the story, with the reason beside each choice."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from yolodeploy.errors import RecipeError
from yolodeploy.proposal.images import Images
from yolodeploy.proposal.limits import Limit
from yolodeploy.proposal.model import Model
from yolodeploy.proposal.targets import Advised
from yolodeploy.recipe import View, scalar_readings

_WIDTH = 100  # columns of comments
_PLAIN = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./+@=-]*( [A-Za-z0-9_./+@=-]+)*")
_GENERIC = {"best", "last", "model", "weights"}  # names of weights that say nothing
_MOST = 100  # characters of a name


@dataclass(frozen=True)
class Paths:
    """What a recipe names, as it stands there: the weights, the data set, and the schema."""

    weights: str
    data: str
    schema: str


def recipe_name(model: Model, device: str) -> str:
    """A valid name: the device's, after that of the weights unless this says nothing, as `best` does."""
    stem = re.sub(r"[^a-z0-9._-]+", "-", model.path.stem.lower()).strip("-._")
    if not stem or stem in _GENERIC:
        return device
    return f"{stem[: _MOST - len(device) - 1]}-{device}"


def recipe_text(
    name: str,
    model: Model,
    images: Images,
    advised: Advised,
    limits: Sequence[Limit],
    paths: Paths,
    note: str,
) -> str:
    """The recipe; `note` says where its checks come from."""
    target = f"target: {advised.device.name}"
    blocks = [
        _head(name, model, advised, paths),
        _model(model, paths),
        _data(images, advised, paths),
        [target],
    ]
    blocks += [_steps(advised), _checks(limits, images, note), [""]]
    return "\n".join(line for block in blocks for line in block)


def _head(name: str, model: Model, advised: Advised, paths: Paths) -> Iterator[str]:
    yield f"# yaml-language-server: $schema={paths.schema}"
    yield from comment(
        f"{model}, for {advised.device.title}. Written by `yolodeploy init`; change what you like."
    )
    yield f"name: {name}"


def _model(model: Model, paths: Paths) -> Iterator[str]:
    yield "model:"
    yield f"  weights: {scalar(paths.weights)}"
    if len(model.info.heads) > 1 and model.info.head == "one-to-one":
        head = "The one-to-one head runs, which needs no non-maximum suppression in the app; `head: one-to-many` takes the other."
        yield from comment(head, "  ")
    if model.stated is not None:
        yield from comment(f"{model.because[:1].upper()}{model.because[1:]}.", "  ")
        yield f"  imgsz: {_plain(model.stated.plain)}"


def _data(images: Images, advised: Advised, paths: Paths) -> Iterator[str]:
    yield "data:"
    yield f"  path: {scalar(paths.data)}"
    yield f"  evaluation: {_view(images.evaluation)}  # {_measured_on(images)}"
    if images.calibration and advised.reads("calibration"):
        yield f"  calibration: {_view(images.calibration)}  # for the ranges of activations"
    elif images.calibration is None:
        yield from comment(f"No `calibration:`, because {images.because.rstrip('.')}.", "  ")


def _measured_on(images: Images) -> str:
    """How many images are measured on, and how to take more."""
    one = "image" if images.available == 1 else "images"
    if images.evaluated < images.available:
        told = f"measured on {images.evaluated:,} of {images.available:,} images; remove `images` to take all"
    else:
        told = f"measured on {images.evaluated:,} {one}"
    return told if images.labelled else f"{told}; without labels only fidelity tells"


def _view(view: View) -> str:
    count = f", images: {view.images}" if view.images else ""
    return f"{{split: {view.split}{count}}}"


def _steps(advised: Advised) -> Iterator[str]:
    yield "steps:"
    for step in advised.advice.steps:
        yield from comment(step.why, "  ")
        params = f": {_plain(dict(step.params))}" if step.params else ""
        yield f"  - {step.name}{params}"
    for text in advised.advice.more:
        yield from comment(text, "  ")


def _checks(limits: Sequence[Limit], images: Images, note: str) -> Iterator[str]:
    if not limits:
        return
    yield "checks:"
    yield from comment(note, "  ")
    for limit in limits:
        said = f"  # {limit.comment}" if limit.comment else ""
        yield f"  {limit.key}: {limit.value:g}{said}"
    if not images.labelled:
        yield from comment(
            "With labels, `map_drop` or `top1_drop` would limit the loss of accuracy.", "  "
        )


def comment(text: str, indent: str = "") -> list[str]:
    """A text as comment lines."""
    head = f"{indent}# "
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=head,
        subsequent_indent=head,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _plain(value: object) -> str:
    """A value in YAML's short form."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_plain(each)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    return scalar(value) if isinstance(value, str) else json.dumps(value)


def scalar(text: str) -> str:
    """A text as YAML has it, quoted where it must be; raises RecipeError for one that no text file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RecipeError(
            f"the name {text!a} holds bytes that are no UTF-8, which a recipe cannot have. Rename the file or its folder."
        ) from None
    plain = _PLAIN.fullmatch(text) and re.search("[A-Za-z]", text)
    if plain and scalar_readings(text) == {text}:
        return text
    return "".join(map(_visible, json.dumps(text, ensure_ascii=False)))


def _visible(character: str) -> str:
    """A character, or its escape where YAML would not keep it or a reader would not see it."""
    if character.isprintable():
        return character
    return f"\\U{ord(character):08x}"
