"""What the process that is forked for every ONNX file has imported already, without PyTorch, as the child of the reader."""

from __future__ import annotations

import sys
from collections.abc import Sequence

sys.modules["torch"] = None  # type: ignore[assignment]

import onnxruntime  # noqa: E402, F401
import onnxsim  # noqa: E402, F401

from yolodeploy_onnx.examination import child  # noqa: E402


def examine(arguments: Sequence[str]) -> None:
    """Run the child's own main function."""
    sys.argv[1:] = arguments
    child.main()
