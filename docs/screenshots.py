"""Take the pictures of README and docs from real runs.

    python docs/screenshots.py [NAME ...]

It deploys recipes with the demo models into a folder of its own (with the store of `YOLODEPLOY_CACHE`, so that a second run is
quick), opens the pages in headless Chromium and writes docs/images/. It needs `yolodeploy[dev]` and Chromium. Not part of a
build: run it after a change of what the pictures show, and look at them.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
COLUMNS = 80
LIMIT = 200_000  # bytes of a picture

MODEL = "model: {weights: models/shapes-yolov5u.pt, imgsz: 160}"
DATA = "data: {path: data/data.yaml, calibration: {split: train, images: 32}}"
CHECKS = "checks: {size_mb: 1, map_drop: 0.03, fidelity: 0.9}"
FORMS: Mapping[str, str] = {  # recipes for one device, from large to small
    "pc-fp32": "[{export: {precision: fp32}}]",
    "pc-w8": "[{export: {precision: fp32}}, w8]",
    "pc-int8": "[{export: {precision: fp32}}, {quantize: {min_sqnr: 26}}]",
    "pc-int8-two-images": "[{export: {precision: fp32}}, {quantize: {subset: 2, spare_dominant: false}}]",
}
SEARCH = f"""\
name: phone
{MODEL}
{DATA}
target: {{device: iphone-15-pro, os: "18"}}
steps: [export, palettize]
checks: {{map_drop: 0.05}}
search:
  steps:
    - export
    - palettize: {{bits: {{choice: [2, 3, 4, 6, 8]}}, compensate: {{choice: [false, true]}}}}
  objectives: {{size_mb, map_drop: 0.05}}
  budget: {{trials: 16}}
"""
THEME = TerminalTheme(
    (250, 250, 250),
    (40, 44, 52),
    [(40, 44, 52), (190, 40, 40), (20, 120, 50), (140, 100, 0)] + [(40, 80, 160)] * 4,
    [(90, 90, 90), (190, 40, 40), (20, 120, 50), (140, 100, 0)] + [(40, 80, 160)] * 4,
)


def main() -> None:
    """Take the pictures that the command line names, or all."""
    wanted = sys.argv[1:] or list(PICTURES)
    if unknown := [name for name in wanted if name not in PICTURES]:
        sys.exit(f"there is no picture {unknown[0]}. Choose from: {', '.join(PICTURES)}")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        sys.exit("no Chromium here. Run: apt-get install chromium")
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        project = Path(folder)
        prepare(project)
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for name in wanted:
            PICTURES[name](project, browser)
        browser.close()


def prepare(project: Path) -> None:
    """A project with models, images and a recipe for each form."""
    shutil.copytree(ROOT / "models", project / "models")
    shutil.copytree(ROOT / "examples" / "shapes" / "data", project / "data")
    for name, steps in FORMS.items():
        lines = [f"name: {name}", MODEL, DATA, "target: linux-x64", f"steps: {steps}", CHECKS]
        if name == "pc-fp32":
            lines[-1] = "checks: {map_drop: 0.03}"
        (project / f"{name}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def run(project: Path, *words: str) -> str:
    """What a command prints; its progress stays in this terminal."""
    print("$ yolodeploy", *words, file=sys.stderr)
    command = [sys.executable, "-m", "yolodeploy", *words]
    done = subprocess.run(command, cwd=project, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"yolodeploy ended with code {done.returncode}")
    return done.stdout


def deployed(project: Path, *names: str) -> list[str]:
    """Deploy recipes; returns their bundles."""
    run(project, "deploy", "--undecided=accept", *(f"{name}.yaml" for name in names))
    return [f"dist/{name}" for name in names]


def report(project: Path, browser: Browser) -> None:
    """The page of a bundle: what ships, and the pictures that differ most; the charts, in the dark."""
    (bundle,) = deployed(project, "pc-int8-two-images")
    page = project / bundle / "report.html"
    shoot(browser, page, "report.png", height=1010)
    shoot(browser, page, "report-accuracy.png", part="#accuracy", scheme="dark")


def compare(project: Path, browser: Browser) -> None:
    """The page that compares several artifacts of a model."""
    bundles = deployed(project, *FORMS)
    run(project, "compare", *bundles, "--html", "compare.html")
    shoot(browser, project / "compare.html", "compare.png")


def search(project: Path, browser: Browser) -> None:
    """The page of a search: the front among all trials."""
    (project / "phone.yaml").write_text(SEARCH, encoding="utf-8")
    run(project, "search", "phone.yaml", "--cache", "store")  # so that it says how long it takes
    shoot(browser, project / "search" / "phone.html", "search.png", height=1180)


def terminal(project: Path, _browser: Browser) -> None:
    """What a deploy prints."""
    text = run(project, "deploy", "--undecided=accept", "pc-w8.yaml")
    draw_terminal("yolodeploy deploy pc-w8.yaml", text, "terminal.svg")


def shoot(
    browser: Browser,
    page: Path,
    name: str,
    height: int = 900,
    scheme: str = "light",
    part: str = "",
) -> None:
    """A picture of a page from its top, or from a part of it, of 1100 pixels in width."""
    view = {"width": 1100, "height": height}
    context = browser.new_context(viewport=view, color_scheme=scheme)
    opened = context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.goto(f"{page.as_uri()}{part}")
    raw = opened.screenshot()
    context.close()
    if problems:
        sys.exit(f"{page.name}: {problems[0]}")
    save(raw, name)


def save(raw: bytes, name: str) -> None:
    """Write a PNG, with fewer colours if it would not fit the limit."""
    picture = Image.open(io.BytesIO(raw)).convert("RGB")
    for colours in (None, 256, 128):
        # This method keeps colours of small areas, such as a green tick beside a large picture.
        method = Image.Quantize.MAXCOVERAGE
        fewer = picture.quantize(colours, method, dither=Image.Dither.NONE) if colours else picture
        packed = io.BytesIO()
        fewer.save(packed, "PNG", optimize=True)
        if packed.tell() <= LIMIT:
            break
    else:
        sys.exit(f"{name} has {packed.tell()} bytes, more than {LIMIT}")
    (IMAGES / name).write_bytes(packed.getvalue())


def draw_terminal(command: str, text: str, name: str) -> None:
    """Write what a terminal shows as an SVG that asks no server for a font."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {command}", style="bold"))
    for line in text.rstrip("\n").splitlines():
        shown = Text(line)
        shown.highlight_regex(r"(?<=^  check           )ok", "green")
        shown.highlight_regex(r"(?<=^  check           )(FAILED|UNDECIDED)", "bold red")
        console.print(shown, no_wrap=True)
    svg = console.export_svg(title="yolodeploy", theme=THEME, unique_id="terminal")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code", "ui-monospace, Menlo, Consolas, monospace")
    svg = "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"
    (IMAGES / name).write_text(svg, encoding="utf-8")


PICTURES: Mapping[str, Callable[[Path, Browser], None]] = {
    "report": report,
    "compare": compare,
    "search": search,
    "terminal": terminal,
}

if __name__ == "__main__":
    main()
