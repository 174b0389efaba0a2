"""Progress: what is left, how fast, and how it looks where there is room and where there is none."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from rich.console import Console as RichConsole

from yolodeploy.jobs.messages import Replay, SendingConsole
from yolodeploy.system.bars import new_bars, shows_bars
from yolodeploy.system.console import Console
from yolodeploy.system.pace import Pace, progress_text


def test_time_left_and_things_a_second() -> None:
    pace = Pace(0.0)
    assert progress_text(pace, 0.0, "") == ""
    assert progress_text(pace, 65.0, "convert") == "1:05 so far, convert"
    for second in range(11):
        pace.take(float(second), 0.05 * second, f"{4 * second}/80 images")
    assert progress_text(pace, 10.0, "40/80 images") == "0:10 left, 40/80 images, 4/s"
    assert progress_text(pace, 14.0, "40/80 images").startswith("0:06 left")
    assert progress_text(pace, 99.0, "40/80 images").startswith("1:39 so far")
    pace.take(15.0, 0.0, "1/80 images")  # the next part
    assert progress_text(pace, 15.0, "1/80 images") == "0:15 so far, 1/80 images"


def test_a_machine_that_slept_tells_nothing_of_how_fast_work_goes() -> None:
    """An hour in which nothing was reported made ten seconds of work take half a day."""
    pace = Pace(0.0)
    for second in range(21):
        pace.take(float(second), second / 100, f"{second}/100 images")
    for second in range(21, 26):
        pace.take(3600.0 + second, second / 100, f"{second}/100 images")
    assert pace.left(3625.0) == pytest.approx(75)
    assert pace.rate("25/100 images") == "1/s"


def test_a_training_that_goes_on_counts_from_where_it_was() -> None:
    pace = Pace(0.0)
    text = ""
    for second in range(0, 121, 5):
        text = f"epoch {51 + second // 40}/100, loss 1.000"
        pace.take(float(second), 0.5 + second / 4000, text)
    assert progress_text(pace, 120.0, text) == f"31:20 left, {text}, 40 s/epoch"


def _frame(width: int, text: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    bars = new_bars()
    bars.add_task(
        "export mlpackage (fp32, to compare with)",
        total=1.0,
        completed=0.4,
        text=text,
        pace=Pace(time.monotonic()),
    )
    out = io.StringIO()
    RichConsole(width=width, file=out).print(bars.get_renderable())
    return out.getvalue()


def test_a_bar_keeps_to_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = _frame(100, "12/300 calibration images", monkeypatch)
    assert "━" in wide
    assert "12/300 calibration images" in wide
    for width in (100, 80, 40):
        (line,) = _frame(width, "[b]12/300[/b] images " * 9, monkeypatch).splitlines()
        assert len(line) <= width
        assert "40%" in line
        assert "[b]12" in line or width == 40


def test_a_pipe_gets_a_line_for_every_epoch_and_few_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with Console().task("finetune yolo") as report:
        for second in range(2000):
            now = float(second)
            report(second / 2000, "epoch 1/2, loss 1.000")
        report.note("epoch 1/2, loss 0.900, mAP50-95 0.500, best 0.500")
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == [
        "finetune yolo ...",
        "finetune yolo   0% 33:15 left, epoch 1/2, loss 1.000",
    ]
    assert said[-2:] == [
        "finetune yolo: epoch 1/2, loss 0.900, mAP50-95 0.500, best 0.500",
        "finetune yolo done in 33:19",
    ]
    assert len(said) < 80


def test_progress_of_another_process_arrives(capsys: pytest.CaptureFixture[str]) -> None:
    replay = Replay(Console())
    sent: list[list[Any]] = []
    with SendingConsole(0, sent.append).task("finetune yolo") as report:
        report(0.5, "epoch 1/2, loss 1.000")
        report.note("epoch 1/2, loss 0.900")
    for message in sent:
        replay.take(message, "ios: ")
    assert [message[0] for message in sent] == ["begin", "report", "note", "end"]
    assert capsys.readouterr().err == (
        "ios: finetune yolo ...\nios: finetune yolo: epoch 1/2, loss 0.900\n"
    )


def test_a_notebook_shows_bars_where_it_can_draw_them(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import SimpleNamespace

    assert not shows_bars()

    class ZMQInteractiveShell: ...

    module = SimpleNamespace(get_ipython=ZMQInteractiveShell)
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert not shows_bars()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "ipywidgets" or None)
    assert shows_bars()
