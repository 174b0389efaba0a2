"""What a predictor may return."""

from __future__ import annotations

import re

import numpy as np
import pytest

from yolodeploy.backend import OUTPUT, PROTOTYPES, named_outputs
from yolodeploy.errors import StepFailed


def test_outputs_have_the_names_of_their_task() -> None:
    """One array is the one output; a plugin that drops another is at fault, not the core."""
    array = np.zeros((1, 6, 4), np.float32)
    assert named_outputs(array, [OUTPUT]) == {OUTPUT: array}
    both = {PROTOTYPES: array, OUTPUT: array}
    assert list(named_outputs(both, [OUTPUT, PROTOTYPES])) == [OUTPUT, PROTOTYPES]
    message = "must return `output` and `prototypes`, and this one returned `output`. Report it to the author"
    with pytest.raises(StepFailed, match=re.escape(message)):
        named_outputs(array, [OUTPUT, PROTOTYPES])
