"""Which part of the detector every operation of an IR belongs to, derived from its edges alone.

Names of operations change with the releases of PyTorch and OpenVINO; what feeds what does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from yolodeploy.errors import StepFailed
from yolodeploy_torch.structure import Part


@dataclass(frozen=True)
class Structure:
    """`parts` by layer name, of convolutions and of the operations that decode their results.

    `operations` gives the name that a layer has in the graph.
    """

    parts: dict[str, Part]
    operations: dict[str, str]


def structure(model: Any) -> Structure:
    """Derive the parts of an IR (an `openvino.Model`); raises StepFailed if it is no detector.

    From the output back to the nearest convolutions is `decode`; those convolutions are
    `head.last`, and the one among them that a softmax feeds is `dfl`, behind which the walk goes
    on. A convolution that reaches a single `head.last` is `head`; of the others, `neck` are those
    that an upsampled map reaches.
    """
    operations = model.get_ordered_ops()
    decode, last, dfl = _tail(model.get_results()[0])
    if not last or not dfl:
        raise StepFailed(
            "the IR is no detector with box distributions: from its output back, it has "
            f"{len(last)} last convolutions and {len(dfl)} behind a softmax. Export it again."
        )
    reach = _reach(operations, last)
    upsampled = _upsampled(operations)
    parts: dict[str, Part] = {}
    names: dict[str, str] = {}
    for operation in operations:
        name = operation.get_friendly_name()
        part: Part | None = None
        if name in decode:
            part = "decode"
        elif operation.get_type_name() == "Convolution":
            if name in dfl:
                part = "dfl"
            elif name in last:
                part = "head.last"
            elif len(reach[name]) == 1:
                part = "head"
            else:
                part = "neck" if name in upsampled else "backbone"
        if part:
            layer = name if part == "decode" else layer_name(operation)
            parts[layer], names[layer] = part, name
    return Structure(parts, names)


def layer_name(convolution: Any) -> str:
    """Return the module's name in the checkpoint, as the name of the weights holds it."""
    weights = feeding(convolution, 1).get_friendly_name()
    found = re.search(r"model\.\d+\..+(?=\.weight)", weights)
    return found[0] if found else str(convolution.get_friendly_name())


def _tail(result: Any) -> tuple[set[str], set[str], set[str]]:
    """Names of the decoding operations, of the last convolutions, and of those behind a softmax."""
    decode: set[str] = set()
    last: set[str] = set()
    dfl: set[str] = set()
    queue = [result]
    while queue:
        for source in _sources(queue.pop()):
            name, kind = source.get_friendly_name(), source.get_type_name()
            if kind in ("Constant", "Convert") or name in decode | last | dfl:
                continue
            if kind == "Convolution" and feeding(source, 0).get_type_name() != "Softmax":
                last.add(name)
                continue
            if kind == "Convolution":
                dfl.add(name)
            elif not _is_bias(source):
                decode.add(name)
            queue.append(source)
    return decode, last, dfl


def _is_bias(operation: Any) -> bool:
    """Whether it adds a constant to a convolution, and so is part of that one."""
    kinds = {source.get_type_name() for source in _sources(operation)}
    return operation.get_type_name() == "Add" and kinds <= {"Convolution", "Constant", "Convert"}


def _reach(operations: list[Any], last: set[str]) -> dict[str, frozenset[str]]:
    """The last convolutions that depend on each operation."""
    reach: dict[str, frozenset[str]] = {}
    for operation in reversed(operations):
        name = operation.get_friendly_name()
        users = (reach[user] for user in _users(operation))
        reach[name] = frozenset({name}) if name in last else frozenset().union(*users)
    return reach


def _upsampled(operations: list[Any]) -> set[str]:
    """Names of the operations that an upsampled map reaches."""
    found: set[str] = set()
    for operation in operations:
        sources = {source.get_friendly_name() for source in _sources(operation)}
        if operation.get_type_name() == "Interpolate" or found & sources:
            found.add(operation.get_friendly_name())
    return found


def feeding(operation: Any, index: int) -> Any:
    """The operation that feeds an input."""
    return operation.input(index).get_source_output().get_node()


def _sources(operation: Any) -> Iterator[Any]:
    return (port.get_source_output().get_node() for port in operation.inputs())


def _users(operation: Any) -> Iterator[str]:
    for port in operation.outputs():
        for user in port.get_target_inputs():
            yield user.get_node().get_friendly_name()
