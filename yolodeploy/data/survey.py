"""Look at every image of a view: `yolodeploy check --data`."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from yolodeploy.data.images import read_image
from yolodeploy.errors import DataError
from yolodeploy.system import Report, threads


def image_faults(images: Iterable[Path], report: Report) -> dict[Path, str]:
    """Decode every image, on all cores; returns what is wrong, by image. OpenCV decodes without Python's lock."""
    wanted, faults = list(images), dict[Path, str]()
    pool = ThreadPoolExecutor(threads())
    try:
        found = zip(wanted, pool.map(_fault, wanted), strict=True)
        for number, (image, fault) in enumerate(found, 1):
            if fault:
                faults[image] = fault
            report(number / len(wanted), f"{number}/{len(wanted)} images, {len(faults)} faults")
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest
    return faults


def _fault(image: Path) -> str | None:
    try:
        read_image(image)
    except DataError as error:
        return str(error)
    return None
