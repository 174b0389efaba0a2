"""The page of a deployment: how large it is, how fast a browser shows it, what it asks for, and what it costs to make."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.common import Bench

_STEPS = "[export, quantize]"
_TIMED = """
import json, sys, time
import yolodeploy.measure.evidence as evidence
import yolodeploy.report.page.assembly as assembly
import yolodeploy.tasks.pictures.taking as taking

spent = {}

def timed(module, name):
    inner = getattr(module, name)
    def outer(*values, **named):
        start = time.perf_counter()
        try:
            return inner(*values, **named)
        finally:
            spent[name] = spent.get(name, 0) + time.perf_counter() - start
    setattr(module, name, outer)

timed(taking, "take_pictures")
timed(evidence, "_curves")
timed(assembly, "report_page")
from yolodeploy.cli.main import main
start = time.perf_counter()
code = main(sys.argv[1:])
spent["deploy"] = time.perf_counter() - start
print(json.dumps({"code": code, **spent}), file=sys.stderr)
"""
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def page(bench: Bench) -> None:
    """Deploy with pictures, and open the page in Chromium."""
    recipe = bench.compressed("page", "intel-cpu", _STEPS)
    _costs(bench, recipe)
    file = bench.work / "dist/page/report.html"
    pictures = json.loads((file.parent / "pictures.json").read_text())["pictures"]
    print(f"page of {file.stat().st_size / 1e6:.2f} MB (limit 3), {len(pictures)} pictures")
    if browser := next(filter(None, map(shutil.which, _BROWSERS)), None):
        _in_browser(browser, file)
    else:
        print("no Chromium here")


def _costs(bench: Bench, recipe: Path) -> None:
    """What pictures, curves and the page take of a deploy whose store is empty."""
    options = ["--allow", "/", "-q", "--undecided=accept", "--cache", bench.work / "page-cache"]
    command = [sys.executable, "-c", _TIMED, "deploy", recipe, *options]
    done = subprocess.run(command, cwd=bench.work, capture_output=True, text=True, check=False)
    if done.returncode or not done.stderr.strip():
        sys.exit(f"deploy failed:\n{done.stderr[-2000:]}")
    spent = json.loads(done.stderr.splitlines()[-1])
    if spent.pop("code"):
        sys.exit(f"deploy failed:\n{done.stderr[-2000:]}")
    whole = spent.pop("deploy")
    for name, seconds in spent.items():
        print(f"{name.strip('_').replace('_', ' '):<14} {seconds:6.2f} s, {seconds / whole:.1%}")
    share = sum(spent.values()) / whole
    print(f"{'deploy':<14} {whole:6.2f} s, of which these {share:.1%} (limit 5 %)")


def _in_browser(browser: str, file: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        taken: list[float] = []
        heard: list[str] = []
        requests: list[str] = []
        for _ in range(7):
            tab = opened.new_page(viewport={"width": 1280, "height": 900})
            tab.on("console", lambda message: heard.append(message.text))
            tab.on("pageerror", lambda error: heard.append(str(error)))
            tab.on("request", lambda request: requests.append(request.url))
            tab.goto(file.as_uri())
            taken.append(tab.evaluate("performance.getEntries()[0].loadEventEnd"))
            tab.close()
        others = {u for u in requests if u != file.as_uri() and not u.startswith("data:")}
        print(f"opens in {sorted(taken)[3] / 1e3:.2f} s, median of 7 (limit 1)")
        print(f"requests to anywhere: {len(others)}, console messages: {len(heard)}")
        for width, scheme in ((400, "light"), (800, "dark"), (1280, "light")):
            _axe(opened, file, width, scheme)
        opened.close()


def _axe(browser: Any, file: Path, width: int, scheme: str) -> None:
    """What axe-core finds with everything unfolded, and whether the page is wider than the window."""
    from axe_playwright_python.sync_playwright import Axe

    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab.goto(file.as_uri())
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    wide = tab.evaluate("document.documentElement.scrollWidth")
    found = Axe().run(tab).response["violations"]
    listed = ", ".join(f"{each['id']} ({each['impact']})" for each in found) or "nothing"
    print(f"{width} px, {scheme}: axe-core finds {listed}; {max(0, wide - width)} px too wide")
    tab.close()
