"""Apple's phones, as data, and which package format runs on them.

Chips and first systems: each phone's `source`, Apple's page of it. Last systems: Apple Support,
"iPhone models compatible with iOS 16", "... iOS 17", "... iOS 18", "... iOS 26", "... iOS 27"
(https://support.apple.com/guide/iphone/iphone-models-compatible-with-ios-27-iphe3fa5df43/ios).
"""

from __future__ import annotations

from collections.abc import Iterator

from yolodeploy.backend import Device, ModelInfo, Params, Target
from yolodeploy_coreml.params import UNTOUCHED, Palettize, Quantize, QuantizeWeights, WeightParams

OLDEST, DEFAULT = 15, 16
# What coremltools 9 can write (`coremltools.target`). Apple counts by years since 26: no iOS 19 to 25.
_BEFORE_YEARS, NEWEST = 18, 26
_OS = "iOS"
_SUPPORT, _NEWS = "https://support.apple.com", "https://www.apple.com/newsroom/2026/09"
# Compressed weights came with the MIL operations of iOS 16, 8-bit activations with those of iOS 17
# ("MIL Ops", coremltools 9).
_FLOORS = {"palettize": 16, "quantize": 17, "quantize_weights": 16, "sparsify": 16}


def _iphone(
    name: str, title: str, first: str, last: str | None = None, *, chip: str, page: str
) -> Device:
    """A phone; a recipe that names no version gets a package for iOS 16, or for the phone's first up to 18.

    Phones from iOS 26 on get iOS 16's again, which they run: newer forms are said to detect more slowly.
    """
    # The A11's Neural Engine is closed to Core ML ("ane" stands for one that apps can use).
    features = frozenset({chip} if chip == "a11" else {chip, "ane"})
    default = str(DEFAULT if int(first) > _BEFORE_YEARS else max(DEFAULT, int(first)))
    return Device(name, title, _OS, first, last, features, source=page, os_default=default)


DEVICES = (
    _iphone("iphone-8", "iPhone 8", "11", "16", chip="a11", page=f"{_SUPPORT}/kb/SP767"),
    _iphone("iphone-xr", "iPhone XR", "12", "18", chip="a12", page=f"{_SUPPORT}/kb/SP781"),
    _iphone("iphone-11", "iPhone 11", "13", chip="a13", page=f"{_SUPPORT}/kb/SP804"),
    _iphone("iphone-12", "iPhone 12", "14", chip="a14", page=f"{_SUPPORT}/kb/SP830"),
    _iphone("iphone-13", "iPhone 13", "15", chip="a15", page=f"{_SUPPORT}/kb/SP851"),
    _iphone(
        "iphone-se-3", "iPhone SE (3rd generation)", "15", chip="a15", page=f"{_SUPPORT}/kb/SP867"
    ),
    _iphone("iphone-14-pro", "iPhone 14 Pro", "16", chip="a16", page=f"{_SUPPORT}/kb/SP875"),
    _iphone("iphone-15-pro", "iPhone 15 Pro", "17", chip="a17-pro", page=f"{_SUPPORT}/kb/SP903"),
    _iphone("iphone-16", "iPhone 16", "18", chip="a18", page=f"{_SUPPORT}/en-us/121029"),
    _iphone("iphone-17", "iPhone 17", "26", chip="a19", page=f"{_SUPPORT}/en-us/125089"),
    _iphone(
        "iphone-17-pro", "iPhone 17 Pro", "26", chip="a19-pro", page=f"{_SUPPORT}/en-us/125090"
    ),
    _iphone(
        "iphone-17-pro-max",
        "iPhone 17 Pro Max",
        "26",
        chip="a19-pro",
        page=f"{_SUPPORT}/en-us/125091",
    ),
    _iphone("iphone-air", "iPhone Air", "26", chip="a19-pro", page=f"{_SUPPORT}/en-us/125092"),
    _iphone("iphone-17e", "iPhone 17e", "26", chip="a19", page=f"{_SUPPORT}/en-us/126470"),
    _iphone(
        "iphone-18-pro",
        "iPhone 18 Pro",
        "27",
        chip="a20-pro",
        page=f"{_NEWS}/apple-debuts-iphone-18-pro-and-iphone-18-pro-max/",
    ),
    _iphone(
        "iphone-18-pro-max",
        "iPhone 18 Pro Max",
        "27",
        chip="a20-pro",
        page=f"{_NEWS}/apple-debuts-iphone-18-pro-and-iphone-18-pro-max/",
    ),
    _iphone(
        "iphone-duo", "iPhone Duo", "27", chip="a20-pro", page=f"{_NEWS}/apple-unveils-iphone-duo/"
    ),
    # It promises nothing about the chip. iOS 16 is the oldest that reads compressed weights.
    Device(
        name="ios",
        title="Any iPhone (generic)",
        os=_OS,
        os_min=str(OLDEST),
        source="https://apple.github.io/coremltools/docs-guides/source/target-conversion-formats.html",
        os_default=str(DEFAULT),
        generic=True,
    ),
)


