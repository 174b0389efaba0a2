"""Training batches: what is in them, and that neither folder, time nor memory changes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from yolodeploy.data.dataset import Dataset, load_view
from yolodeploy.data.images import letterboxed_file, to_tensor
from yolodeploy.errors import DataError
from yolodeploy.recipe.fields import View
from yolodeploy.system import ImageShape
from yolodeploy_torch.params import Augment
from yolodeploy_torch.training import batches as module
from yolodeploy_torch.training.batches import Batch, Batches

SIZE = 96
SHAPE = ImageShape.square(SIZE)
COLOURS = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])  # of the classes of the drawn images


def _augment(**strengths: float) -> Augment:
    """Only the named variations."""
    return Augment.model_validate(dict.fromkeys(Augment.model_fields, 0) | strengths)


def _same(first: Batch, second: Batch) -> bool:
    pairs = zip((first.images, *first.targets), (second.images, *second.targets), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory, dataset_in: Callable[..., Path]) -> Dataset:
    """Ten images of 64 x 48 px, each with a red, a green and a blue rectangle."""
    file = dataset_in(tmp_path_factory.mktemp("data"), train=10, val=1)
    return load_view(file, View(split="train"), 0)


def _objects(
    batch: Batch, shape: ImageShape = SHAPE
) -> Iterator[tuple[torch.Tensor, int, list[float]]]:
    """Image, class, and left, top, right, bottom in px of every object."""
    rows = zip(*(part.tolist() for part in batch.targets), strict=True)
    for owner, cls, (x, y, width, height) in rows:
        box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        yield (
            batch.images[owner],
            cls,
            [side * size for side, size in zip(box, [shape.width, shape.height] * 2, strict=True)],
        )


def _coloured(image: torch.Tensor, cls: int) -> torch.Tensor:
    """The mask [s, s] of the pixels that have about the colour of a class."""
    return (image - COLOURS[cls][:, None, None]).abs().amax(0) < 0.4


def test_without_variation_the_images_are_those_that_the_model_will_see(view: Dataset) -> None:
    seen = []
    for batch in Batches(view, SHAPE, _augment(), seed=0).epoch(0, 5):
        assert batch.images.dtype == torch.float32
        assert batch.targets.boxes.dtype == torch.float32
        for number, image in enumerate(batch.images):
            plain = [to_tensor(letterboxed_file(path, SHAPE).pixels)[0] for path in view.images]
            (index,) = (i for i, one in enumerate(plain) if np.array_equal(one, image.numpy()))
            labels = view.boxes(view.images[index])
            mine = batch.targets.image == number
            assert batch.targets.cls[mine].tolist() == [box.cls for box in labels]
            # 64 x 48 px in a square: the height becomes three quarters
            boxes = [[b.x, 0.125 + 0.75 * b.y, b.width, 0.75 * b.height] for b in labels]
            assert torch.allclose(batch.targets.boxes[mine], torch.tensor(boxes), atol=1e-6)
            seen.append(index)
    assert sorted(seen) == list(range(10)) != seen


def test_mirroring_is_exact(view: Dataset) -> None:
    (plain,) = Batches(view, SHAPE, _augment(), seed=0).epoch(0, 10)
    for axis, strengths in ((3, {"flip": 1}), (2, {"flip_vertical": 1})):
        (mirrored,) = Batches(view, SHAPE, _augment(**strengths), seed=0).epoch(0, 10)
        assert torch.equal(mirrored.images, plain.images.flip(axis))
        column = 3 - axis
        expected = plain.targets.boxes.clone()
        expected[:, column] = 1 - expected[:, column]
        assert torch.allclose(mirrored.targets.boxes, expected, atol=1e-6)


@pytest.mark.parametrize(
    "strengths",
    [
        {"scale": 0.5},
        {"translate": 0.2},
        {"mosaic": 1, "scale": 0.3, "flip": 0.5, "translate": 0.1},
    ],
    ids="-".join,
)
@pytest.mark.parametrize("shape", [SHAPE, ImageShape(64, 160)], ids=str)
def test_boxes_follow_the_pixels(
    view: Dataset, shape: ImageShape, strengths: dict[str, float]
) -> None:
    """Each box is filled with its colour, and every pixel of the colour is in a box."""
    batches = Batches(view, shape, _augment(**strengths), seed=2)
    count = 0
    for batch in (batch for epoch in range(3) for batch in batches.epoch(epoch, 10)):
        claimed = torch.zeros(10, 3, shape.height, shape.width, dtype=torch.bool)
        for number, (image, cls, (left, top, right, bottom)) in enumerate(_objects(batch, shape)):
            assert min(left, top) >= -1e-3
            assert right <= shape.width + 1e-3
            assert bottom <= shape.height + 1e-3
            inner = _coloured(image, cls)[
                int(top) + 2 : int(bottom) - 1, int(left) + 2 : int(right) - 1
            ]
            assert inner.float().mean() > 0.9 or inner.numel() < 9
            owner = int(batch.targets.image[number])
            claimed[owner, cls, max(int(top) - 1, 0) : int(bottom) + 2][
                :, max(int(left) - 1, 0) : int(right) + 2
            ] = True
            count += 1
        coloured = torch.stack(
            [torch.stack([_coloured(image, cls) for cls in range(3)]) for image in batch.images]
        )
        # an object is only dropped if less than a tenth of it is left
        assert (coloured & ~claimed).sum() <= 0.03 * coloured.sum()
    assert count > 40


def test_what_is_cut_off_or_tiny_is_no_object(view: Dataset) -> None:
    whole = Batches(view, SHAPE, _augment(), seed=0)
    cut = Batches(view, SHAPE, _augment(mosaic=1, scale=0.9), seed=0)
    (all_,) = whole.epoch(0, 10)
    sides = torch.cat([batch.targets.boxes[:, 2:] for e in range(8) for batch in cut.epoch(e, 10)])
    assert (all_.targets.boxes[:, 2:] * SIZE).min() > 10
    assert 2 - 1e-3 <= float(sides.min() * SIZE) < 4


def test_colours_vary_within_their_strength(view: Dataset) -> None:
    (plain,) = Batches(view, SHAPE, _augment(), seed=0).epoch(0, 10)
    (varied,) = Batches(view, SHAPE, _augment(brightness=0.3), seed=0).epoch(0, 10)
    gain = varied.images[:, :, 0, 0].mean(1) / (114 / 255)  # of the grey border
    assert ((gain > 0.69) & (gain < 1.31)).all()
    assert float(gain.max() - gain.min()) > 0.2
    expected = (plain.images * gain[:, None, None, None]).clamp(max=1)
    assert (varied.images - expected).abs().max() < 0.05  # bytes of HSV
    assert torch.equal(varied.targets.boxes, plain.targets.boxes)


def test_an_epoch_depends_on_seed_and_number_alone(
    view: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = Augment(mosaic=0.5)
    first = Batches(view, SHAPE, how, seed=0)
    for batch in first.epoch(0, 3):
        assert len(batch.images) == 3
        break  # a run that was stopped
    went_on = list(first.epoch(1, 3))
    monkeypatch.setattr(module, "CACHE_BYTES", 0)
    resumed = list(Batches(view, SHAPE, how, seed=0).epoch(1, 3))
    assert len(resumed) == 3  # the tenth image is left over
    assert all(_same(*pair) for pair in zip(went_on, resumed, strict=True))
    assert not _same(resumed[0], next(first.epoch(2, 3)))
    assert not _same(resumed[0], next(Batches(view, SHAPE, how, seed=1).epoch(1, 3)))


def test_fewer_images_than_a_batch_are_one_batch(view: Dataset) -> None:
    (batch,) = Batches(view, SHAPE, Augment(), seed=0).epoch(0, 64)
    assert len(batch.images) == 10


@pytest.mark.parametrize(("channels", "kept"), [(3, 4), (1, 10)])
def test_memory_for_images_is_bounded(
    view: Dataset, monkeypatch: pytest.MonkeyPatch, channels: int, kept: int
) -> None:
    read = []

    def noting(path: Path, imgsz: ImageShape) -> object:
        read.append(path)
        return letterboxed_file(path, imgsz)

    monkeypatch.setattr(module, "letterboxed_file", noting)
    monkeypatch.setattr(module, "CACHE_BYTES", 4 * 3 * SIZE**2)
    batches = Batches(view, ImageShape(SIZE, SIZE, channels), _augment(), seed=0)
    list(batches.epoch(0, 5))
    assert len(read) == 10
    list(batches.epoch(1, 5))
    assert len(read) == 10 + 10 - kept


def test_an_image_that_cannot_be_read_is_named(
    tmp_path: Path, dataset_in: Callable[..., Path]
) -> None:
    view = load_view(dataset_in(tmp_path, train=4), View(split="train"), 0)
    view.images[2].write_bytes(b"no image")
    with pytest.raises(DataError, match=view.images[2].name):
        list(Batches(view, SHAPE, Augment(), seed=0).epoch(0, 2))
