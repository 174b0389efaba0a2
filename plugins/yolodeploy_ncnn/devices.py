"""Phones and boards that run ncnn, as data.

`features` are the Arm extensions that *all* cores of the chip have, since the scheduler
may place a thread on any of them: fp16 (FEAT_FP16) and dotprod (FEAT_DotProd) from
Armv8.2 cores on, i8mm (FEAT_I8MM) and bf16 (FEAT_BF16) with Armv8.6 and Armv9.0 cores. The
source of each is the chip's page and Arm's technical reference manual of the cores named.
`os_min` is the version that the device shipped with. ncnn runs on the CPU, of a Jetson too, unless a recipe says
`gpu: vulkan`.

`gpus` has the GPU as its driver calls it, where Vulkan is worth trying: a driver that every unit has, with fp16 storage and
arithmetic, and no report of a crash. The chips' pages and vulkan.gpuinfo.org list them. No phone was tried: docs/vulkan.md says what that leaves open.

A phone is recognised by its `ro.product.model` (https://storage.googleapis.com/play_public/supported_devices.html lists
them), a board by the `compatible` strings of its device tree (Linux, arch/arm64/boot/dts: broadcom, nvidia, rockchip). Those of a
Jetson end in the number of the module; the modules named have as many cores as the title says (NVIDIA Jetson Linux
Developer Guide, "Jetson Modules and Configurations").
"""

from __future__ import annotations

from yolodeploy.backend import Device, Identity

_ARM_8_2 = frozenset({"fp16", "dotprod"})
_ARM_9 = _ARM_8_2 | {"i8mm", "bf16"}

VULKAN = "vulkan"
_CRASHES = "https://github.com/Tencent/ncnn/issues/6449"
_SLOW = "https://github.com/Tencent/ncnn/issues/2435"
_TENSOR = "https://en.wikipedia.org/wiki/Google_Tensor"
_XCLIPSE = "https://en.wikipedia.org/wiki/Xclipse"

_PIXEL = "https://support.google.com/pixelphone/answer/7158570"
_EXYNOS = "https://semiconductor.samsung.com/processor/mobile-processor"
_SNAPDRAGON = "https://www.qualcomm.com/products/mobile/snapdragon/smartphones/snapdragon-8-series-mobile-platforms"
_ORYON = "https://en.wikipedia.org/wiki/Oryon"  # Armv8.7, so with i8mm and bf16
_PI = "https://www.raspberrypi.com/documentation/computers/processors.html"
_JETSON = "https://www.nvidia.com/en-us/autonomous-machines/embedded-systems"


def _known_as(*names: str) -> Identity:
    return Identity("arm64", names)


