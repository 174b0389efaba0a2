"""What every backend advises can be planned: on each of its devices, for each task, with and without images."""

from __future__ import annotations

from itertools import product

import pytest

from yolodeploy.backend import Advising, Backend, Device, ModelInfo, Situation, Target
from yolodeploy.backend.registry import load_registry
from yolodeploy.data import TASKS
from yolodeploy.system import ImageShape

ADVISING = [
    (backend, device)
    for backend in load_registry().backends.values()
    if isinstance(backend, Advising)
    for device in backend.DEVICES
]


@pytest.mark.parametrize(
    ("backend", "device"), ADVISING, ids=lambda each: getattr(each, "name", "")
)
def test_advice_can_be_followed(backend: Backend, device: Device) -> None:
    assert isinstance(backend, Advising)
    gpus = (None, *device.gpus)
    for task, images, count, gpu in product(TASKS, (0, 32), (400_000, 68_000_000), gpus):
        info = ModelInfo(task, ("cup",), (8, 16, 32), count, imgsz=160)
        target = Target(device, device.os_default, gpu)
        advice = backend.advise(Situation(info, ImageShape.square(160), images), target)
        form, reads = "yolo", set[str]()
        for advised in advice.steps:
            step = next(s for s in backend.STEPS if (s.name, s.accepts) == (advised.name, form))
            params = step.params.model_validate(dict(advised.params))
            assert backend.refuse(step, params, target) is None
            assert step.fits is None or step.fits(params, info) is None
            reads |= set(step.needs(params))
            form = step.produces
        assert images or not reads, "without images nothing can be calibrated"
        assert advice.size_mb is not None
        assert advice.size_mb > count / 1e6 * 0.9
        assert all(each.why.endswith(".") for each in advice.steps)


def test_every_shipped_backend_advises_and_suggests_a_device_of_its_own() -> None:
    suggested = {backend.NAME: backend.SUGGESTED for backend, _ in ADVISING}  # type: ignore[attr-defined]
    assert {"coreml", "ncnn", "onnxruntime", "openvino"} <= suggested.keys()
    names = {(backend.NAME, device.name) for backend, device in ADVISING}
    assert set(suggested.items()) <= names
