"""Intel devices, as data.

Features: `avx2`, `avx512`, `vnni` (8-bit dot products: 512-bit on Xeon, 256-bit "AVX-VNNI" on
the client CPUs, see Intel's Instruction Set Extensions Programming Reference 319433), `amx`
(8-bit and bfloat16 tiles), `gpu` and `npu` (integrated units that OpenVINO can use).

Options: `unit` is the OpenVINO device that the artifact is meant for, `cpu` a part of the CPU's
name by which the machine itself is recognised (so it is the `identity`, too), `precision` the arithmetic asked for on a CPU.
Without the last, a CPU that has bfloat16 instructions computes in bfloat16 (OpenVINO, "CPU
device", floating point data types specifics), and evidence from one CPU says little of another.

An NPU takes static shapes only, which every export here has (OpenVINO, "NPU device").
"""

from __future__ import annotations

from dataclasses import replace

from yolodeploy.backend import Device, Identity

_INTEL = "https://www.intel.com/content/www/us/en/products/sku"

_DEVICES = (
    Device(
        name="xeon-icelake",
        title="Intel Xeon Platinum 8380 (Ice Lake)",
        os="linux",
        features=frozenset({"avx2", "avx512", "vnni"}),
        options={"unit": "CPU", "cpu": "Platinum 8380", "precision": "f32"},
        source=f"{_INTEL}/212287/intel-xeon-platinum-8380-processor-60m-cache-2-30-ghz/specifications.html",
    ),
    Device(
        name="xeon-sapphirerapids",
        title="Intel Xeon Platinum 8480+ (Sapphire Rapids)",
        os="linux",
        features=frozenset({"avx2", "avx512", "vnni", "amx"}),
        options={"unit": "CPU", "cpu": "Platinum 8480+", "precision": "f32"},
        source=f"{_INTEL}/231746/intel-xeon-platinum-8480-processor-105m-cache-2-00-ghz/specifications.html",
    ),
    Device(
        name="xeon-graniterapids",
        title="Intel Xeon 6980P (Granite Rapids)",
        os="linux",
        features=frozenset({"avx2", "avx512", "vnni", "amx"}),
        options={"unit": "CPU", "cpu": "6980P", "precision": "f32"},
        source=f"{_INTEL}/240777/intel-xeon-6980p-processor-504m-cache-2-00-ghz/specifications.html",
    ),
    Device(
        name="xeon-sierraforest",
        title="Intel Xeon 6780E (Sierra Forest)",
        os="linux",
        features=frozenset({"avx2", "vnni"}),
        options={"unit": "CPU", "cpu": "6780E", "precision": "f32"},
        source=f"{_INTEL}/240362/intel-xeon-6780e-processor-108m-cache-2-20-ghz/specifications.html",
    ),
    Device(
        name="core-ultra-7",
        title="Intel Core Ultra 7 155H (Meteor Lake), NPU",
        os="linux",
        features=frozenset({"avx2", "vnni", "gpu", "npu"}),
        options={"unit": "NPU", "cpu": "Ultra 7 155H", "precision": "f32"},
        source=f"{_INTEL}/236847/intel-core-ultra-7-processor-155h-24m-cache-up-to-4-80-ghz/specifications.html",
    ),
    Device(
        name="core-ultra-200s",
        title="Intel Core Ultra 9 285K (Arrow Lake)",
        os="linux",
        features=frozenset({"avx2", "vnni", "gpu", "npu"}),
        options={"unit": "CPU", "cpu": "Ultra 9 285K", "precision": "f32"},
        source=f"{_INTEL}/241060/intel-core-ultra-9-processor-285k-36m-cache-up-to-5-70-ghz/specifications.html",
    ),
    Device(
        name="core-ultra-200v",
        title="Intel Core Ultra 7 258V (Lunar Lake), NPU",
        os="linux",
        features=frozenset({"avx2", "vnni", "gpu", "npu"}),
        options={"unit": "NPU", "cpu": "Ultra 7 258V", "precision": "f32"},
        source=f"{_INTEL}/240957/intel-core-ultra-7-processor-258v-12m-cache-up-to-4-80-ghz/specifications.html",
    ),
    Device(
        name="core-ultra-300",
        title="Intel Core Ultra X7 358H (Panther Lake), NPU",
        os="linux",
        features=frozenset({"avx2", "vnni", "gpu", "npu"}),
        options={"unit": "NPU", "cpu": "Ultra X7 358H", "precision": "f32"},
        source=f"{_INTEL}/245527/intel-core-ultra-x7-processor-358h-18m-cache-up-to-4-80-ghz/specifications.html",
    ),
    Device(
        name="n100",
        title="Intel N100 (Alder Lake-N)",
        os="linux",
        features=frozenset({"avx2", "vnni", "gpu"}),
        options={"unit": "CPU", "cpu": "N100", "precision": "f32"},
        source=f"{_INTEL}/231803/intel-processor-n100-6m-cache-up-to-3-40-ghz/specifications.html",
    ),
    Device(
        name="core-i7-8700",
        title="Intel Core i7-8700 (Coffee Lake)",
        os="linux",
        features=frozenset({"avx2", "gpu"}),
        options={"unit": "CPU", "cpu": "i7-8700", "precision": "f32"},
        source=f"{_INTEL}/126686/intel-core-i78700-processor-12m-cache-up-to-4-60-ghz/specifications.html",
    ),
    # Without VNNI, `quantize` uses half of the range of the weights, which is right on every CPU.
    Device(
        name="intel-cpu",
        title="Any Intel CPU with AVX2 (generic)",
        os="linux",
        features=frozenset({"avx2"}),
        options={"unit": "CPU", "cpu": "Intel", "precision": "f32"},
        source="https://docs.openvino.ai/2025/about-openvino/release-notes-openvino/system-requirements.html",
        generic=True,
    ),
)

DEVICES = tuple(
    replace(device, identity=Identity("x86-64", cpu=str(device.options["cpu"])))
    for device in _DEVICES
)
