"""`bom.cdx.json`: the bundle's bill of materials, CycloneDX 1.6 with a model card.

https://cyclonedx.org/docs/1.6/json/. The library writes components and dependencies; the model card is
added to its JSON, for the library has no class for it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

import yolodeploy
from yolodeploy.manifest import is_artifact
from yolodeploy.modelcard import model_card
from yolodeploy.provenance import VIEW, Made, moment, pinned_files
from yolodeploy.tools import Tool, tool

_RECORD = "RECORD, rows of the wheel"  # not the name of the file, whose sha256 this is not
_ABOUT = "The rows of the installed RECORD that came with the wheel, sorted"


def bill(made: Made, task: str) -> dict[str, Any]:
    """The bill as data; the same for the same bundle, its serial number included."""
    number = uuid.uuid5(uuid.NAMESPACE_URL, f"urn:yolodeploy:bundle:{made.id}")
    bom = Bom(serial_number=number)
    model, inputs, tools = _model(made), list(_inputs(made)), [_library(t) for t in made.tools]
    bom.metadata.component = model
    bom.metadata.tools.components.add(_library(tool("yolodeploy", yolodeploy.__version__)))
    bom.components.update([*inputs, *tools])
    bom.register_dependency(model, [*inputs, *tools])
    text = JsonV1Dot6(bom).output_as_string()
    return _completed(json.loads(text), made, task)


def _completed(value: dict[str, Any], made: Made, task: str) -> dict[str, Any]:
    """The library's JSON with the model card, and the store's time in place of the present."""
    metadata = value["metadata"]
    metadata["component"]["modelCard"] = model_card(made.plan, made.report, task)
    del metadata["timestamp"]
    if time := moment(made.created):
        metadata["timestamp"] = time.isoformat().replace("+00:00", "Z")
    return value


def _model(made: Made) -> Component:
    digest = made.report["artifact"]["digest"]
    return Component(
        name=made.report["name"],
        type=ComponentType.MACHINE_LEARNING_MODEL,
        version=digest[:12],
        bom_ref="model",
        description=f"{made.report['artifact']['format']} for {made.report['target']['title']}",
        properties=[
            Property(name="yolodeploy:artifact", value=digest),
            Property(name="yolodeploy:bundle", value=made.id),
        ],
        components=[
            _file(name, digest, "model") for name, digest in made.files.items() if is_artifact(name)
        ],
    )


def _inputs(made: Made) -> Iterator[Component]:
    """Models and data that the artifact was made from."""
    weights = [{"name": "weights", "digest": {"sha256": made.plan["weights"]}}]
    for item in (*weights, *pinned_files(made.plan)):
        yield _input(ComponentType.MACHINE_LEARNING_MODEL, item["name"], item["digest"]["sha256"])
    for name, digest in sorted(made.plan["data"].items()):
        view = made.report["data"][name]
        about = f"{view['images']} images of the split `{view['split']}`; the sha256 is {VIEW}"
        yield _input(ComponentType.DATA, f"data/{name}", digest, about)


def _input(kind: ComponentType, name: str, digest: str, about: str | None = None) -> Component:
    return Component(
        name=name, type=kind, bom_ref=name, description=about, hashes=[_sha256(digest)]
    )


def _library(tool_: Tool) -> Component:
    """A tool. Its hash is that of a file list, so it goes to a component of its own below it."""
    listed = [_file(_RECORD, tool_.record, tool_.purl, _ABOUT)] if tool_.record else []
    return Component(
        name=tool_.name,
        version=tool_.version,
        type=ComponentType.LIBRARY,
        bom_ref=tool_.purl,
        purl=PackageURL.from_string(tool_.purl),
        components=listed,
    )


def _file(name: str, digest: str, owner: str, about: str | None = None) -> Component:
    return Component(
        name=name,
        type=ComponentType.FILE,
        bom_ref=f"{owner}#{name}",
        description=about,
        hashes=[_sha256(digest)],
    )


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)
