"""Phones and boards that run ncnn, as data.

`features` are the Arm extensions that *all* cores of the chip have, since the scheduler
may place a thread on any of them: fp16 (FEAT_FP16) and dotprod (FEAT_DotProd) from
Armv8.2 cores on, i8mm (FEAT_I8MM) and bf16 (FEAT_BF16) with Armv9.0 cores. The source of
each is Arm's technical reference manual of the cores named. `os_min` is the version that
the device shipped with.
"""

from __future__ import annotations

from yolodeploy.backend import Device

_ARM_8_2 = frozenset({"fp16", "dotprod"})
_ARM_9 = _ARM_8_2 | {"i8mm", "bf16"}

DEVICES = (
    Device(
        name="pixel-6",
        title="Google Pixel 6 (Tensor: 2x Cortex-X1, 2x Cortex-A76, 4x Cortex-A55)",
        os="Android",
        os_min="12",
        features=_ARM_8_2,
        source="Google, Pixel phone hardware tech specs; Arm TRM of Cortex-X1, A76, A55",
    ),
    Device(
        name="pixel-8",
        title="Google Pixel 8 (Tensor G3: 1x Cortex-X3, 4x Cortex-A715, 4x Cortex-A510)",
        os="Android",
        os_min="14",
        features=_ARM_9,
        source="Google, Pixel phone hardware tech specs; Arm TRM of Cortex-X3, A715, A510",
    ),
    Device(
        name="galaxy-s24-exynos",
        title="Samsung Galaxy S24 SM-S921B (Exynos 2400: 1x Cortex-X4, 5x A720, 4x A520)",
        os="Android",
        os_min="14",
        features=_ARM_9,
        source="Samsung Semiconductor, Exynos 2400; Arm TRM of Cortex-X4, A720, A520",
    ),
    Device(
        name="galaxy-s24-snapdragon",
        title="Samsung Galaxy S24 SM-S921U (Snapdragon 8 Gen 3: 1x Cortex-X4, 5x A720, 2x A520)",
        os="Android",
        os_min="14",
        features=_ARM_9,
        source="Qualcomm, Snapdragon 8 Gen 3 product brief; Arm TRM of Cortex-X4, A720, A520",
    ),
    Device(
        name="galaxy-a54",
        title="Samsung Galaxy A54 5G (Exynos 1380: 4x Cortex-A78, 4x Cortex-A55)",
        os="Android",
        os_min="13",
        features=_ARM_8_2,
        source="Samsung Semiconductor, Exynos 1380; Arm TRM of Cortex-A78, A55",
    ),
    Device(
        name="raspberry-pi-4",
        title="Raspberry Pi 4 (BCM2711: 4x Cortex-A72)",
        os="Linux",
        source="Raspberry Pi, BCM2711 processor documentation; Arm TRM of Cortex-A72 (Armv8.0)",
    ),
    Device(
        name="raspberry-pi-5",
        title="Raspberry Pi 5 (BCM2712: 4x Cortex-A76)",
        os="Linux",
        features=_ARM_8_2,
        source="Raspberry Pi, BCM2712 processor documentation; Arm TRM of Cortex-A76",
    ),
)
