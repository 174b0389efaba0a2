"""What `yolodeploy inspect` found, as plain data and as a table for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from yolodeploy.backend import Inspected, PartCount, Place
from yolodeploy.planning import Option, Possible
from yolodeploy.report.report import details_of
from yolodeploy.system import GREY, WIDTH, quotable
from yolodeploy.tasks import COLUMNS

_LABEL, _MANY, _FEW = 12, 8, 3  # columns of a label; classes and devices that are named
_GIGA = 10**9
_UNREAD = "not read: whether all of them are finite is not known"
Row = tuple[str, str]


def described(found: Inspected) -> dict[str, Any]:
    """What a file says of its model, as plain data; what it does not say is None or empty."""
    info = found.info
    return {
        "kind": found.kind,
        "format": found.format,
        "family": found.family or None,
        "scale": found.scale or None,
        "task": info.task if info else None,
        "classes": list(info.names) if info else None,
        "trained_at": info.imgsz if info else None,
        "trained_on": found.trained_on or None,
        "channels": info.channels if info else found.imgsz and found.imgsz.channels,
        "strides": list(info.strides) if info else None,
        "head": info.head if info else None,
        "heads": list(info.heads) if info else None,
        "kpt_shape": list(info.kpt_shape) if info and info.kpt_shape else None,
        "parameters": found.parameters,
        "flops": found.flops,
        "imgsz": [found.imgsz.height, found.imgsz.width] if found.imgsz else None,
        "parts": [_part(part) for part in found.parts],
        "weights_bytes": dict(found.stored),
        "weights_checked": found.weights_checked,
        "notes": list(found.notes),
    }


def _part(part: PartCount) -> dict[str, Any]:
    return {
        "part": part.part,
        "layers": part.layers,
        "parameters": part.parameters,
        "flops": part.flops,
        "forms": dict(part.forms),
    }


def possible(found: Sequence[Possible]) -> list[dict[str, Any]]:
    """What recipes can do with it, target by target, as plain data."""
    return [
        {
            "backend": each.backend,
            "problem": each.problem,
            "devices": list(each.devices),
            "before_export": [option.step for option in each.source if not option.refused],
            "steps": [
                {"step": o.step, "makes": o.produces, "refused": dict(o.refused)} for o in each.own
            ],
        }
        for each in found
    ]


def bundle_rows(claims: Mapping[str, Any]) -> list[Row]:
    """What a bundle claims, row by row."""
    target, problems = claims["target"], claims["problems"]
    rows = [
        ("recipe", f"{claims['recipe']}, for {target['title']} ({details_of(target)})"),
        ("steps", ", ".join(claims["steps"])),
    ]
    if claims["classes"]:
        rows += [("task", claims["task"]), ("classes", _classes(claims["classes"]))]
        rows += [("head", claims["head"])] if claims["task"] != "classify" else []
    if (accuracy := claims["accuracy"]) and None not in accuracy.values():
        figures = "{artifact:.4f}, source {source:.4f}".format_map(accuracy)
        title = COLUMNS.get(accuracy["key"], accuracy["key"])
        rows.append((title, f"{figures}, as the report says"))
    if claims["place"]:
        rows.append(("measured on", quotable(Place(**claims["place"]).words(), 300)))
    rows += [("also on", _also(each)) for each in claims["sets"]]
    intact = "every file is as the manifest lists it"
    more = f" (and {len(problems) - 1} more: `yolodeploy verify`)" if len(problems) > 1 else ""
    return [*rows, ("intact", f"no: {problems[0]}{more}" if problems else intact)]


def _also(found: Mapping[str, Any]) -> str:
    """What a set of evidence says, in a line."""
    parts = [quotable(found["words"], 300)]
    if found["latency_ms"] is not None:
        parts.append(f"latency {found['latency_ms']:.2f} ms")
    if found["accuracy"] is not None:
        parts.append(f"accuracy {found['accuracy']:.4f}")
    if failed := [name for name, verdict in found["checks"].items() if verdict != "ok"]:
        parts.append(f"missed checks: {', '.join(failed)}")
    return "; ".join(parts)


def inspection_table(
    value: Mapping[str, Any], found: Sequence[Possible], first: Sequence[Row] = ()
) -> str:
    """The same as text; `value` has `path`, `bytes` and what `described` gives. `first` are rows before the others."""
    lines = [f"{value['path']}: {value['kind']}, {_mega(value['bytes'])}B"]
    lines += [_row(label, text) for label, text in (*first, *_rows(value))]
    if value["parts"]:
        lines += ["", *_parts(value)]
    if found:
        lines += ["", *_targets(found)]
    return "\n".join(lines)


def _rows(value: Mapping[str, Any]) -> Iterator[Row]:
    if value["task"]:
        yield "model", _model(value)
        yield "classes", _classes(value["classes"])
        if value["kpt_shape"]:
            count, numbers = value["kpt_shape"]
            each = "x, y, visibility" if numbers == 3 else "x, y"
            yield "keypoints", f"{count} of each object: {each}"
        if value["task"] != "classify":
            yield "head", _head(value)
    elif value["imgsz"]:
        yield "image", f"{_size(value['imgsz'])}, {_colours(value['channels'])}"
    if value["trained_on"]:
        yield "trained on", quotable(value["trained_on"], 300)
    if value["parameters"] is not None:
        yield "parameters", f"{value['parameters']:,}"
    if value["flops"] is not None:
        yield "FLOPs", f"{_operations(value['flops'])} for one image of {_size(value['imgsz'])}"
    if value["weights_bytes"]:
        forms = sorted(value["weights_bytes"].items(), key=lambda item: -item[1])
        yield "weights", ", ".join(f"{_mega(size)}B {form}" for form, size in forms)
        finite = "all of them finite" if value["weights_checked"] else _UNREAD
        yield "", finite
    for text in value["notes"]:
        yield "note", text


def _head(value: Mapping[str, Any]) -> str:
    others = [head for head in value["heads"] if head != value["head"]]
    more = f", also {', '.join(others)}" if others else ""
    strides = f"strides {', '.join(map(str, value['strides']))}" if value["strides"] else ""
    return ", ".join(filter(None, [f"{value['head']}{more}", strides]))


def _model(value: Mapping[str, Any]) -> str:
    scale = f", scale {value['scale']}" if value["scale"] else ""
    trained = value["trained_at"]
    at = f", trained at {_size(trained)}" if trained else ""
    family = f"{value['family']} " if value["family"] else ""
    return f"{family}{value['task']}{scale}, {_colours(value['channels'])} images{at}"


def _classes(names: Sequence[str]) -> str:
    more = f", and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return f"{len(names)}: {', '.join(names[:_MANY])}{more}"


def _parts(value: Mapping[str, Any]) -> Iterator[str]:
    """A row per part: layers, parameters, operations, and the forms of its layers."""
    yield f"  {'part':<{_LABEL}}{'layers':>8}{'parameters':>13}{'FLOPs':>10}  stored as"
    for row in value["parts"]:
        held = "-" if row["parameters"] is None else f"{row['parameters']:,}"
        cost = "-" if row["flops"] is None else _operations(row["flops"])
        forms = ", ".join(f"{count} x {form}" for form, count in row["forms"].items())
        head = f"  {row['part']:<{_LABEL}}{row['layers']:>8}{held:>13}{cost:>10}  "
        yield _wrapped(head, forms)


def _targets(found: Sequence[Possible]) -> Iterator[str]:
    yield f"  {'target':<{_LABEL}}{'devices':>8}  steps that a recipe can name, with their defaults"
    head = f"  {'any':<{_LABEL}}{'':>8}  "
    if source := {
        option.step: None for each in found for option in each.source if not option.refused
    }:
        yield _wrapped(head, f"{', '.join(source)} (before the export)")
    for each in found:
        head = f"  {each.backend:<{_LABEL}}{len(each.devices):>8}  "
        options = [_option(option, each.devices) for option in each.own]
        yield _wrapped(head, ", ".join(options) or "none more")
        if each.problem:
            yield _wrapped(" " * len(head), f"cannot run here: {each.problem}")


def _option(option: Option, devices: Sequence[str]) -> str:
    """A step, and the devices that refuse it or the few that take it."""
    if not option.refused:
        return option.step
    taking = [device for device in devices if device not in option.refused]
    if not taking:
        return f"{option.step} (on none of them)"
    if len(taking) <= len(option.refused):
        return f"{option.step} (on {_some(taking)} only)"
    return f"{option.step} (not on {_some(list(option.refused))})"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return f"{', '.join(names[:_FEW])}{more}"


def _row(label: str, text: str) -> str:
    return _wrapped(f"  {label:<{_LABEL}}", text)


def _wrapped(head: str, text: str) -> str:
    rest = " " * len(head)
    return textwrap.fill(
        text, WIDTH, initial_indent=head, subsequent_indent=rest, break_on_hyphens=False
    )


def _size(sides: Any) -> str:
    height, width = sides if isinstance(sides, list | tuple) else (sides, sides)
    return f"{height} px" if height == width else f"{height} x {width} px (height x width)"


def _colours(channels: int | None) -> str:
    return "grey" if channels == GREY else "RGB"


def _mega(count: int) -> str:
    return f"{count / 1e6:.2f} M"


def _operations(count: int) -> str:
    return f"{count / 1e9:.2f} G" if count >= _GIGA else f"{count / 1e6:.1f} M"
