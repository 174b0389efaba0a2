"""Fixtures shared by the tests of the PyTorch plugin."""

from __future__ import annotations

import pytest
from real_model import RealModel
from torch_support import load

from yolodeploy.backend import Artifact


@pytest.fixture(scope="session")
def loaded(demo: RealModel, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The demo model as the step `load` writes it."""
    return load(demo.weights, tmp_path_factory.mktemp("loaded") / "work")