def ios_format(target: Target) -> int:
    """Major iOS version that a package is written for; 16 for a target that names none."""
    return DEFAULT if target.os_version is None else int(target.os_version.split(".")[0])


def refusal(step: str, params: Params, target: Target) -> str | None:
    """Why a step cannot be done for the target, with the remedy; None if it can."""
    return _no_package(target) or _decoder_compressed(params) or _too_old(step, params, target)


def nms_refusal(params: Params, model: ModelInfo) -> str | None:
    """Why a package of the model cannot end in Core ML's non-maximum suppression, with the remedy; None if it can."""
    if not getattr(params, "nms", False) or model.task == "detect":
        return None
    why = "has no boxes" if model.task == "classify" else "returns more than boxes, which it drops"
    return (
        f"`nms: true`, but Core ML's suppression is for plain detectors, and this model for `{model.task}` {why}. "
        "Remove `nms`: contract.json says how the app chooses."
    )


def _no_package(target: Target) -> str | None:
    """Why no package can be made for the target's iOS version."""
    asked = target.os_version
    if asked is not None and not asked.split(".")[0].isdecimal():
        return f"{asked!r} is not an iOS version. Write one like 16 or 17.4."
    version = ios_format(target)
    if version < OLDEST:
        return f"iOS {asked} cannot run ML programs. Ask for iOS {OLDEST} or newer."
    if _BEFORE_YEARS < version < NEWEST:
        return f"there is no iOS {version}: {NEWEST} followed {_BEFORE_YEARS}. Write {_BEFORE_YEARS} or {NEWEST}."
    if version > NEWEST:
        return (
            f"Packages are written for iOS {OLDEST} to {NEWEST}, not {asked}. "
            f"Ask for {NEWEST}: newer systems run it."
        )
    return None


def _decoder_compressed(params: Params) -> str | None:
    """Why `keep_float` must name the parts that turn the network's output into boxes."""
    if not isinstance(params, WeightParams | Quantize):
        return None
    absent = [part for part in UNTOUCHED if part not in params.keep_float]
    if not absent:
        return None
    why = "every box depends on their exact values"
    if isinstance(params, Quantize):
        why = "boxes in pixels and scores in 0..1 do not fit one 8-bit range"
    return (
        f"`keep_float` must name {' and '.join(f'`{part}`' for part in absent)}: {why}. "
        f"Write keep_float: [{', '.join((*params.keep_float, *absent))}]."
    )


def _too_old(step: str, params: Params, target: Target) -> str | None:
    """Why the target's iOS version cannot read what a step writes."""
    floor, what, other = _FLOORS.get(step, OLDEST), f"what `{step}` writes", ""
    for needed, use in _needs_ios18(params):
        floor, what, other = 18, needed, f" {use},"
    version = ios_format(target)
    if version >= floor:
        return None
    last = target.device.os_max
    wider = f'Write os: "{floor}"'
    if last is not None and int(last.split(".")[0]) < floor:
        wider = f"Choose a device that runs iOS {floor}"
    return f"iOS {version} cannot read {what}; iOS {floor} and newer can. {wider},{other} or remove the step."


def _needs_ios18(params: Params) -> Iterator[tuple[str, str]]:
    """What only iOS 18 can read of a step's result, and what to do without it."""
    if isinstance(params, Palettize):
        if params.group_size is not None:
            yield "a table per group of channels (`palettize` with group_size)", "remove group_size"
        if 3 in {params.bits, *params.layers.values()}:
            yield "3-bit tables (`palettize`)", "choose 2 or 4 bits"
    if isinstance(params, QuantizeWeights) and params.bits == 4:
        yield "int4 weights (`quantize_weights`)", "choose 8 bits"
