"""The fields of a recipe, as Pydantic models, and the short forms that it may use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from yolodeploy.recipe.image_size import ImageSize
from yolodeploy.recipe.messages import NAME, PART, SHA256, VERSION
from yolodeploy.recipe.model_input import Head, Layout, Preprocess, StatedHead
from yolodeploy.recipe.part import Part
from yolodeploy.recipe.search_block import Search
from yolodeploy.system import quotable


def _as_path(value: object) -> object:
    if isinstance(value, str) and "\0" in value:
        raise ValueError("holds a NUL character, which a path must not")
    return Path(value) if isinstance(value, str) else value


AnyPath = Annotated[Path, BeforeValidator(_as_path)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


def _shorthand_head(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


class LoaderRequest(Part):
    """The plugin that loads the weights, and its options."""

    name: str
    params: dict[str, Any]


def _shorthand_loader(value: object) -> object:
    """Turn `ultralytics` or `ultralytics: {path: ...}` into the keys of a LoaderRequest."""
    if isinstance(value, str):
        return {"name": value, "params": {}}
    if isinstance(value, dict) and len(value) == 1:
        ((name, options),) = value.items()
        if isinstance(options, dict | None):
            return {"name": str(name), "params": options or {}}
    raise ValueError(
        "`loader` must be the name of a plugin, alone or with a mapping of its options"
    )


class Model(Part):
    """The model to ship."""

    weights: AnyPath
    """The checkpoint (.pt) or ONNX file (.onnx), relative to the recipe."""
    sha256: str | None = Field(default=None, pattern=SHA256)
    """Digest that the weights file must have; a build with another file is refused."""
    loader: Annotated[LoaderRequest, BeforeValidator(_shorthand_loader)] | None = None
    """The plugin that loads the weights, where it is not the one for files of their suffix; with its options, if it has any."""
    imgsz: ImageSize | None = None
    """Size of the input in pixels: the side of a square, or [height, width]. Multiples of 32; the size that the model was trained at if left out."""
    head: Annotated[StatedHead, BeforeValidator(_shorthand_head)] | None = None
    """The head that runs, of a model that has two: one-to-one needs no non-maximum suppression, one-to-many does. What the family is made for if left out. Of an ONNX file, `layout:` and `kind:` of its output, recognised if left out."""
    preprocess: Preprocess | None = None
    """What an ONNX file expects to be done to images; as Ultralytics' models do if left out."""
    classes: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(
        default=None, min_length=1, strict=False
    )
    """Names of the classes to keep, in the order that the artifact has them; all if left out."""

    @property
    def branch(self) -> Head | None:
        """The head that the recipe asks for."""
        return self.head.kind if self.head else None

    @property
    def layout(self) -> Layout | None:
        """The layout that the recipe states."""
        return self.head.layout if self.head else None

    @property
    def kpt_shape(self) -> tuple[int, int] | None:
        """The keypoints that the recipe states."""
        return self.head.kpt_shape if self.head else None

    @field_validator("classes")
    @classmethod
    def _no_class_twice(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if twice := next((name for name in names or () if (names or ()).count(name) > 1), None):
            raise ValueError(f"`classes` names `{quotable(twice)}` twice. Remove one")
        return names


class View(Part):
    """A selection of images."""

    split: str = "val"
    """Key of the split in data.yaml: train, val or test."""
    images: int | None = Field(default=None, ge=1)
    """How many images, chosen by the seed; all of the split if left out."""
    part: str | None = Field(default=None, pattern=PART)
    """One of several parts of the split that have no image in common, drawn by the seed: "1/2" and "2/2" are its halves; `images` counts within it."""

    @field_validator("part")
    @classmethod
    def _one_that_there_is(cls, part: str | None) -> str | None:
        number, _, count = (part or "1/1").partition("/")
        if not 1 <= int(number) <= int(count):
            raise ValueError(f'`part: "{part}"` must lie between "1/{count}" and "{count}/{count}"')
        return part

    @property
    def fold(self) -> tuple[int, int]:
        """Which part (from 1) of how many."""
        number, _, count = (self.part or "1/1").partition("/")
        return int(number), int(count)


class Data(Part):
    """The labelled images that the model is measured and calibrated with."""

    path: AnyPath
    """An Ultralytics data.yaml, relative to the recipe."""
    evaluation: View = View()
    """Images that accuracy is measured on."""
    calibration: View | None = None
    """Images that steps may look at, for instance to find activation ranges."""
    training: View | None = None
    """Labelled images that steps may train the model on."""
    seed: int = Field(default=0, ge=0)
    """Chooses the images where a view takes fewer than all."""


class Target(Part):
    """The device to ship to."""

    device: str
    """A device name; `yolodeploy devices` lists them."""
    os: str | None = Field(default=None, pattern=VERSION)
    """Oldest OS version that the artifact must run on, quoted: "16" or "17.4"."""
    gpu: str | None = Field(default=None, min_length=1, max_length=64)
    """Run on the device's GPU, through this interface; as the backend runs there by itself if left out. `yolodeploy devices` lists which devices offer which."""
    threads: int | None = Field(default=None, ge=1, le=64)
    """Measure latency on this many threads, too; one thread decides the checks."""


class StepRequest(Part):
    """One entry of `steps`: the name of a transform and its parameters."""

    name: str
    params: dict[str, Any]


class Checks(Part):
    """What the artifact must satisfy before a bundle is written. A check that is left out is not made."""

    confidence: Annotated[float, Field(ge=0.5, le=0.99)] | None = Field(
        default=None,
        description="If given, `map_drop`, `top1_drop` and `class_ap_drop` pass or fail only with this probability: their "
        "whole interval must lie on one side of the limit.",
    )

    on_device: bool = Field(
        default=False,
        description="All figures that checks need must be measured on the target device itself: deploy refuses "
        "to begin without a host (`--on`) that is one. The size needs none.",
    )
    size_mb: Positive | None = None
    """Largest size of the artifact in megabytes (1e6 bytes)."""
    map_drop: Fraction | None = None
    """Largest loss of mAP50-95 against the source model (0.01 is one point): of boxes, masks, poses or rotated boxes."""
    top1_drop: Fraction | None = None
    """Largest loss of top-1 accuracy against the source model, for classification."""
    class_ap_drop: Fraction | None = None
    """Largest loss of AP50-95 of any single class; for classification, of its accuracy."""
    fidelity: Fraction | None = None
    """Smallest AP50-95 of what the artifact finds against what the source model finds; for classification, the share
    of images on which both agree. Needs no labels."""
    latency_ms: Positive | None = Field(
        default=None,
        description="Largest median latency per image in milliseconds, on one thread. Only a host that is the target "
        "device can tell, so deploy refuses to begin without one (`--on`).",
    )
    latency_ratio: Positive | None = None
    """Largest median latency relative to the same backend's fp32 export, measured interleaved."""
    speedup: Positive | None = Field(
        default=None,
        description="Least number of times that the artifact is faster than the fp32 export of the model "
        "as loaded (before pruning), by median latency measured interleaved.",
    )
    throughput_ratio: Positive | None = Field(
        default=None,
        description="Least images per second relative to the same backend's fp32 export for one image at a time, "
        "both with as many requests in flight as the runtime finds best, on all processors.",
    )
    output_diff: Positive | None = None
    """Largest difference of any raw output value from the source model."""
    step_drop: dict[str, Annotated[float, Field(ge=-1, le=1)]] | None = Field(
        default=None,
        description="Largest loss of mAP50-95 (top-1 for classification) of single steps, by name, against their own input; "
        "a negative limit demands a gain.",
    )


def _shorthand_target(value: object) -> object:
    if isinstance(value, str):
        return {"device": value}
    if not isinstance(value, dict | Target):
        raise ValueError(  # noqa: TRY004 - Pydantic's way
            f"`target: {quotable(value)}` must be a device name, or `device:` and `os:`"
        )
    return value


def _shorthand_step(value: object) -> object:
    """Turn `export` or `export: {precision: fp16}` into the keys of a StepRequest."""
    if isinstance(value, str):
        return {"name": value, "params": {}}
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError(_not_one_step(value))
    ((name, params),) = value.items()
    if not isinstance(params, dict | None):
        raise ValueError(  # noqa: TRY004
            f"the parameters of `{quotable(name)}` must be a mapping, such as "
            f"`{quotable(name)}: {{name: value}}`, not `{quotable(params)}`"
        )
    return {"name": str(name), "params": params or {}}


def _not_one_step(value: object) -> str:
    if isinstance(value, dict) and value:
        names = ", ".join(map(str, value))
        return f"an entry of `steps` must be one step, but here are {len(value)}: {quotable(names)}. Begin each with its own `- `"
    return f"an entry of `steps` must be a step's name, alone or with its parameters, not `{quotable(value)}`"


class Recipe(Part):
    """A recipe: which model, which data, which device, which steps in which order, which checks."""

    name: str = Field(pattern=NAME, max_length=100)
    """Name of the bundle: dist/<name>."""
    model: Model
    data: Data
    target: Annotated[Target, BeforeValidator(_shorthand_target)]
    steps: tuple[Annotated[StepRequest, BeforeValidator(_shorthand_step)], ...] = Field(
        min_length=1, max_length=64, strict=False
    )
    """Transforms, run in this order."""
    checks: Checks = Checks()
    seed: int = Field(default=0, ge=0)
    """Seed of everything random in the steps."""
    search: Search | None = None
    """What `yolodeploy search` may change and should improve; nothing else reads it."""
