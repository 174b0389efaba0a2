"""The `w8` step: what it stores, what stays float, and what it costs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_ncnn import FILES, IMGSZ, Built, build, digests, make_context, open_with

import yolodeploy_ncnn as backend
from yolodeploy.backend import Artifact
from yolodeploy.compress import LAYERS_FILE, read_layers
from yolodeploy.errors import StepFailed
from yolodeploy_ncnn import bin_file, decode, param_file

STEP = next(step for step in backend.STEPS if step.name == "w8")

pytestmark = pytest.mark.skipif(
    backend.problem() is not None, reason=backend.problem() or "ncnn is installed"
)


def compress(artifact: Artifact, work: Path) -> Artifact:
    return Artifact("ncnn", STEP.run(artifact, STEP.params(), make_context(work)), "")


def stored(artifact: Artifact) -> tuple[param_file.Graph, bytes, list[bin_file.Block]]:
    graph = param_file.read(artifact.path / FILES[1])
    data = (artifact.path / FILES[0]).read_bytes()
    return graph, data, bin_file.blocks(graph, data)


def size(artifact: Artifact) -> int:
    return (artifact.path / FILES[0]).stat().st_size


@pytest.fixture(scope="module")
def built(demo, tmp_path_factory) -> Built:
    return build(demo.weights, tmp_path_factory.mktemp("ncnn"))


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def pair(request, built, tmp_path_factory) -> tuple[Artifact, Artifact]:
    """A float artifact and what `w8` makes of it."""
    plain = built.exports[request.param]
    return plain, compress(plain, tmp_path_factory.mktemp("w8") / "work")


def test_a_byte_per_weight_and_the_graph_as_it_was(pair):
    plain, small = pair
    assert sorted(path.name for path in small.path.iterdir()) == [LAYERS_FILE, *FILES]
    assert (small.path / FILES[1]).read_bytes() == (plain.path / FILES[1]).read_bytes()
    assert size(small) < 3_100_000
    before, after = backend.describe(plain), backend.describe(small)
    assert replace(before, layers={}) == replace(after, layers={})
    changed = {
        after.layers[name] for name in after.layers if after.layers[name] != before.layers[name]
    }
    assert changed == {"8-bit codebook"}


def test_what_is_compressed_and_what_is_not(pair):
    plain, small = pair
    graph, before, old = stored(plain)
    _, after, new = stored(small)
    tail = decode.decode_layers(graph, read_layers(plain.path))
    for was, now in zip(old, new, strict=True):
        if now.tag == bin_file.CODEBOOK:
            assert was.tagged
            assert was.layer.type == "Convolution"
            assert was.layer.name not in tail
            assert now.stop - now.start < was.stop - was.start
            assert len(np.unique(now.floats(after))) <= 256
        else:
            assert now.floats(after).tobytes() == was.floats(before).tobytes()
    float_weights = [now.count for now in new if now.tagged and now.tag != bin_file.CODEBOOK]
    assert min(float_weights) == 16  # the distances' weights
    assert max(float_weights) < 1100  # and the first convolution, where its table would not pay


def test_weights_are_close_in_loud_and_quiet_channels(pair):
    plain, small = pair
    _, before, old = stored(plain)
    _, after, new = stored(small)
    for was, now in zip(old, new, strict=True):
        if now.tag == bin_file.CODEBOOK:
            exact = was.floats(before).reshape(was.layer.number(0), -1)
            error = np.square(now.floats(after).reshape(exact.shape) - exact).mean(1)
            energy = np.square(exact).mean(1)
            assert error.sum() < 2e-4 * energy.sum()
            assert np.median(error / energy) < 5e-4


def test_output_is_close(built, pair):
    difference = np.abs(open_with(backend, pair[1])(built.images) - built.expected)
    assert 0 < difference[:, :4].mean() < 0.2
    assert difference[:, 4:].max() < 0.02


def test_ncnn_computes_with_the_values_that_we_read(pair, tmp_path):
    """The same numbers, stored as fp32, give the same output to the bit."""
    _, small = pair
    graph, data, blocks = stored(small)
    parts = []
    for block in blocks:
        parts += [bytes(4)] * block.tagged + [block.floats(data).tobytes()]
    (tmp_path / FILES[0]).write_bytes(b"".join(parts))
    param_file.write(graph, tmp_path / FILES[1])
    images = np.random.default_rng(1).random((1, 3, IMGSZ, IMGSZ), dtype=np.float32)
    wide = open_with(backend, Artifact("ncnn", tmp_path, ""))(images)
    assert np.array_equal(wide, open_with(backend, small)(images))


def test_a_layer_that_is_not_named_is_refused(pair, tmp_path):
    graph = stored(pair[0])[0]
    folder = shutil.copytree(pair[0].path, tmp_path / "copy")
    layers = (replace(la, name=la.name.replace("model.0.", "n.")) for la in graph.layers)
    param_file.write(param_file.Graph(tuple(layers)), folder / FILES[1])
    with pytest.raises(StepFailed, match=r"layers\.json does not name n\.conv"):
        compress(Artifact("ncnn", folder, ""), tmp_path / "work")


def test_a_second_time_is_an_error(pair, tmp_path):
    with pytest.raises(StepFailed, match="Remove `w8`"):
        compress(pair[1], tmp_path / "work")


def test_damaged_input_is_refused(built, tmp_path):
    (tmp_path / FILES[0]).write_bytes((built.exports["fp16"].path / FILES[0]).read_bytes()[:-9])
    (tmp_path / FILES[1]).write_bytes((built.exports["fp16"].path / FILES[1]).read_bytes())
    with pytest.raises(StepFailed, match="damaged"):
        compress(Artifact("ncnn", tmp_path, ""), tmp_path / "work")


def test_a_truncated_result_is_refused(pair, tmp_path):
    data = (pair[1].path / FILES[0]).read_bytes()
    (tmp_path / FILES[0]).write_bytes(data[: len(data) // 2])
    (tmp_path / FILES[1]).write_bytes((pair[1].path / FILES[1]).read_bytes())
    with pytest.raises(StepFailed, match="damaged"):
        open_with(backend, Artifact("ncnn", tmp_path, ""))


SCRIPT = """
import json, sys
from pathlib import Path
sys.path[:0] = json.loads(sys.argv[1])
from test_ncnn_w8 import Artifact, compress, digests
print(json.dumps(digests(compress(Artifact("ncnn", Path(sys.argv[2]), ""), Path(sys.argv[3])).path)))
"""


def test_same_bytes_in_another_process_folder_and_environment(pair, tmp_path):
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "OMP_NUM_THREADS": "2"}
    paths = json.dumps([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "-c", SCRIPT, paths, pair[0].path, tmp_path / "elsewhere" / "w"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, umask=0o077, check=True, capture_output=True
    )
    assert json.loads(done.stdout) == digests(pair[1].path)


@pytest.mark.coco
def test_size_on_coco(coco, tmp_path):
    plain = build(coco.weights, tmp_path / "float").exports["fp16"]
    assert size(compress(plain, tmp_path / "w8")) <= 3_400_000
