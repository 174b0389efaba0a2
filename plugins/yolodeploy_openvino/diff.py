"""Takes an IR apart, into its operations, the edges between them, its metadata and its constants.

Format: `model.xml` lists `layers` (with `data`), `edges` and `rt_info`; a `Const` layer's data names
`offset` and `size` in bytes of `model.bin`.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path

from yolodeploy.backend import content
from yolodeploy_openvino.toolchain import MODEL_FILE

_WEIGHTS_FILE = "model.bin"


def parts(folder: Path) -> Mapping[str, Mapping[str, str]]:
    """The parts of both files: operations, edges and metadata of the graph, and the constants."""
    root = ET.parse(folder / MODEL_FILE).getroot()  # noqa: S314 - made by a step, digest checked
    data = (folder / _WEIGHTS_FILE).read_bytes()
    constants = dict(_constants(root, data))  # first, since `_graph` removes their offsets
    return {MODEL_FILE: dict(_graph(root)), _WEIGHTS_FILE: constants}


def _graph(root: ET.Element) -> Iterator[tuple[str, str]]:
    names = {layer.get("id"): _name(layer) for layer in root.iterfind("layers/layer")}
    for layer in root.iterfind("layers/layer"):
        for entry in layer.iterfind("data"):
            entry.attrib.pop("offset", None)
        yield _name(layer), content(ET.tostring(layer))
    edges = [
        f"{names[edge.get('from-layer')]} -> {names[edge.get('to-layer')]}:{edge.get('to-port')}"
        for edge in root.iterfind("edges/edge")
    ]
    yield "edges", content("\n".join(edges).encode())
    yield from _metadata(root.find("rt_info"), "rt_info")
    yield "net", str(root.attrib)


def _metadata(element: ET.Element | None, at: str) -> Iterator[tuple[str, str]]:
    for child in element if element is not None else ():
        yield f"{at}.{child.tag}", str(child.get("value", ""))
        yield from _metadata(child, f"{at}.{child.tag}")


def _constants(root: ET.Element, data: bytes) -> Iterator[tuple[str, str]]:
    for layer in root.iterfind("layers/layer[@type='Const']"):
        entry = layer.find("data")
        if entry is not None:
            start, size = int(entry.get("offset", 0)), int(entry.get("size", 0))
            yield _name(layer), content(data[start : start + size])


def _name(layer: ET.Element) -> str:
    return f"{layer.get('type')} {layer.get('name')}"