DEVICES = (
    Device(
        name="pixel-6",
        title="Google Pixel 6 (Tensor: 2x Cortex-X1, 2x Cortex-A76, 4x Cortex-A55)",
        os="Android",
        os_min="12",
        features=_ARM_8_2,
        source=f"{_PIXEL}; {_TENSOR}; Arm TRM of Cortex-X1, A76, A55",
        gpus={VULKAN: "Mali-G78"},
        identity=_known_as("Pixel 6"),
    ),
    Device(
        name="pixel-8",
        title="Google Pixel 8 (Tensor G3: 1x Cortex-X3, 4x Cortex-A715, 4x Cortex-A510)",
        os="Android",
        os_min="14",
        features=_ARM_9,
        source=f"{_PIXEL}; {_TENSOR}; Arm TRM of Cortex-X3, A715, A510",
        gpus={VULKAN: "Mali-G715"},
        identity=_known_as("Pixel 8"),
    ),
    Device(
        name="pixel-9",
        title="Google Pixel 9 (Tensor G4: 1x Cortex-X4, 3x Cortex-A720, 4x Cortex-A520)",
        os="Android",
        os_min="14",
        features=_ARM_9,
        source=f"{_PIXEL}; {_TENSOR}; https://wiki.lineageos.org/devices/tokay/; Arm TRM of Cortex-X4, A720, A520",
        gpus={VULKAN: "Mali-G715"},
        identity=_known_as("Pixel 9"),
    ),
    Device(
        name="pixel-9a",
        title="Google Pixel 9a (Tensor G4: 1x Cortex-X4, 3x Cortex-A720, 4x Cortex-A520)",
        os="Android",
        os_min="15",
        features=_ARM_9,
        source=f"{_PIXEL}; {_TENSOR}; Arm TRM of Cortex-X4, A720, A520",
        gpus={VULKAN: "Mali-G715"},
        identity=_known_as("Pixel 9a"),
    ),
    Device(
        name="pixel-10",
        title="Google Pixel 10 (Tensor G5: 1x Cortex-X4, 5x Cortex-A725, 2x Cortex-A520)",
        os="Android",
        os_min="16",
        features=_ARM_9,
        source=f"{_PIXEL}; {_TENSOR}; Arm TRM of Cortex-X4, A725, A520",
        gpus={VULKAN: "PowerVR"},
        identity=_known_as("Pixel 10"),
    ),
    Device(
        name="galaxy-s24-exynos",
        title="Samsung Galaxy S24 SM-S921B (Exynos 2400: 1x Cortex-X4, 5x A720, 4x A520)",
        os="Android",
        os_min="14",
        features=_ARM_9,
        source=f"{_EXYNOS}/exynos-2400/; {_XCLIPSE}; Arm TRM of Cortex-X4, A720, A520",
        identity=_known_as("SM-S921B*"),
        gpus={VULKAN: "Xclipse 940"},
    ),
    Device(
        name="galaxy-s24-snapdragon",
        title="Samsung Galaxy S24 SM-S921U (Snapdragon 8 Gen 3: 1x Cortex-X4, 5x A720, 2x A520)",
        os="Android",
        os_min="14",
        features=_ARM_9,
        source=f"{_SNAPDRAGON}/snapdragon-8-gen-3-mobile-platform; Arm TRM of Cortex-X4, A720, A520",
        identity=_known_as("SM-S921U*"),
        gpus={VULKAN: "Adreno (TM) 750"},
    ),
    Device(
        name="galaxy-s25",
        title="Samsung Galaxy S25 (Snapdragon 8 Elite: 8x Oryon)",
        os="Android",
        os_min="15",
        features=_ARM_9,
        source=f"{_SNAPDRAGON}/snapdragon-8-elite-mobile-platform; {_ORYON}",
        identity=_known_as("SM-S931*"),
        gpus={VULKAN: "Adreno (TM) 830"},
    ),
    Device(
        name="galaxy-s26-exynos",
        title="Samsung Galaxy S26 SM-S942B (Exynos 2600: 1x C1-Ultra, 9x C1-Pro)",
        os="Android",
        os_min="16",
        features=_ARM_9,
        source=f"{_EXYNOS}/exynos-2600/; {_XCLIPSE}; Arm TRM of C1-Ultra, C1-Pro",
        identity=_known_as("SM-S942B*"),
        gpus={VULKAN: "Xclipse 960"},
    ),
    Device(
        name="galaxy-s26-snapdragon",
        title="Samsung Galaxy S26, US model (Snapdragon 8 Elite Gen 5: 8x Oryon)",
        os="Android",
        os_min="16",
        features=_ARM_9,
        source=f"{_SNAPDRAGON}/snapdragon-8-elite-gen-5; {_ORYON}",
        identity=_known_as("SM-S942U*"),
        no_gpu=f"has an Adreno 840, in whose Vulkan driver ncnn crashes ({_CRASHES})",
    ),
    Device(
        name="galaxy-a54",
        title="Samsung Galaxy A54 5G (Exynos 1380: 4x Cortex-A78, 4x Cortex-A55)",
        os="Android",
        os_min="13",
        features=_ARM_8_2,
        source=f"{_EXYNOS}/exynos-1380/; Arm TRM of Cortex-A78, A55",
        identity=_known_as("SM-A546*"),
        gpus={VULKAN: "Mali-G68"},
    ),
    Device(
        name="galaxy-a56",
        title="Samsung Galaxy A56 5G (Exynos 1580: 4x Cortex-A720, 4x Cortex-A520)",
        os="Android",
        os_min="15",
        features=_ARM_9,
        source=f"{_EXYNOS}/exynos-1580/; {_XCLIPSE}; Arm TRM of Cortex-A720, A520",
        identity=_known_as("SM-A566*"),
        gpus={VULKAN: "Xclipse 540"},
    ),
    # What every 64-bit phone has: Armv8.0, without the int8 dot product.
    Device(
        name="android",
        title="Any 64-bit Android phone (generic)",
        os="Android",
        source="https://developer.android.com/ndk/guides/abis",
        generic=True,
        identity=_known_as(),
        no_gpu="stands for phones without a Vulkan driver of version 1.1, too",
    ),
    Device(
        name="raspberry-pi-4",
        title="Raspberry Pi 4 (BCM2711: 4x Cortex-A72)",
        os="Linux",
        source=f"{_PI}; Arm TRM of Cortex-A72 (Armv8.0)",
        identity=_known_as("raspberrypi,4-model-b"),
        no_gpu=f"has a GPU that computes no fp16, on which ncnn is slower than on the CPU ({_SLOW})",
    ),
    Device(
        name="raspberry-pi-5",
        title="Raspberry Pi 5 (BCM2712: 4x Cortex-A76)",
        os="Linux",
        features=_ARM_8_2,
        source=f"{_PI}; Arm TRM of Cortex-A76",
        identity=_known_as("raspberrypi,5-model-b"),
        no_gpu=f"has a GPU that computes no fp16, on which ncnn is slower than on the CPU ({_SLOW})",
    ),
    Device(
        name="jetson-orin-nano",
        title="NVIDIA Jetson Orin Nano (6x Cortex-A78AE)",
        os="Linux",
        features=_ARM_8_2,
        source=f"{_JETSON}/jetson-orin/; Arm TRM of Cortex-A78AE",
        identity=_known_as("nvidia,*p3767-0003*", "nvidia,*p3767-0004*", "nvidia,*p3767-0005*"),
        gpus={VULKAN: "Orin"},
    ),
    Device(
        name="jetson-orin-nx",
        title="NVIDIA Jetson Orin NX (8x Cortex-A78AE)",
        os="Linux",
        features=_ARM_8_2,
        source=f"{_JETSON}/jetson-orin/; Arm TRM of Cortex-A78AE",
        identity=_known_as("nvidia,*p3767-0000*"),
        gpus={VULKAN: "Orin"},
    ),
    Device(
        name="jetson-agx-orin",
        title="NVIDIA Jetson AGX Orin (12x Cortex-A78AE)",
        os="Linux",
        features=_ARM_8_2,
        source=f"{_JETSON}/jetson-orin/; Arm TRM of Cortex-A78AE",
        identity=_known_as("nvidia,*p3701-0000*", "nvidia,*p3701-0005*"),
        gpus={VULKAN: "Orin"},
    ),
    Device(
        name="jetson-thor",
        title="NVIDIA Jetson Thor (14x Neoverse-V3AE)",
        os="Linux",
        features=_ARM_9,
        source=f"{_JETSON}/jetson-thor/; Arm TRM of Neoverse-V3AE",
        identity=_known_as("nvidia,*p3834-0008*"),
        gpus={VULKAN: "Thor"},
    ),
    Device(
        name="rk3588",
        title="Rockchip RK3588 boards (4x Cortex-A76, 4x A55)",
        os="Linux",
        features=_ARM_8_2,
        source="https://www.rock-chips.com/a/en/products/RK35_Series/2022/0926/1660.html; Arm TRM of Cortex-A76, A55",
        identity=_known_as("rockchip,rk3588", "rockchip,rk3588s"),
        no_gpu="run Arm's driver, Mesa's PanVK or none, depending on their image; a file for all of them has to run on the CPU",
    ),
    Device(
        name="arm-linux",
        title="Any 64-bit Arm board with Linux (generic)",
        os="Linux",
        source="https://www.debian.org/ports/arm/",
        generic=True,
        identity=_known_as(),
        no_gpu="stands for boards without a Vulkan driver, too",
    ),
)
