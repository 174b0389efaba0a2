"""`yolodeploy report`: the page of a bundle, written again and opened."""

from __future__ import annotations

import argparse
import re
import webbrowser
from pathlib import Path

from yolodeploy.cli.common import print_result, require_own, write_new
from yolodeploy.errors import EnvironmentProblem
from yolodeploy.system import Console, shown

HELP = "write the page of a bundle again, and open it"
FOLDER = Path("reports")


def add_options(command: argparse.ArgumentParser) -> None:
    """The bundle, where the page goes, and whether it is opened."""
    what = "a bundle (dist/NAME) or a report.json, of this release or an older one"
    command.add_argument("bundle", type=Path, metavar="BUNDLE", help=what)
    command.add_argument("--open", action="store_true", help="open the page in the browser")
    where = "where the page goes (default: reports/NAME.html)"
    command.add_argument("-o", "--output", type=Path, metavar="FILE", help=where)
    command.add_argument(
        "--no-images", action="store_false", dest="images", help="leave pictures out of the page"
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Write the page outside of the bundle, whose files are listed in its manifest."""
    from yolodeploy.report import bundle_page

    if options.output is None:
        require_own(FOLDER, FOLDER, "-o")
    page = bundle_page(options.bundle, images=options.images)
    for problem in page.problems[:1]:
        more = f" and {len(page.problems) - 1} more problems" if len(page.problems) > 1 else ""
        console.warn(f"{shown(options.bundle)} is not what was deployed: {problem}{more}")
    file = options.output or FOLDER / f"{_file_name(page.name)}.html"
    if page.bundle and file.resolve().is_relative_to(page.bundle.resolve()):
        raise EnvironmentProblem(
            f"{shown(file)}: lies in the bundle, which must stay as it was deployed. Choose another place with -o."
        )
    write_new(file, page.html)
    value = {"bundle": str(options.bundle), "page": str(file), "missing": list(page.missing)}
    lacks = "".join(f"\n  not in it: {text}" for text in page.missing)
    print_result(console, options, value, f"page: {shown(file)}{lacks}")
    if options.open and not webbrowser.open(file.resolve().as_uri()):
        console.warn(f"no browser was found to open it with. Open {shown(file)} yourself.")
    return 0


def _file_name(name: str) -> str:
    """A recipe's name as a file name, whatever a report calls it: 60 letters are at most 240 bytes."""
    return re.sub(r"[^\w.-]", "_", name)[:60].lstrip(".") or "report"
