"""`bom.cdx.json`: the bundle's bill of materials, CycloneDX 1.6 with a model card.

https://cyclonedx.org/docs/1.6/json/. The library writes components and dependencies; the model card, for
which it has no class, is added to its JSON.
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
from yolodeploy.bundle.attest.components import Tool, find_tool
from yolodeploy.bundle.attest.model_card import model_card
from yolodeploy.bundle.attest.provenance import VIEW, BuildRecord, pinned_files, timestamp
from yolodeploy.bundle.manifest import is_artifact

_RECORD = "RECORD, rows of the wheel"  # not just RECORD, which has another sha256
_ABOUT = "The rows of the installed RECORD that came with the wheel, sorted"


def bill_of_materials(build: BuildRecord, task: str) -> dict[str, Any]:
    """The bill as data. The same bundle gives the same bill, serial number included."""
    number = uuid.uuid5(uuid.NAMESPACE_URL, f"urn:yolodeploy:bundle:{build.id}")
    bom = Bom(serial_number=number)
    model, inputs, tools = _model(build), list(_inputs(build)), [_library(t) for t in build.tools]
    bom.metadata.component = model
    bom.metadata.tools.components.add(_library(find_tool("yolodeploy", yolodeploy.__version__)))
    bom.components.update([*inputs, *tools])
    bom.register_dependency(model, [*inputs, *tools])
    value: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    metadata = value["metadata"]
    metadata["component"]["modelCard"] = model_card(build.plan, build.report, task)
    del metadata["timestamp"]  # that of now
    if finished := timestamp(build.created):
        metadata["timestamp"] = finished
    return value


def _model(build: BuildRecord) -> Component:
    digest = build.report["artifact"]["digest"]
    return Component(
        name=build.report["name"],
        type=ComponentType.MACHINE_LEARNING_MODEL,
        version=digest[:12],
        bom_ref="model",
        description=f"{build.report['artifact']['format']} for {build.report['target']['title']}",
        properties=[
            Property(name="yolodeploy:artifact", value=digest),
            Property(name="yolodeploy:bundle", value=build.id),
        ],
        components=[
            _file(name, digest, "model")
            for name, digest in build.files.items()
            if is_artifact(name)
        ],
    )


def _inputs(build: BuildRecord) -> Iterator[Component]:
    """Models and data that the artifact was made from."""
    weights = [{"name": "weights", "digest": {"sha256": build.plan["weights"]}}]
    for item in (*weights, *pinned_files(build.plan)):
        name, digest = item["name"], item["digest"]["sha256"]
        yield _hashed(ComponentType.MACHINE_LEARNING_MODEL, name, name, digest)
    for name, digest in sorted(build.plan["data"].items()):
        view = build.report["data"][name]
        about = f"{view['images']} images of the split `{view['split']}`; the sha256 is {VIEW}"
        yield _hashed(ComponentType.DATA, f"data/{name}", f"data/{name}", digest, about)


def _library(tool: Tool) -> Component:
    """A tool. Its digest is that of a file list, so that is a component below the tool."""
    listed = [_file(_RECORD, tool.record, tool.purl, _ABOUT)] if tool.record else []
    return Component(
        name=tool.name,
        version=tool.version,
        type=ComponentType.LIBRARY,
        bom_ref=tool.purl,
        purl=PackageURL.from_string(tool.purl),
        components=listed,
    )


def _file(name: str, digest: str, owner: str, about: str | None = None) -> Component:
    return _hashed(ComponentType.FILE, name, f"{owner}#{name}", digest, about)


def _hashed(
    kind: ComponentType, name: str, ref: str, digest: str, about: str | None = None
) -> Component:
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=digest)]
    return Component(name=name, type=kind, bom_ref=ref, description=about, hashes=hashes)
