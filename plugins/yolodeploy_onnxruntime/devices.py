"""Devices that run ONNX Runtime, as data.

Each is a kind of device, because ONNX Runtime runs on all of it. Features: `vnni` (8-bit dot products of x86-64,
also in its 256-bit form), `dotprod` (those of Arm), `simd` (of WebAssembly).

Options: `activations` is the type in which 8-bit maps are stored: what the kernels of the processor multiply with
int8 weights (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html). `providers` are
the execution providers that an app should ask for, best first; the CPU's is always the last.
"""

from __future__ import annotations

from yolodeploy.backend import Device, Identity

_DOCS = "https://onnxruntime.ai/docs"

DEVICES = (
    Device(
        name="windows-x64",
        title="PC with Windows 10 or later and an x86-64 processor with VNNI (generic)",
        os="Windows",
        os_min="10",
        features=frozenset({"avx2", "vnni"}),
        options={"activations": "uint8", "providers": "CPU"},
        source=f"{_DOCS}/install/",
        generic=True,
        identity=Identity("x86-64"),
    ),
    Device(
        name="linux-x64",
        title="Linux machine with an x86-64 processor with VNNI (generic)",
        os="linux",
        features=frozenset({"avx2", "vnni"}),
        options={"activations": "uint8", "providers": "CPU"},
        source=f"{_DOCS}/install/",
        generic=True,
        identity=Identity("x86-64"),
    ),
    # Without VNNI, `quantize` uses half of the range of the weights, which is right on every CPU.
    Device(
        name="windows-x64-avx2",
        title="PC with Windows 10 or later and any x86-64 processor with AVX2 (generic)",
        os="Windows",
        os_min="10",
        features=frozenset({"avx2"}),
        options={"activations": "uint8", "providers": "CPU"},
        source=f"{_DOCS}/install/",
        generic=True,
        identity=Identity("x86-64"),
    ),
    Device(
        name="linux-x64-avx2",
        title="Linux machine with any x86-64 processor with AVX2 (generic)",
        os="linux",
        features=frozenset({"avx2"}),
        options={"activations": "uint8", "providers": "CPU"},
        source=f"{_DOCS}/install/",
        generic=True,
        identity=Identity("x86-64"),
    ),
    Device(
        name="linux-arm64",
        title="64-bit Arm board with Linux (generic)",
        os="linux",
        features=frozenset({"dotprod"}),
        options={"activations": "int8", "providers": "CPU"},
        source=f"{_DOCS}/install/",
        generic=True,
        identity=Identity("arm64"),
    ),
    Device(
        name="android-ort",
        title="64-bit Android phone with ONNX Runtime (generic)",
        os="Android",
        features=frozenset({"dotprod"}),
        options={"activations": "int8", "providers": "XNNPACK, CPU"},
        source=f"{_DOCS}/execution-providers/Xnnpack-ExecutionProvider.html",
        generic=True,
        identity=Identity("arm64"),
    ),
    Device(
        name="web-wasm",
        title="Browser with WebAssembly SIMD, ONNX Runtime Web (generic)",
        os="web",
        features=frozenset({"simd"}),
        options={"activations": "uint8", "providers": "WASM"},
        source=f"{_DOCS}/tutorials/web/",
        generic=True,
    ),
)
