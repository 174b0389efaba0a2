"""Here charts are drawn."""

import pytest


@pytest.fixture(autouse=True)
def charts_left_out() -> None:
    """Draw them, unlike in the tests of everything else."""
