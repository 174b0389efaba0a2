"""The page as a browser shows it: at three widths, dark and light, without a request, and readable for everyone."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_up import EVIL, full, pictures, with_names

from yolodeploy.report import report_page

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_SLOWEST = 5.0  # seconds until everything is there, on a busy machine; bench/speed/page.py measures


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="not installed. Run: pip install -e '.[dev]'"
    )
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip("no Chromium here. Run: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def page(fired: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = json.loads((fired / "world/dist/pot/report.json").read_text())
    report = with_names(full(report), "red", EVIL)
    file = tmp_path_factory.mktemp("page") / "page.html"
    file.write_text(report_page(report, (), pictures("detect", name=EVIL, image=EVIL)))
    return file


def _open(browser: Any, page: Path, width: int, scheme: str) -> tuple[Any, list[str]]:
    """A tab with the page, everything unfolded, and what should not have happened."""
    tab, heard = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme), []
    tab.on("console", lambda message: heard.append(message.text))
    tab.on("pageerror", lambda error: heard.append(str(error)))
    tab.on("dialog", lambda dialog: heard.append(dialog.message))
    tab.on("request", lambda request: heard.append(request.url))
    tab.goto(page.as_uri())
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    heard = [text for text in heard if text != page.as_uri() and not text.startswith("data:")]
    return tab, heard


@pytest.mark.parametrize(
    ("width", "scheme"), [(400, "light"), (800, "dark"), (1280, "dark"), (400, "dark")]
)
def test_it_opens_quietly_and_fits(browser: Any, page: Path, width: int, scheme: str) -> None:
    tab, heard = _open(browser, page, width, scheme)
    assert heard == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("performance.getEntries()[0].loadEventEnd") < 1000 * _SLOWEST
    back = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert back == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(15, 19, 24)")
    narrowest = tab.evaluate(
        "Math.min(...[...document.querySelectorAll('.chart > svg, .panels svg')]"
        ".map(each => each.getBoundingClientRect().width))"
    )
    assert narrowest > 100, "a chart or a picture that nobody can read"
    broken = "[...document.querySelectorAll('use')].filter(e => !document.querySelector(e.getAttribute('href')))"
    assert tab.evaluate(f"{broken}.length") == 0
    tab.close()


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (1280, "dark")])
def test_axe_finds_nothing(browser: Any, page: Path, width: int, scheme: str) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright",
        reason="not installed. Run: pip install -e '.[dev]'",
    )
    tab, _ = _open(browser, page, width, scheme)
    found = axe.Axe().run(tab).response["violations"]
    assert [(each["id"], each["impact"], each["nodes"][0]["html"]) for each in found] == []
    tab.close()
