"""The executor against coremltools' own semantics: compressed weights, operations, refusals."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from yolodeploy.errors import StepFailed
from yolodeploy_coreml.mlpackage import package
from yolodeploy_coreml.mlpackage.package import read_package, write_package
from yolodeploy_coreml.runtime.executor import Program
from yolodeploy_coreml.runtime.mil_ops import OPS

CHANNELS, OUTPUTS = 32, 48


@pytest.fixture(scope="module")
def ct() -> Any:
    from yolodeploy_coreml.toolchain import coremltools

    return coremltools()


@pytest.fixture(scope="module")
def convolution(ct: Any) -> Callable[..., Any]:
    """A model of two convolutions with fixed weights, for an iOS version."""
    from coremltools.converters.mil import Builder

    noise = np.random.default_rng(0)
    shapes = ((OUTPUTS, CHANNELS, 3, 3), (OUTPUTS, OUTPUTS, 1, 1))
    weights = [noise.standard_normal(shape).astype(np.float32) for shape in shapes]

    def build(target: str, half: bool = False) -> Any:
        @Builder.program(
            input_specs=[Builder.TensorSpec((1, CHANNELS, 6, 6))], opset_version=ct.target[target]
        )
        def program(x: Any) -> Any:
            for index, weight in enumerate(weights):
                x = Builder.conv(
                    x=x, weight=weight, pad_type="custom", pad=[1, 1, 0, 2], name=f"conv_{index}"
                )
            return Builder.silu(x=x, name="out")

        return ct.convert(
            program, minimum_deployment_target=ct.target[target], skip_model_load=True,
            compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
        )  # fmt: skip

    return build


def compressions() -> dict[str, tuple[str, Callable[[Any, Any], Any], set[str]]]:
    """Per name: iOS version, how to compress a model, the operations that must appear."""

    def apply(kind: str, joint: bool = False, **settings: Any) -> Callable[[Any, Any], Any]:
        def run(opt: Any, model: Any) -> Any:
            function, config = {
                "linear": (opt.linear_quantize_weights, opt.OpLinearQuantizerConfig),
                "palette": (opt.palettize_weights, opt.OpPalettizerConfig),
                "prune": (opt.prune_weights, opt.OpMagnitudePrunerConfig),
            }[kind]
            wanted = config(**settings, weight_threshold=0)
            extra = {"joint_compression": True} if joint else {}
            return function(
                model, opt.OptimizationConfig(op_type_configs={"conv": wanted}), **extra
            )

        return run

    prune = apply("prune", target_sparsity=0.6)
    palette = apply("palette", mode="uniform", nbits=4)

    def after_pruning(then: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        return lambda opt, model: then(opt, prune(opt, model))

    grouped = apply(
        "palette", mode="kmeans", nbits=3, granularity="per_grouped_channel", group_size=16,
        enable_per_channel_scale=True,
    )  # fmt: skip
    blocks = {"granularity": "per_block", "block_size": 16}
    return {
        "int8 per channel": ("iOS16", apply("linear", mode="linear_symmetric"), {"constexpr_affine_dequantize"}),
        "int8 asymmetric": ("iOS17", apply("linear", mode="linear"), {"constexpr_affine_dequantize"}),
        "palette of 16": ("iOS16", palette, {"constexpr_lut_to_dense"}),
        "palette of 64": ("iOS16", apply("palette", mode="uniform", nbits=6), {"constexpr_lut_to_dense"}),
        "pruned": ("iOS16", prune, {"constexpr_sparse_to_dense"}),
        "int4 in blocks": ("iOS18", apply("linear", mode="linear_symmetric", dtype="int4", **blocks), {"constexpr_blockwise_shift_scale"}),
        "uint4 in blocks": ("iOS18", apply("linear", mode="linear", dtype="uint4", **blocks), {"constexpr_blockwise_shift_scale"}),
        "grouped palettes, scaled": ("iOS18", grouped, {"constexpr_lut_to_dense", "constexpr_blockwise_shift_scale"}),
        "vector palette": ("iOS18", apply("palette", mode="kmeans", nbits=4, cluster_dim=4), {"constexpr_lut_to_dense"}),
        "pruned, iOS 18": ("iOS18", prune, {"constexpr_sparse_to_dense"}),
        "pruned and palettized": ("iOS18", after_pruning(apply("palette", joint=True, mode="kmeans", nbits=4)), {"constexpr_lut_to_sparse", "constexpr_sparse_to_dense"}),
        "pruned and quantized": ("iOS18", after_pruning(apply("linear", joint=True, mode="linear_symmetric")), {"constexpr_sparse_blockwise_shift_scale", "constexpr_sparse_to_dense"}),
    }  # fmt: skip


def saved(model: Any, folder: Path) -> package.Package:
    write_package(folder, model.get_spec(), Path(model.weights_dir))
    return read_package(folder)


def operations(opened: package.Package) -> set[str]:
    function = opened.spec.mlProgram.functions["main"]
    return {op.type for op in function.block_specializations[function.opset].operations}


@pytest.mark.parametrize("name", compressions())
def test_compressed_weights_decompress_as_in_coremltools(
    ct: Any, convolution: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    import coremltools.optimize.coreml as opt

    from yolodeploy_coreml.toolchain import quiet

    target, compress, expected = compressions()[name]
    with quiet():
        small = compress(opt, convolution(target))
        dense = opt.decompress_weights(small)
    packed, plain = saved(small, tmp_path / "small"), saved(dense, tmp_path / "dense")
    assert expected <= operations(packed)
    assert not {op for op in operations(plain) if op.startswith("constexpr")}
    image = torch.from_numpy(
        np.random.default_rng(1).standard_normal((1, CHANNELS, 6, 6)).astype(np.float32)
    )
    (got,), (wanted,) = (tuple(Program(opened)(image).values()) for opened in (packed, plain))
    # Decompression is a lookup or one product per weight; what differs is fp32 rounding.
    torch.testing.assert_close(got, wanted, rtol=0, atol=2e-5)
    original = Program(saved(convolution(target), tmp_path / "float"))(image)["out"]
    assert (original - wanted).abs().max() > 0.01


def test_fp16_weights_decompress_as_in_coremltools(
    ct: Any, convolution: Callable[..., Any], tmp_path: Path
) -> None:
    import coremltools.optimize.coreml as opt

    from yolodeploy_coreml.toolchain import quiet

    with quiet():
        small = compressions()["int8 asymmetric"][1](opt, convolution("iOS16", half=True))
        dense = opt.decompress_weights(small)
    image = torch.from_numpy(
        np.random.default_rng(1).standard_normal((1, CHANNELS, 6, 6)).astype(np.float32)
    )
    packed, plain = (
        Program(saved(model, tmp_path / name)) for name, model in (("a", small), ("b", dense))
    )
    ours, theirs = (
        [v for _, v in sorted(program._constants_used.items()) if getattr(v, "ndim", 0) == 4]
        for program in (packed, plain)
    )
    assert len(ours) == len(theirs) == 2
    for got, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)
    assert torch.equal(packed(image)["out"], packed(image)["out"].half().float())


X = np.random.default_rng(2).standard_normal((2, 3, 4, 6)).astype(np.float32)
WHOLE = np.random.default_rng(5).integers(-700_000, 700_000, (2, 3, 4, 6), dtype=np.int32)
Q = np.random.default_rng(3).integers(-128, 128, (2, 3, 4), dtype=np.int8)
SCALES = np.array([0.02, 0.05, 0.011], np.float32)
POINTS = np.array([-3, 0, 9], np.int8)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("add", {"x": X, "y": X[:, :1]}),
        ("cast", {"x": X, "dtype": "int32"}),
        ("concat", {"values": [X, X[:, :2]], "axis": 1}),
        ("cos", {"x": X}),
        ("dequantize", {"input": Q, "scale": SCALES, "zero_point": POINTS, "axis": 1}),
        ("dequantize", {"input": Q, "scale": SCALES[0]}),
        ("expand_dims", {"x": X, "axes": [0, 3, -1]}),
        ("floor_div", {"x": WHOLE, "y": np.int32(7)}),
        ("gather_along_axis", {"x": X, "indices": WHOLE % 6 - 3, "axis": -1}),
        ("linear", {"x": X[0, 0], "weight": X[1, 1, :3], "bias": SCALES}),
        ("matmul", {"x": X, "y": X[:, :1, :, :5], "transpose_x": True, "transpose_y": False}),
        ("matmul", {"x": X[0, 0], "y": X[:, :, 1:], "transpose_x": False, "transpose_y": True}),
        ("mul", {"x": X, "y": SCALES.reshape(3, 1, 1)}),
        ("mul", {"x": WHOLE, "y": np.int32(7)}),
        ("pad", {"x": X, "pad": [0, 1, 2, 0], "constant_val": 0.5}),
        ("quantize", {"input": X[..., 0], "scale": SCALES, "zero_point": POINTS, "axis": 1, "output_dtype": "int8"}),
        ("quantize", {"input": np.arange(-4, 4).astype(np.float32) / 2, "scale": np.float32(1), "output_dtype": "int8"}),
        ("real_div", {"x": X, "y": SCALES.reshape(3, 1, 1)}),
        ("reduce_max", {"x": X, "axes": [1], "keep_dims": False}),
        ("reduce_max", {"x": X}),
        ("reduce_mean", {"x": X, "axes": [2, 3], "keep_dims": True}),
        ("reduce_mean", {"x": X}),
        ("reduce_sum", {"x": X, "axes": [0, -1], "keep_dims": True}),
        ("relu", {"x": X}),
        ("reshape", {"x": X, "shape": [2, -1, 6]}),
        ("sigmoid", {"x": X}),
        ("exp", {"x": X}),
        ("leaky_relu", {"x": X, "alpha": 0.1}),
        ("sin", {"x": X}),
        ("slice_by_index", {"x": X, "begin": [0, 1, 0, -3], "end": [2, 2, 3, 0], "stride": [1, 1, 2, 1], "begin_mask": [True, False, False, False], "end_mask": [False, False, False, True], "squeeze_mask": [False, True, False, False]}),
        ("softmax", {"x": X, "axis": 1}),
        ("split", {"x": X, "split_sizes": [1, 5], "axis": 3}),
        ("split", {"x": X, "num_splits": 3, "axis": -1}),
        ("squeeze", {"x": X[:1, :, :1], "axes": [0, -2]}),
        ("stack", {"values": [X, X[::-1].copy()], "axis": -1}),
        ("sub", {"x": X, "y": X[..., :1]}),
        ("tile", {"x": WHOLE, "reps": [1, 2, 1, 3]}),
        ("topk", {"x": X, "k": 3, "axis": 2}),
        ("topk", {"x": X, "k": 2, "ascending": True}),
        ("transpose", {"x": X, "perm": [0, 2, 3, 1]}),
    ],
)  # fmt: skip
def test_operations_compute_what_coremltools_computes(
    ct: Any, name: str, arguments: dict[str, Any]
) -> None:
    from coremltools.converters.mil import Builder

    wanted: list[Any] = []

    @Builder.program(input_specs=[], opset_version=ct.target.iOS17)
    def program() -> Any:
        result = getattr(Builder, name)(**arguments)
        results = result if isinstance(result, (list, tuple)) else [result]
        wanted.extend(
            item.op.materialized_val_inference() if item.val is None else item.val
            for item in results
        )
        return results[0]

    def tensor(value: Any) -> Any:
        if isinstance(value, str):
            return value
        if isinstance(value, list) and isinstance(value[0], np.ndarray):
            return [torch.from_numpy(item) for item in value]
        return torch.from_numpy(np.array(value))

    got = OPS[name](**{key: tensor(value) for key, value in arguments.items()})
    got = got if isinstance(got, tuple) else (got,)
    assert len(got) == len(wanted)
    for ours, theirs in zip(got, wanted, strict=True):
        assert theirs is not None
        assert tuple(ours.shape) == theirs.shape
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-6, atol=1e-6)


def windows(
    x: np.ndarray, pad: list[int], fill: float, size: int, stride: int, dilation: int = 1
) -> np.ndarray:
    top, bottom, left, right = pad
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    span = (size - 1) * dilation + 1
    view = np.lib.stride_tricks.sliding_window_view(padded, (span, span), (2, 3))
    return view[:, :, ::stride, ::stride, ::dilation, ::dilation]


def test_convolution_and_pooling_pad_each_side_by_its_own() -> None:
    pad, t = [1, 0, 2, 1], torch.tensor
    weight = np.random.default_rng(4).standard_normal((4, 3, 2, 2)).astype(np.float32)
    wanted = np.einsum("nchwij,ocij->nohw", windows(X, pad, 0, 2, 2, 2), weight)
    common = {"pad_type": "custom", "pad": t(pad), "strides": t([2, 2])}
    got = OPS["conv"](
        torch.from_numpy(X), torch.from_numpy(weight), dilations=t([2, 2]), groups=t(1), **common
    )
    np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-5, atol=1e-5)
    wanted = windows(X, pad, -np.inf, 3, 2).max((-1, -2))
    got = OPS["max_pool"](torch.from_numpy(X), kernel_sizes=t([3, 3]), ceil_mode=t(False), **common)
    np.testing.assert_array_equal(got.numpy(), wanted)
    seen = windows(X, pad, np.nan, 3, 2)
    for skip, wanted in (
        (False, np.nan_to_num(seen).mean((-1, -2))),
        (True, np.nanmean(seen, (-1, -2))),
    ):
        got = OPS["avg_pool"](
            torch.from_numpy(X),
            kernel_sizes=t([3, 3]),
            exclude_padding_from_average=t(skip),
            **common,
        )
        np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_a_transposed_convolution_spreads_every_pixel() -> None:
    """With a stride as wide as the kernel each pixel becomes a square of its own."""
    weight, bias = X[0, :, :2, :4].reshape(3, 2, 2, 2), SCALES[:2]
    wanted = np.einsum("nchw,coij->nohiwj", X, weight).reshape(2, 2, 8, 12) + bias[:, None, None]
    t = torch.tensor
    known = {"weight": torch.from_numpy(weight), "bias": t(bias), "strides": t([2, 2])}
    got = OPS["conv_transpose"](torch.from_numpy(X), **known, output_shape=t([2, 2, 8, 12]))
    np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"\[2, 2, 8, 12\], not \[2, 2, 9, 12\]"):
        OPS["conv_transpose"](torch.from_numpy(X), **known, output_shape=t([2, 2, 9, 12]))


def test_sixteen_bits_wrap_around_and_equal_scores_keep_their_order() -> None:
    """From iOS 17 on programs hold indices in 16 bits; what does not fit must be seen to be wrong."""
    numbers = torch.tensor([0, 65535, 65536, 70000])
    assert OPS["cast"](numbers, "uint16").tolist() == [0, 65535, 0, 4464]
    equal = torch.zeros(1, 70000)
    equal[0, 69999] = 1
    for kind, first in (("int32", 69999), ("uint16", 4463)):
        values, places = OPS["topk"](equal, k=torch.tensor(3), output_indices_dtype=kind)
        assert values.tolist() == [[1, 0, 0]]
        assert places.tolist() == [[first, 0, 1]]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("conv", {"pad_type": "same"}),
        ("conv_transpose", {"pad_type": "custom", "pad": torch.tensor([1, 0, 0, 0])}),
        ("avg_pool", {"ceil_mode": True}),
        ("max_pool", {"ceil_mode": True}),
        ("concat", {"interleave": True}),
    ],
)
def test_a_variant_that_is_not_known_is_refused(name: str, change: dict[str, Any]) -> None:
    image = torch.from_numpy(X)
    pool = {"x": image, "kernel_sizes": torch.tensor([2, 2])}
    weighted = {"x": image, "weight": image}
    needed = {"conv": weighted, "conv_transpose": weighted, "avg_pool": pool, "max_pool": pool,
              "concat": {"values": [image], "axis": 1}}  # fmt: skip
    with pytest.raises(ValueError, match="not known"):
        OPS[name](**needed[name], **change)


def test_an_unknown_operation_is_refused_by_name(
    convolution: Callable[..., Any], tmp_path: Path
) -> None:
    opened = saved(convolution("iOS16"), tmp_path / "m")
    function = opened.spec.mlProgram.functions["main"]
    function.block_specializations[function.opset].operations[-1].type = "erf"
    with pytest.raises(StepFailed, match=r"operation\(s\) erf.*on a Mac"):
        Program(opened)


@pytest.mark.parametrize("item", ["/elsewhere.mlmodel", "../../elsewhere.mlmodel", "a/../../x"])
def test_a_package_whose_model_lies_outside(tmp_path: Path, item: str) -> None:
    entries = {"a": {"path": item if item[0] != "/" else f"{tmp_path}{item}"}}
    manifest = {"rootModelIdentifier": "a", "itemInfoEntries": entries}
    (tmp_path / "elsewhere.mlmodel").write_bytes(b"")  # an empty message
    package = tmp_path / "x.mlpackage"
    (package / "Data").mkdir(parents=True)
    (package / "Manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StepFailed, match=r"not a readable .*its model lies outside"):
        read_package(package)


def test_damage_is_reported(convolution: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "m"
    saved(convolution("iOS16"), folder)
    weights = folder / "Data/com.apple.CoreML/weights/weight.bin"
    content = bytearray(weights.read_bytes())
    content[64:68] = b"\0\0\0\0"
    weights.write_bytes(content)
    with pytest.raises(StepFailed, match="no weight record at 64"):
        Program(read_package(folder))
    for broken in (content[: len(content) // 2], b""):
        weights.write_bytes(broken)
        with pytest.raises(StepFailed, match="Export again"):
            Program(read_package(folder))
    (folder / "Data/com.apple.CoreML/model.mlmodel").write_bytes(b"\xff\xff")
    with pytest.raises(StepFailed, match="damaged model specification"):
        read_package(folder)
    (folder / "Manifest.json").unlink()
    with pytest.raises(StepFailed, match="not a readable"):
        read_package(folder)


def test_memory_stays_flat(convolution: Callable[..., Any], tmp_path: Path) -> None:
    program = Program(saved(convolution("iOS16"), tmp_path / "m"))
    image = torch.zeros(1, CHANNELS, 256, 256)
    peaks = []
    for _ in range(24):
        program(image)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    # One map of this program has 12 MB. The allocator may ask for one more at any time; a program
    # that kept one of each run would hold twelve.
    assert peaks[-1] - peaks[11] < 2 * 12 * 1024, peaks  # kilobytes


@pytest.mark.parametrize(
    "order", ["messages(); import coremltools", "import coremltools; messages()"]
)
def test_the_messages_live_beside_coremltools(order: str) -> None:
    code = f"""
import sys
from yolodeploy_coreml.mlpackage.package import data_types, messages
from yolodeploy_coreml.toolchain import coremltools
{order.replace("import coremltools", "ct = coremltools()")}
ours, theirs = messages().Model(), ct.proto.Model_pb2.Model()
ours.description.input.add(name="x").type.imageType.width = 3
theirs.ParseFromString(ours.SerializeToString())
theirs.MergeFrom(ours)
assert [feature.name for feature in theirs.description.input] == ["x", "x"]
assert data_types()[10] == "FLOAT16"
assert not [name for name in ("sklearn", "torchvision") if sys.modules.get(name, ct) is None]
"""
    path = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
