"""What every compressing step of every backend must keep; see docs/adding-a-backend.md."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import suite
from numpy.typing import NDArray
from suite import Compressed

from yolodeploy.backend import Artifact, Context, Interface
from yolodeploy.errors import PlanRefused, YolodeployError
from yolodeploy.tasks.detection.noise import output_noise

Images = NDArray[np.float32]

BOX = 0.05 * suite.IMGSZ.width  # pixels, of the boxes that a user gets to see
SCORE = 0.15


def _open(made: Compressed, artifact: Artifact) -> Callable[[Images], Images]:
    return made.plugin.open(artifact, made.target, suite.THREADS)


def _context(made: Compressed, work: Path) -> Context:
    work.mkdir()
    return replace(made.job.context(), work=work)


def _described(made: Compressed, artifact: Artifact) -> Interface:
    return made.plugin.describe(artifact)


@pytest.mark.slow
def test_same_bytes_in_two_processes(
    compressed: Compressed, elsewhere: suite.Elsewhere, tmp_path: Path
):
    task = replace(compressed.job, work=str(tmp_path / "another place" / "work"))
    assert elsewhere.digests(task) == suite.digests(compressed.artifact.path)


def test_inspection_agrees_with_the_description(compressed: Compressed, macs: int):
    suite.check_inspection(compressed.plugin, compressed.artifact, macs)


def test_output_stays_close_to_the_exports(compressed: Compressed, images: Images):
    wanted = _open(compressed, compressed.input)(images)
    got = _open(compressed, compressed.artifact)(images)
    assert (got.dtype, got.shape) == (np.float32, wanted.shape)
    assert np.isfinite(got).all()
    assert (got[:, 4:].min() >= 0, got[:, 4:].max() <= 1) == (True, True)
    difference = np.abs(got - wanted)
    likely = np.argsort(wanted[:, 4:].max(1), axis=1)[:, -20:]
    box = np.take_along_axis(difference[:, :4].max(1), likely, axis=1).max()
    print(f"largest difference: {box:.4g} px, score {difference[:, 4:].max():.2g}")
    assert difference.max() > 0, "nothing was compressed"
    assert box <= BOX
    assert difference[:, 4:].max() <= SCORE


def test_files_become_smaller(compressed: Compressed):
    def size(artifact: Artifact) -> int:
        return sum(path.stat().st_size for path in suite.files(artifact.path))

    assert size(compressed.artifact) < size(compressed.input)


def test_description_tells_the_form_of_every_convolution(compressed: Compressed):
    before = _described(compressed, compressed.input).layers
    after = _described(compressed, compressed.artifact).layers
    if not after:
        pytest.skip(f"{compressed.plugin.NAME} says nothing of its layers")
    assert before.keys() == after.keys()
    assert len(after) > 50
    changed = [name for name in after if after[name] != before[name]]
    assert len(changed) > len(after) / 2


def test_same_step_twice_is_refused(compressed: Compressed, tmp_path: Path):
    context = _context(compressed, tmp_path / "work")
    with pytest.raises(YolodeployError) as caught:
        compressed.step.run(compressed.artifact, compressed.step.params(), context)
    assert suite.is_sentence(str(caught.value))


def test_selector_without_a_match_is_refused(compressed: Compressed, tmp_path: Path):
    if "keep_float" not in compressed.step.params.model_fields:
        pytest.skip(f"`{compressed.step.name}` has no `keep_float`")
    params = compressed.step.params.model_validate({"keep_float": ["dfl", "decode", "model.99.*"]})
    with pytest.raises(PlanRefused, match=r"`keep_float: model\.99\.\*` matches no layer"):
        compressed.step.run(compressed.input, params, _context(compressed, tmp_path / "work"))


def test_calibration_images_are_checked(compressed: Compressed, tmp_path: Path):
    if "calibration" not in compressed.step.needs(compressed.step.params()):
        pytest.skip(f"`{compressed.step.name}` looks at no images")
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    for images, said in (
        ((tmp_path / "broken.png", *compressed.job.images), "broken.png"),
        (compressed.job.images[:1], "1 calibration image "),
    ):
        job = replace(
            compressed.job,
            images=tuple(map(str, images)),
            work=str(tmp_path / f"work {len(images)}"),
        )
        with pytest.raises(YolodeployError) as caught:
            job.run()
        assert said in str(caught.value)


def test_probe_compresses_one_layer(compressed: Compressed, tmp_path: Path, images: Images):
    if compressed.step.probe is None:
        pytest.skip(f"`{compressed.step.name}` has no probe")
    params, context = compressed.step.params(), _context(compressed, tmp_path / "work")
    probe = compressed.step.probe(compressed.input, params, context)
    before = _described(compressed, compressed.input).layers
    assert {trial.layer for trial in probe.trials} <= before.keys()
    assert len(set(probe.trials)) == len(probe.trials) > 50
    trial = probe.trials[len(probe.trials) // 2]
    (tmp_path / "alone").mkdir()
    probe.write(trial, tmp_path / "alone")
    alone = Artifact(compressed.artifact.format, tmp_path / "alone", "")
    after = _described(compressed, alone).layers
    assert [name for name in after if after[name] != before[name]] == [trial.layer]
    whole, one = (
        output_noise(_open(compressed, compressed.input)(images), _open(compressed, got)(images))
        for got in (compressed.artifact, alone)
    )
    assert 0 < one < whole


def test_damaged_artifacts_are_refused(compressed: Compressed, tmp_path: Path):
    folder = tmp_path / "damaged"
    shutil.copytree(compressed.artifact.path, folder)
    largest = max(suite.files(folder), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    with pytest.raises(YolodeployError) as caught:
        _open(compressed, Artifact(compressed.artifact.format, folder, ""))
    assert len(str(caught.value).split()) >= 4
