"""The graphs of the hostile ONNX files: a small good one, and what is done to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Made = Callable[[], ModelProto]
Change = Callable[[ModelProto], object]
node, floats = helper.make_node, TensorProto.FLOAT


def base() -> ModelProto:
    """A good model: images [1, 3, 32, 32] to [1, 4 + 3, 16]."""
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 0.1, (7, 3, 8, 8)).astype(np.float32)
    nodes = [
        node("Conv", ["images", "weight", "bias"], ["maps"], "conv", strides=[8, 8], kernel_shape=[8, 8]),
        node("Reshape", ["maps", "shape"], ["flat"], "reshape"),
        node("Sigmoid", ["flat"], ["output0"], "sigmoid"),
    ]  # fmt: skip
    constants = [
        numpy_helper.from_array(weight, "weight"),
        numpy_helper.from_array(np.zeros(7, np.float32), "bias"),
        numpy_helper.from_array(np.array([1, 7, 16]), "shape"),
    ]
    inputs = [helper.make_tensor_value_info("images", floats, [1, 3, 32, 32])]
    outputs = [helper.make_tensor_value_info("output0", floats, [1, 7, 16])]
    graph = helper.make_graph(nodes, "small", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"names": "{0: 'a', 1: 'b', 2: 'c'}", "stride": "8"})
    return model


def changed(change: Change) -> Made:
    """The good model, changed."""

    def make() -> ModelProto:
        model = base()
        change(model)
        return model

    return make


def setting(**metadata: str) -> Made:
    """The good model, with other metadata."""

    def change(model: ModelProto) -> None:
        old = {each.key: each.value for each in model.metadata_props}
        helper.set_model_props(model, old | metadata)

    return changed(change)


def bombed(*parts: NodeProto | TensorProto) -> Made:
    """The good model, to whose output the largest value of `bomb` is added, which the parts compute."""

    def change(model: ModelProto) -> None:
        graph = model.graph
        graph.initializer.extend(part for part in parts if isinstance(part, TensorProto))
        nodes = [part for part in parts if isinstance(part, NodeProto)]
        graph.node[2].input[0] = "more"
        most = node("ReduceMax", ["bomb"], ["most"], "most", keepdims=0)
        for new in reversed((*nodes, most, node("Add", ["flat", "most"], ["more"], "add"))):
            graph.node.insert(2, new)

    return changed(change)


def ints(name: str, *values: int) -> TensorProto:
    """A constant of int64 in one dimension."""
    return numpy_helper.from_array(np.array(values, np.int64), name)


def scalar(name: str, value: float, kind: Any = np.float32) -> TensorProto:
    """A constant without dimensions."""
    return numpy_helper.from_array(np.array(value, kind), name)


def _doubling(op: str, times: int, start: str, **attributes: Any) -> list[NodeProto]:
    names = [start, *(f"x{number}" for number in range(times - 1)), "bomb"]
    return [node(op, [a, a], [b], **attributes) for a, b in pairwise(names)]


def _body(*nodes: NodeProto, outputs: tuple[str, ...] = ("bomb",)) -> onnx.GraphProto:
    found = [helper.make_tensor_value_info(name, floats, None) for name in outputs]
    return helper.make_graph(list(nodes), "inner", [], found)


def _loop() -> onnx.GraphProto:
    return helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("Add", ["x", "x"], ["y"])],
        "loop",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", floats, [1]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", floats, [1]),
        ],
    )


def _ifs(depth: int) -> NodeProto:
    inner = node("Identity", ["bias"], ["bomb"])
    for _ in range(depth):
        inner = node("If", ["yes"], ["bomb"], then_branch=_body(inner), else_branch=_body(node("Identity", ["bias"], ["bomb"])))  # fmt: skip
    return inner


TERA = ints("tera", 1 << 20, 1 << 20)
ONE = scalar("one", 1.0)
LISTED = numpy_helper.from_array(np.zeros(1, np.float32), "listed")
YES = scalar("yes", True, np.bool_)

# Constant folding that makes gigabytes, or never ends, or divides by zero.
BOMBS: dict[str, tuple[NodeProto | TensorProto, ...]] = {
    "ConstantOfShape": (TERA, node("ConstantOfShape", ["tera"], ["bomb"])),
    "ConstantOfShape of 3 GB": (ints("giga", 3 << 28), node("ConstantOfShape", ["giga"], ["bomb"])),
    "ConstantOfShape, overflowing": (ints("over", 1 << 32, 1 << 32), node("ConstantOfShape", ["over"], ["bomb"])),
    "ConstantOfShape, negative": (ints("below", -5), node("ConstantOfShape", ["below"], ["bomb"])),
    "Expand": (TERA, ONE, node("Expand", ["one", "tera"], ["bomb"])),
    "Expand of the input": (ints("wide", 1 << 20, 3, 32, 32), node("Expand", ["images", "wide"], ["bomb"])),
    "Tile": (ints("times", 1 << 40), LISTED, node("Tile", ["listed", "times"], ["bomb"])),
    "Tile of the input": (ints("times", 1, 1 << 20, 1 << 10, 1), node("Tile", ["images", "times"], ["bomb"])),
    "Range": (scalar("a", 0), scalar("b", 1e12), ONE, node("Range", ["a", "b", "one"], ["bomb"])),
    "Range without steps": (scalar("a", 0), ONE, node("Range", ["a", "one", "a"], ["bomb"])),
    "Range in tiny steps": (scalar("a", 0), scalar("tiny", 1e-38), ONE, node("Range", ["a", "one", "tiny"], ["bomb"])),
    "Range to infinity": (scalar("a", 0), scalar("inf", np.inf), ONE, node("Range", ["a", "inf", "one"], ["bomb"])),
    "OneHot": (ints("which", 1), scalar("depth", 1 << 40, np.int64), numpy_helper.from_array(np.zeros(2, np.float32), "two"), node("OneHot", ["which", "depth", "two"], ["bomb"])),
    "Pad": (ints("pads", 0, 1 << 40), LISTED, node("Pad", ["listed", "pads"], ["bomb"])),
    "Pad of the input": (ints("pads", 0, 0, 1 << 20, 1 << 20, 0, 0, 0, 0), node("Pad", ["images", "pads"], ["bomb"])),
    "Resize": (numpy_helper.from_array(np.array([1, 1, 1e6, 1e6], np.float32), "scales"), node("Resize", ["images", "", "scales"], ["bomb"])),
    "Resize by sizes": (ints("sizes", 1, 3, 1 << 30, 1 << 30), node("Resize", ["images", "", "", "sizes"], ["bomb"])),
    "EyeLike": (TERA, node("ConstantOfShape", ["tera"], ["zeros"]), node("EyeLike", ["zeros"], ["bomb"])),
    "MatMul": (ints("column", 1 << 18, 1), ints("row", 1, 1 << 18), node("ConstantOfShape", ["column"], ["a"]), node("ConstantOfShape", ["row"], ["b"]), node("MatMul", ["a", "b"], ["bomb"])),
    "broadcasting": (ints("column", 1 << 18, 1), ints("row", 1 << 18), node("ConstantOfShape", ["column"], ["a"]), node("ConstantOfShape", ["row"], ["b"]), node("Add", ["a", "b"], ["bomb"])),
    "Einsum": (ints("long", 1 << 18), node("ConstantOfShape", ["long"], ["a"]), node("Einsum", ["a", "a"], ["bomb"], equation="i,j->ij")),
    "random numbers": (node("RandomNormal", [], ["bomb"], shape=[1 << 20, 1 << 20]),),
    "a window": (scalar("long", 1 << 40, np.int64), node("HannWindow", ["long"], ["bomb"])),
    "Gather": (ints("long", 1 << 30), node("ConstantOfShape", ["long"], ["at"], value=ints("", 0)), node("Gather", ["bias", "at"], ["bomb"])),
    "doubling a constant": (LISTED, *_doubling("Concat", 40, "listed", axis=0)),
    "doubling the input": tuple(_doubling("Concat", 40, "images", axis=0)),
    "doubling by Tile": (ints("two", 2), LISTED, *(node("Tile", [a, "two"], [b]) for a, b in pairwise(["listed", *(f"x{i}" for i in range(40)), "bomb"]))),
    "slow: a convolution of a constant": (ints("large", 1, 64, 4000, 4000), ints("kernel", 64, 64, 9, 9), node("ConstantOfShape", ["large"], ["a"]), node("ConstantOfShape", ["kernel"], ["k"]), node("Conv", ["a", "k"], ["bomb"])),
    "slow: a product of constants": (ints("square", 8000, 8000), node("ConstantOfShape", ["square"], ["a"]), node("MatMul", ["a", "a"], ["b"]), node("MatMul", ["b", "b"], ["bomb"])),
    "Loop without end": (scalar("many", 1 << 62, np.int64), YES, LISTED, node("Loop", ["many", "yes", "listed"], ["bomb"], body=_loop())),
    "If": (YES, _ifs(1)),
    "If, 30 deep": (YES, _ifs(30)),
    "integers divided by zero": (ints("seven", 7), ints("zero", 0), node("Div", ["seven", "zero"], ["x"]), node("Cast", ["x"], ["bomb"], to=1)),
    "the remainder of zero": (ints("seven", 7), ints("zero", 0), node("Mod", ["seven", "zero"], ["x"]), node("Cast", ["x"], ["bomb"], to=1)),
    "the least integer over -1": (ints("least", -(1 << 63)), ints("minus", -1), node("Div", ["least", "minus"], ["x"]), node("Cast", ["x"], ["bomb"], to=1)),
    "an index beyond": (ints("at", 1 << 40), node("Gather", ["bias", "at"], ["bomb"])),
    "an index below": (ints("at", -(1 << 40)), node("Gather", ["bias", "at"], ["bomb"])),
    "Scatter beyond": (ints("at", 1 << 40), LISTED, node("ScatterElements", ["bias", "at", "listed"], ["bomb"])),
    "a sparse constant": (node("Constant", [], ["bomb"], sparse_value=helper.make_sparse_tensor(numpy_helper.from_array(np.ones(1, np.float32), ""), ints("", 5), [1 << 30])),),
    "text that doubles": (numpy_helper.from_array(np.array([b"x" * 1000], object), "text"), node("Constant", [], ["bomb"], value_strings=[b"x" * 1_000_000])),
    "a transposed convolution": (ints("large", 1, 1, 2000, 2000), ints("kernel", 1, 1, 1, 1), node("ConstantOfShape", ["large"], ["a"]), node("ConstantOfShape", ["kernel"], ["k"]), node("ConvTranspose", ["a", "k"], ["bomb"], strides=[100, 100])),
}  # fmt: skip


def _attributes() -> Iterator[tuple[str, str, Made]]:
    """Attributes and constants that no operation can have."""

    def conv(**attributes: Any) -> Made:
        def change(model: ModelProto) -> None:
            given = {"strides": [8, 8], "kernel_shape": [8, 8]} | attributes
            model.graph.node[0].CopyFrom(
                node("Conv", ["images", "weight", "bias"], ["maps"], "conv", **given)
            )

        return changed(change)

    huge = 1 << 40
    for what, attributes in {
        "no groups": {"group": 0}, "negative groups": {"group": -1}, "groups that do not divide": {"group": 2},
        "no strides": {"strides": [0, 0]}, "negative strides": {"strides": [-8, -8]}, "strides of exabytes": {"strides": [1 << 62, 1 << 62]},
        "negative pads": {"pads": [-40, -40, -40, -40]}, "pads of exabytes": {"pads": [huge, huge, huge, huge]},
        "two pads": {"pads": [1, 1]}, "no dilations": {"dilations": [0, 0]}, "dilations of exabytes": {"dilations": [huge, huge]},
        "another kernel": {"kernel_shape": [3, 3]}, "strides as words": {"strides": ["a", "b"]}, "strides as numbers": {"strides": 1.5},
        "three strides": {"strides": [8, 8, 8]}, "an unknown rule": {"auto_pad": "SIDEWAYS"}, "an unknown attribute": {"colour": 1},
    }.items():  # fmt: skip
        yield "Conv", what, conv(**attributes)
    one = {
        ("MaxPool", "a kernel of exabytes"): node("MaxPool", ["images"], ["bomb"], kernel_shape=[huge, huge]),
        ("MaxPool", "no kernel"): node("MaxPool", ["images"], ["bomb"]),
        ("MaxPool", "pads of gigabytes"): node("MaxPool", ["images"], ["bomb"], kernel_shape=[3, 3], pads=[huge] * 4),
        ("Transpose", "an axis twice"): node("Transpose", ["images"], ["bomb"], perm=[0, 1, 1, 2]),
        ("Transpose", "an axis beyond"): node("Transpose", ["images"], ["bomb"], perm=[0, 1, 2, 9]),
        ("Softmax", "an axis beyond"): node("Softmax", ["images"], ["bomb"], axis=99),
        ("Concat", "an axis beyond"): node("Concat", ["images", "images"], ["bomb"], axis=-99),
        ("Concat", "no inputs"): node("Concat", [], ["bomb"], axis=0),
        ("Concat", "other sides"): node("Concat", ["images", "weight"], ["bomb"], axis=1),
        ("Reshape", "constant of floats"): node("Reshape", ["images", "bias"], ["bomb"]),
        ("Reshape", "shape from the input"): node("Reshape", ["images", "images"], ["bomb"]),
        ("Add", "one input"): node("Add", ["images"], ["bomb"]),
        ("Add", "three inputs"): node("Add", ["images", "images", "images"], ["bomb"]),
        ("Add", "sides that do not fit"): node("Add", ["images", "weight"], ["bomb"]),
        ("Add", "of floats and integers"): node("Add", ["images", "shape"], ["bomb"]),
        ("Gemm", "of four sides"): node("Gemm", ["images", "weight"], ["bomb"]),
        ("Cast", "to an unknown type"): node("Cast", ["images"], ["bomb"], to=99),
        ("Explode", "an unknown operation"): node("Explode", ["images"], ["bomb"]),
        ("Attention", "of another domain"): node("Attention", ["images"], ["bomb"], domain="com.example"),
        ("Attention", "of Microsoft's domain"): node("Attention", ["images"], ["bomb"], domain="com.microsoft"),
        ("", "an operation without a name"): node("", ["images"], ["bomb"]),
        ("\x1b[2J", "a name that clears the screen"): node("\x1b[2J\n", ["images"], ["bomb"], "x\x1b[31m\n\n"),
    }  # fmt: skip
    for (op, what), made in one.items():
        yield op, what, bombed(made)
    for what, values in {
        "two unknown sides": (-1, -1), "a side of exabytes": (1, 7, 1 << 62), "a negative side": (1, 7, -5),
        "no sides": (), "another size": (1, 7, 17), "overflowing": (1 << 32, 1 << 32, 1 << 32),
    }.items():  # fmt: skip
        yield "Reshape", what, changed(lambda m, v=values: m.graph.initializer[2].CopyFrom(ints("shape", *v)))  # fmt: skip
    yield "Slice", "steps of zero", bombed(ints("a", 0), ints("b", 9), ints("axis", 2), ints("step", 0), node("Slice", ["images", "a", "b", "axis", "step"], ["bomb"]))  # fmt: skip
    yield "Split", "parts that do not fit", bombed(ints("parts", 1, 99), node("Split", ["images", "parts"], ["bomb", "rest"], axis=1))  # fmt: skip
    yield "Split", "negative parts", bombed(ints("parts", -1, 4), node("Split", ["images", "parts"], ["bomb", "rest"], axis=1))  # fmt: skip
    for what, scale in {"no size": 0.0, "a negative size": -2.0, "no number": np.nan, "no end": np.inf}.items():  # fmt: skip
        scales = numpy_helper.from_array(np.array([1, 1, scale, scale], np.float32), "scales")
        yield "Resize", what, bombed(scales, node("Resize", ["images", "", "scales"], ["bomb"]))


ATTRIBUTES = tuple(_attributes())


def _sides(*values: int | str) -> Change:
    return lambda m: m.graph.input[0].CopyFrom(helper.make_tensor_value_info("images", floats, values))  # fmt: skip


def _out(*values: int) -> Change:
    return lambda m: m.graph.output[0].CopyFrom(helper.make_tensor_value_info("output0", floats, values))  # fmt: skip


def _versions(*pairs: tuple[str, int]) -> Change:
    def change(model: ModelProto) -> None:
        del model.opset_import[:]
        model.opset_import.extend(helper.make_opsetid(*pair) for pair in pairs)

    return change


def _function(*nodes: NodeProto, used: bool = True) -> Change:
    def change(model: ModelProto) -> None:
        made = helper.make_function("own", "f", ["x"], ["y"], list(nodes), [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)])  # fmt: skip
        model.functions.append(made)
        model.opset_import.append(helper.make_opsetid("own", 1))
        if used:
            _bent(model, node("f", ["flat"], ["turned"], domain="own"))

    return change


def _bent(model: ModelProto, new: NodeProto) -> None:
    model.graph.node[2].input[0] = "turned"
    model.graph.node.insert(2, new)


def _doubled_functions(model: ModelProto) -> None:
    for depth in range(40):
        inner = "Neg" if not depth else f"f{depth - 1}"
        domain = "own" if depth else ""
        nodes = [node(inner, ["x"], ["z"], domain=domain), node(inner, ["z"], ["y"], domain=domain)]  # fmt: skip
        model.functions.append(helper.make_function("own", f"f{depth}", ["x"], ["y"], nodes, [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]))  # fmt: skip
    model.opset_import.append(helper.make_opsetid("own", 1))
    _bent(model, node("f39", ["flat"], ["turned"], domain="own"))


def _identities(model: ModelProto, count: int = 100_000) -> None:
    names = ["flat", *(f"i{number}" for number in range(count))]
    found = [node("Neg", [a], [b]) for a, b in pairwise(names)]
    last = list(model.graph.node)[2]
    last.input[0] = names[-1]
    model.graph.node.extend(found)
    model.graph.node.append(last)
    del model.graph.node[2]


def _wired(number: int, key: str, value: str) -> Change:
    def change(model: ModelProto) -> None:
        getattr(model.graph.node[number], key)[0] = value

    return change


def _unsorted(model: ModelProto) -> None:
    first = model.graph.node[0]
    model.graph.node.append(first)
    del model.graph.node[0]


def _escapes(model: ModelProto) -> None:
    for number, each in enumerate(model.graph.node):
        each.name = f"../../{number}\x1b[2J\n"


def _reference(model: ModelProto) -> None:
    attribute = model.graph.node[0].attribute[0]
    attribute.ClearField("ints")
    attribute.ref_attr_name = "outside"


def _typed(kind: int) -> Change:
    return lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", kind)


def _sparse(model: ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "weight")
    del model.graph.initializer[0]
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, ints("", 5), [7, 3, 1 << 20, 1 << 20]))  # fmt: skip


def named() -> dict[str, Change]:
    """What is done to the whole of a model, by name."""
    return {
        "without a graph": lambda m: m.ClearField("graph"),
        "without nodes": lambda m: m.graph.ClearField("node"),
        "without inputs": lambda m: m.graph.ClearField("input"),
        "without outputs": lambda m: m.graph.ClearField("output"),
        "two inputs": lambda m: m.graph.input.append(helper.make_tensor_value_info("more", floats, [1, 3, 32, 32])),
        "the same input twice": lambda m: m.graph.input.append(m.graph.input[0]),
        "the same output twice": lambda m: m.graph.output.append(m.graph.output[0]),
        "a hundred outputs": lambda m: [m.graph.output.append(helper.make_tensor_value_info(f"o{n}", floats, [1])) for n in range(100)],
        "an output that nothing computes": lambda m: setattr(m.graph.output[0], "name", "nothing"),
        "an input that is an output": lambda m: m.graph.output[0].CopyFrom(m.graph.input[0]),
        "an input that nothing gives": _wired(0, "input", "nothing"),
        "an input that is a constant too": lambda m: m.graph.input.append(helper.make_tensor_value_info("weight", floats, [7, 3, 8, 8])),
        "images that are a constant": lambda m: m.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 3, 32, 32), np.float32), "images")),
        "an input of five sides": _sides(1, 3, 32, 32, 32),
        "an input of three sides": _sides(3, 32, 32),
        "an input of no sides": _sides(),
        "an input of five channels": _sides(1, 5, 32, 32),
        "an input of exabytes": _sides(1, 3, 1 << 40, 1 << 40),
        "an input with a negative side": _sides(1, 3, -32, -32),
        "an input with an empty side": _sides(1, 3, 0, 0),
        "a batch of a million": _sides(1 << 20, 3, 32, 32),
        "an input of text": _typed(8),
        "an input of an unknown type": _typed(99),
        "an input of no type": _typed(0),
        "an input of integers": _typed(7),
        "an input that is a sequence": lambda m: m.graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(helper.make_tensor_type_proto(floats, [1, 3, 32, 32]))),
        "an output of another shape": _out(1, 9, 16),
        "an output of another rank": _out(7),
        "an output of exabytes": _out(1, 7, 1 << 60),
        "a cycle": _wired(0, "input", "output0"),
        "a node on itself": _wired(2, "input", "output0"),
        "unsorted": _unsorted,
        "values twice": _wired(1, "output", "maps"),
        "a value that is a constant": _wired(0, "output", "bias"),
        "a constant twice": lambda m: m.graph.initializer.append(m.graph.initializer[0]),
        "node names twice": lambda m: [setattr(each, "name", "same") for each in m.graph.node],
        "names with escapes": _escapes,
        "a name of megabytes": lambda m: setattr(m.graph.node[0], "name", "n" * 10_000_000),
        "a producer of megabytes": lambda m: setattr(m, "producer_name", "p" * 10_000_000),
        "no operator set": _versions(),
        "operator set 0": _versions(("", 0)),
        "operator set -1": _versions(("", -1)),
        "operator set 1": _versions(("", 1)),
        "operator set of the future": _versions(("", 1 << 40)),
        "two operator sets": _versions(("", 12), ("", 17)),
        "a known domain, not used": _versions(("", 17), ("ai.onnx.ml", 3)),
        "no IR": lambda m: m.ClearField("ir_version"),
        "an IR of the future": lambda m: setattr(m, "ir_version", 1 << 40),
        "an IR below zero": lambda m: setattr(m, "ir_version", -3),
        "an older IR": lambda m: setattr(m, "ir_version", 4),
        "an attribute that refers to nothing": _reference,
        "training beside": lambda m: m.training_info.add(),
        "sparse weights of terabytes": _sparse,
        "a function that calls itself": _function(node("f", ["x"], ["y"], domain="own")),
        "a function, not used": _function(node("Neg", ["x"], ["y"]), used=False),
        "functions that double": _doubled_functions,
        "a function that is not there": lambda m: (m.opset_import.append(helper.make_opsetid("own", 1)), _bent(m, node("g", ["flat"], ["turned"], domain="own"))),
        "a hundred thousand nodes": _identities,
        "two hundred thousand initializers": lambda m: [m.graph.initializer.append(scalar(f"c{n}", n)) for n in range(200_000)],
        "two gigabytes stated": lambda m: m.graph.initializer.append(TensorProto(name="none", data_type=1, dims=[1 << 29])),
    }  # fmt: skip
