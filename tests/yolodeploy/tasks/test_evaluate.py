"""Models side by side: the order is that of the view, whichever thread is faster."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from yolodeploy.data import Dataset, load_view
from yolodeploy.errors import DataError
from yolodeploy.recipe import View
from yolodeploy.system import ImageShape
from yolodeploy.tasks import Recorder, compared, evaluate, read_findings
from yolodeploy.tasks.detection import Detect


@pytest.fixture
def view(dataset_in: Callable[..., Path], tmp_path: Path) -> Dataset:
    dataset_in(tmp_path / "data", train=2, val=20)
    return load_view(tmp_path / "data" / "data.yaml", View(), 0)


SHAPE, TASK = ImageShape(64, 64), Detect(("thing",))


class _Model:
    """Gives the mean of the image and its own name; every third image takes longer."""

    def __init__(self, name: float) -> None:
        self.name, self.threads, self.runs = name, set[int](), 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.threads.add(threading.get_ident())
        self.runs += 1
        time.sleep(0.01 * (self.runs % 3 == 0))
        return np.full((1, 5, 2), images.mean() + self.name, np.float32)


def test_images_and_outputs_come_in_order_with_any_number_of_copies(view: Dataset) -> None:
    alone = [
        (seen.image, seen.outputs[0]["output"][0, 0])
        for seen in evaluate(view, SHAPE, [_Model(0)], task=TASK, head="one-to-many")
    ]
    assert [image for image, _ in alone] == list(view.images)
    assert len({mean for _, mean in alone}) > 10
    copies, other = [_Model(0) for _ in range(3)], _Model(5)
    for number, seen in enumerate(
        evaluate(view, SHAPE, copies, [other], task=TASK, head="one-to-many")
    ):
        image, mean = alone[number]
        assert (seen.number, seen.image, seen.outputs[0]["output"][0, 0]) == (number, image, mean)
        assert seen.outputs[1]["output"][0, 0] == pytest.approx(mean + 5)
    assert [model.runs for model in copies] == [7, 7, 6]
    assert [len(model.threads) for model in (*copies, other)] == [1, 1, 1, 1]


class _Batched(_Model):
    """Takes four images at a time, and gives the mean of each."""

    batch = 4

    def __init__(self) -> None:
        super().__init__(0)
        self.sizes: list[int] = []

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.sizes.append(len(images))
        return np.stack([super(_Batched, self).__call__(image)[0] for image in images])


def test_a_model_gets_as_many_images_at_a_time_as_it_takes(view: Dataset) -> None:
    view = replace(view, images=view.images[:18])
    copies = [_Batched(), _Batched()]
    found = list(evaluate(view, SHAPE, [_Model(0)], copies, task=TASK, head="one-to-many"))
    assert [seen.image for seen in found] == list(view.images)
    assert all(np.array_equal(*(each["output"] for each in seen.outputs)) for seen in found)
    assert [model.sizes for model in copies] == [[4, 4, 2], [4, 4]]


def test_the_first_broken_image_is_named_and_no_thread_stays(view: Dataset) -> None:
    before = threading.active_count()
    view.images[4].write_bytes(b"no image")
    view.images[7].write_bytes(b"no image")
    broken = evaluate(view, SHAPE, [_Model(0), _Model(0)], task=TASK, head="one-to-many")
    assert [next(broken).number for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(DataError, match=view.images[4].name):
        next(broken)
    early = evaluate(view, SHAPE, [_Model(0)], task=TASK, head="one-to-many")
    next(early)
    early.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_findings_are_read_as_they_were_recorded(view: Dataset, tmp_path: Path) -> None:
    recorder, outputs = Recorder(tmp_path, len(view), TASK), {}
    for seen in evaluate(view, SHAPE, [_Model(0)], task=TASK, head="one-to-many"):
        recorder.add(seen)
        outputs[seen.number] = seen.outputs[0]
    recorder.finish()
    found = read_findings(tmp_path, TASK)
    assert len(found.found) == len(view)
    assert (
        list(found.outputs)
        == compared(20)
        == [*range(4), *range(5, 9), *range(10, 14), *range(15, 19)]
    )
    for number, output in found.outputs.items():
        assert (output["output"] == outputs[number]["output"]).all()
    assert compared(3) == [0, 1, 2]
