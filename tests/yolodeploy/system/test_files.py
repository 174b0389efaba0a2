"""Every kind of file that is read, replaced by a pipe, by an endless file, and by a link."""

from __future__ import annotations

import hashlib
import os
import signal
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from world import World

from yolodeploy.data.dataset import load_view
from yolodeploy.data.images import read_image
from yolodeploy.errors import DataError
from yolodeploy.recipe.fields import View
from yolodeploy.system.files import IMAGE_BYTES, read_plain

FILES = {
    "pot.yaml": 2,
    "base.yaml": 2,
    "data/data.yaml": 6,
    "data/list.txt": 6,
    "data/images/val/val000.png": 6,
    "data/labels/val/val000.txt": 6,
    "model.clay": 5,
    "teacher.clay": 5,
    "pot.lock": 8,
}


@pytest.fixture
def full(world: World) -> World:
    """A world that reads a file of every kind."""
    teacher = b"knows more"
    like = f"like: {{file: teacher.clay, sha256: {hashlib.sha256(teacher).hexdigest()}}}"
    world.write("teacher.clay", teacher)
    world.recipe(
        ("  - export", f"  - teach: {{{like}}}\n  - export"),
        ("  calibration", "  training: {split: train}\n  calibration"),
        name="base.yaml",
    )
    world.write("pot.yaml", "extends: base.yaml\n")
    text = (world.root / "data/data.yaml").read_text().replace("val: images/val", "val: list.txt")
    world.write("data/data.yaml", text)
    world.write("data/list.txt", "images/val/val000.png\nimages/val/val002.png\n")
    world.good()
    return world


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError("it waits for a file")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(30)
    yield
    signal.alarm(0)


def refused(full: World, code: int, said: str) -> None:
    for command in (("build", "pot.yaml", "--locked"), ("reproduce", "pot.yaml")):
        start = time.process_time()
        result = full.run(*command)
        assert result.code == code, result.err
        assert said in result.error
        assert time.process_time() - start < 5


@pytest.mark.parametrize("name", FILES)
def test_pipe(full: World, name: str) -> None:
    (full.root / name).unlink()
    os.mkfifo(full.root / name)
    said = "a pipe or a device" if name != "teacher.clay" else "there is no file teacher.clay"
    refused(full, FILES[name], said)


@pytest.mark.parametrize("name", FILES)
def test_file_without_end(full: World, name: str) -> None:
    os.truncate(full.root / name, 1 << 36)
    refused(full, FILES[name], "it is larger than ")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("target", ["file", "/dev/zero"])
def test_link_that_leads_out(full: World, tmp_path: Path, name: str, target: str) -> None:
    outside = tmp_path / "outside"
    (full.root / name).rename(outside)
    leads = outside if target == "file" else Path(target)
    (full.root / name).symlink_to(leads)
    refused(full, 3, str(leads))


@pytest.mark.parametrize("name", ["dist", "pot.lock"])
def test_deploy_writes_nothing_over_a_link(full: World, tmp_path: Path, name: str) -> None:
    path = full.root / name
    path.rename(full.root / "inside")
    path.symlink_to("inside")
    before = full.lock.read_bytes()
    result = full.deploy()
    assert result.code == (4 if name == "dist" else 0), result.err
    assert full.lock.read_bytes() == before
    assert path.is_symlink()


def test_a_file_that_grows_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(bytes(100))
    assert read_plain(tmp_path / "a", 100) == bytes(100)
    found = os.fstat

    def smaller(file: int) -> os.stat_result:
        return os.stat_result([*found(file)[:6], 99, *found(file)[7:]])

    monkeypatch.setattr("yolodeploy.system.files.os.fstat", smaller)
    with pytest.raises(OSError, match="it grew while it was read"):
        read_plain(tmp_path / "a", 1000)


def test_an_image_has_at_most_ten_thousand_objects(dataset: Path) -> None:
    label = dataset.parent / "labels/val/val000.txt"
    rows = [f"0 0.5 0.5 0.1 {n / 20_000}\n" for n in range(1, 10_002)]
    label.write_text("".join(rows[:-1]))
    view = load_view(dataset, View(), 0)
    assert len(view.boxes(view.images[0])) == 10_000
    label.write_text("".join(rows))
    with pytest.raises(
        DataError, match=r"val000\.txt:10001: an image may have at most 10,000 objects"
    ):
        load_view(dataset, View(), 0)


def test_a_small_file_takes_a_small_buffer(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1000)
    tracemalloc.start()
    assert len(read_plain(tmp_path / "a", IMAGE_BYTES)) == 1000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_jpeg_of_a_thousand_scans(tmp_path: Path) -> None:
    flat = np.full((64, 64, 3), 77, np.uint8)
    data = cv2.imencode(".jpg", flat, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    scan = data[data.rindex(b"\xff\xda") : -2]
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:-2] + scan * 50 + data[-2:])
    assert np.array_equal(
        read_image(path), cv2.imdecode(np.frombuffer(data, np.uint8), 1)[..., ::-1]
    )
    path.write_bytes(data[:-2] + scan * 1000 + data[-2:])
    with pytest.raises(DataError, match=r"a\.jpg: has more than 100 scans"):
        read_image(path)


def test_what_follows_a_jpeg_is_none_of_its_scans(tmp_path: Path) -> None:
    """Phones append a video to the picture, and put a thumbnail before it."""
    data = cv2.imencode(".jpg", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
    thumb = b"\xff\xe1" + (2 + 400).to_bytes(2, "big") + b"\xff\xda" * 200
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:2] + thumb + data[2:] + b"film\xff\xda" * 500)
    assert read_image(path).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            '["a\\nb", b, c]',
            "the class name `a\\nb` must have fewer than 256 characters and no control characters",
        ),
        ("[a, b, " + "c " * 200 + "]", "the class name `c c c"),
    ],
)
def test_names_of_classes_are_lines(world: World, names: str, said: str) -> None:
    world.write("data/data.yaml", f"val: images/val\ntrain: images/train\nnames: {names}\n")
    result = world.run("check", "pot.yaml")
    assert result.code == 6
    assert said in result.error
    assert len(result.error.splitlines()) == 2


def test_a_path_of_two_lines(world: World) -> None:
    text = (world.root / "data/data.yaml").read_text()
    world.write("data/data.yaml", text.replace("val: images/val", 'val: "x\\nerror: y"'))
    result = world.run("check", "pot.yaml")
    assert result.code == 6
    assert "`val` holds a NUL character or a line break" in result.error


def test_names_of_files_stay_on_their_line(world: World) -> None:
    image = world.root / "data/images/val/val000.png"
    image.rename(image.with_name("a\nok: b.png"))
    os.truncate(image.with_name("a\nok: b.png"), 0)
    result = world.run("check", "pot.yaml")
    assert "data/images/val/a\\nok: b.png: the image is empty" in result.error
    (world.root / "data/images/val/a\nok: b.png").unlink()
    image.symlink_to("/nowhere/a\nok: b.png")
    result = world.run("check", "pot.yaml")
    assert "leads to /nowhere/a\\nok: b.png, lies" in result.error
    assert len(result.err.splitlines()) == 1
