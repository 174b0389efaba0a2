"""Draws Vega-Lite specifications (https://vega.github.io/vega-lite/docs/) as SVG that a page can hold.

vl-convert runs Vega in this process. What it draws is cleaned here: no fixed size, no fonts, no roles inside of a picture, a
`<title>` where Vega writes a label for screen readers, figures to two digits. Layout is fixed by the specification, not by
the fonts that a machine happens to have, so that the same figures give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from markupsafe import Markup

from yolodeploy.system import straight

Spec = dict[str, Any]

FONT = 13  # pixels, at the natural size of a chart
WIDTH = 420  # pixels of a whole chart at its natural size: as wide as a phone
_SVG = "http://www.w3.org/2000/svg"
_INVALID = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]"
)  # in XML 1.0
_LONG = re.compile(r"-?\d+\.\d{3,}(?:e-?\d+)?")
_NEEDLESS = {"role", "class", "pointer-events", "font-family", "stroke-miterlimit", "version"}
_USUAL = {"opacity": "1", "stroke-width": "1", "transform": "translate(0,0)"}
_CONFIG: Spec = {
    "background": None,
    "view": {"stroke": None},
    "font": "sans-serif",
    "axis": {
        "labelFontSize": FONT,
        "titleFontSize": FONT,
        "titleFontWeight": "normal",
        "labelColor": "var(--muted)",
        "titleColor": "currentColor",
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelPadding": 4,
        "titlePadding": 6,
        "minExtent": 35,
        "maxExtent": 35,
        "tickCount": 5,
        "labelFlush": False,
    },
    "axisX": {"minExtent": 18, "maxExtent": 18, "ticks": False},
    "axisY": {"domain": False, "ticks": False},
    "text": {"fontSize": FONT, "fill": "currentColor"},
}


@dataclass(frozen=True)
class Margins:
    """Pixels around the area of the data."""

    left: int = 60
    right: int = 14
    top: int = 8
    bottom: int = 44


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a swatch of SVG, 22 by 12, and its name."""

    swatch: str
    name: str


def clean(text: str) -> str:
    """Text without what XML cannot hold, and without marks that turn its direction."""
    return _INVALID.sub("\ufffd", straight(text))


def figure(
    title: str, layers: Sequence[Spec], height: int, margins: Margins, keys: Sequence[Key] = ()
) -> Markup:
    """A `<figure>` with caption, legend and picture; `height` is how high the plot area is, in pixels."""
    spec: Spec = {
        "width": WIDTH - margins.left - margins.right,
        "height": height,
        "padding": vars(margins),
        "autosize": "none",
        "config": _CONFIG,
        "layer": [_numbered(layer, at) for at, layer in enumerate(layers)],
    }
    drawn = _drawn(json.dumps(spec, sort_keys=True))
    legend = Markup().join(
        Markup('<li><svg viewBox="0 0 22 12" aria-hidden="true">{}</svg>{}</li>').format(
            Markup(key.swatch),  # noqa: S704 - written by this package
            clean(key.name),
        )
        for key in keys
    )
    listed = Markup('<ul class="legend">{}</ul>').format(legend) if keys else Markup()
    total = height + margins.top + margins.bottom
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        WIDTH, total, clean(title)
    )
    inner = Markup(drawn)  # noqa: S704 - serialised from parsed XML, so every text in it is escaped
    return Markup('<figure class="chart"><figcaption>{}</figcaption>{}{}{}</svg></figure>').format(
        clean(title), listed, head, inner
    )


def _numbered(layer: Spec, at: int) -> Spec:
    """A layer whose name no other layer has, which Vega demands."""
    return {**layer, "name": f"{layer['name']}_{at}"} if "name" in layer else layer


@lru_cache(maxsize=64)
def _drawn(spec: str) -> str:
    """What is inside of the `<svg>`."""
    import vl_convert

    root = ET.fromstring(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]))  # noqa: S314 - of vl-convert, not of someone else
    _clean(root, "c" + hashlib.sha256(spec.encode()).hexdigest()[:8])
    return "".join(ET.tostring(child, encoding="unicode") for child in root)


def _clean(element: ET.Element, prefix: str) -> None:
    """Remove what only a picture of its own needs, turn labels into titles, and begin ids with `prefix`."""
    element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
    for child in list(element):
        _clean(child, prefix)
        if _is_nothing(child):
            element.remove(child)
    label, named = element.get("aria-label"), _name_of(element)
    element.attrib = {
        name: _tidy(name, value, prefix)
        for name, value in element.attrib.items()
        if name not in _NEEDLESS and not name.startswith("aria-") and _USUAL.get(name) != value
    }
    if named:
        element.set("class", named)
    if label and element.tag != "g":
        title = ET.Element("title")
        title.text = label
        element.insert(0, title)


def _name_of(element: ET.Element) -> str:
    """The name that the specification gives the marks of a group; "" if it gives none."""
    last = element.get("class", "").rpartition(" ")[2]
    named = last.endswith("_marks") and not last.startswith("layer_")
    return last.partition("_")[0] if named else ""


def _tidy(name: str, value: str, prefix: str) -> str:
    """An attribute with numbers of two digits, and an id that no other picture of the page has."""
    if name == "id":
        return prefix + value
    return _LONG.sub(_two_digits, value.replace("url(#", f"url(#{prefix}"))


def _two_digits(found: re.Match[str]) -> str:
    return f"{float(found[0]):.2f}".rstrip("0").rstrip(".")


def _is_nothing(element: ET.Element) -> bool:
    """Whether an element draws nothing: empty paths and groups, labels that Vega hides where they would overlap."""
    if element.get("opacity") == "0" and element.tag == "text":
        return True
    path = element.get("d", "-")
    drawn = element.get("fill") or element.get("stroke") or element.get("class")
    if element.tag == "path" and (path in ("", "M0,0h0v0h0Z") or not drawn):
        return True
    return element.tag == "g" and len(element) == 0


def scale(domain: tuple[float, float], *, log: bool = False) -> Spec:
    """A scale with this domain."""
    kind: Spec = {"type": "log"} if log else {"zero": False}
    return {"domain": list(domain), "nice": False, **kind}


def with_values(
    values: Sequence[Mapping[str, Any]], mark: Spec, encoding: Spec, **more: str
) -> Spec:
    """A layer with data of its own."""
    return {"data": {"values": list(values)}, "mark": mark, "encoding": encoding, **more}
