"""The documentation as a site: built without a warning, complete, and without a request to anywhere."""

import re
import shutil
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

import yolodeploy
from yolodeploy.backend import load_registry
from yolodeploy.cli.main import parser
from yolodeploy.tasks import Key

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The site, built once; a dead link, a missing anchor or a page without a place fails the build."""
    pytest.importorskip("material", reason="pip install 'yolodeploy[docs]'")
    pytest.importorskip("mkdocstrings", reason="pip install 'yolodeploy[docs]'")
    folder = tmp_path_factory.mktemp("site")
    # Not --quiet, which drops warnings before --strict counts them.
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder


class _Loaded(HTMLParser):
    """Collects what a page loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        address = values.get("src") or (values.get("href") if tag == "link" else None)
        if address:
            self.found.append(address)


def test_no_page_loads_anything_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 60
    for page in pages:
        reader = _Loaded()
        reader.feed(page.read_text(encoding="utf-8"))
        for address in reader.found:
            assert "//" not in address, f"{page.name} loads {address}"
            if page.name != "404.html":
                target = (page.parent / address.partition("?")[0].partition("#")[0]).resolve()
                assert target.exists(), f"{page.name} loads {address}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?https?:|@import", style.read_text(encoding="utf-8"))


def test_the_search_works_from_a_disk(site):
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'yolodeploy[dev]'")
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        pytest.skip("no Chromium here. Run: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab, heard = browser.new_page(), []
        tab.on("console", lambda message: heard.append(message.text))
        tab.on("pageerror", lambda error: heard.append(str(error)))
        tab.on("request", lambda request: heard.append(request.url))
        tab.goto((site / "reference" / "steps.html").as_uri())
        # The page listens to keys, once it has started.
        tab.get_by_placeholder("Search").press_sequentially("palettize", delay=50)
        tab.wait_for_selector(".md-search-result__item", state="attached")
        found = tab.inner_text(".md-search-result__list")
        browser.close()
    assert "palettize" in found
    assert [text for text in heard if not text.startswith(("file:", "data:", "blob:"))] == []


def text_of(page):
    """The text of a page, without its markup."""
    html = page.read_text(encoding="utf-8")
    article = html[html.index("<article") : html.index("</article>")]
    return unescape(re.sub(r"<[^>]+>", "", article))


def commands(top):
    """Every parser below this one, by the words that lead to it."""
    for action in top._actions:
        if isinstance(getattr(action, "choices", None), dict):
            for name, inner in action.choices.items():
                yield name, inner
                yield from ((f"{name} {rest}", deep) for rest, deep in commands(inner))


def test_every_option_of_every_command_is_documented_with_its_meaning(site):
    text = text_of(site / "reference" / "commands.html")
    for name, command in commands(parser()):
        assert f"yolodeploy {name}" in text, name
        for action in command._actions:
            if "--help" in action.option_strings:
                continue
            assert action.help, f"{name}: {action.dest} has no help text"
            for option in action.option_strings:
                assert option in text, f"{name} {option}"


def test_every_parameter_device_and_measure_is_documented(site):
    steps = text_of(site / "reference" / "steps.html")
    devices = text_of(site / "reference" / "devices.html")
    for name, plugin in load_registry().backends.items():
        for step in plugin.STEPS:
            if not step.accepts.startswith("."):
                assert f"{step.name} on {name}" in steps
                for field, about in step.params.model_fields.items():
                    assert field in steps
                    assert about.description, f"{name}.{step.name}.{field} has no description"
        for device in plugin.DEVICES:
            assert device.name in devices
    measures = text_of(site / "reference" / "measures.html")
    assert all(key.value in measures for key in Key)


def test_every_name_of_the_python_api_is_documented(site):
    text = (site / "reference" / "python.html").read_text(encoding="utf-8")
    for name in yolodeploy.__all__:
        assert re.search(rf'id="yolodeploy(\.\w+)*\.{name}"', text), name


def test_the_schema_for_editors_is_published(site):
    committed = (ROOT / "docs" / "recipe.schema.json").read_bytes()
    assert (site / "recipe.schema.json").read_bytes() == committed
