"""Tables in Markdown for a comment on a pull request, as GitHub renders them: names from outside mention nobody, link nowhere and end no cell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from yolodeploy.measure import number, read_checks
from yolodeploy.report.compact import device_latency, figures, verdicts
from yolodeploy.report.report import place_words, signed
from yolodeploy.system import quotable
from yolodeploy.tasks import TITLES, Key, Measure, one, read_measures

_ABSENT = "-"
_LONG = 500  # characters of a message
_FIGURE = re.compile(r"[-+0-9. ]+(MB|ms|times)?")
Row = Mapping[str, Any]  # as `deploy --json` has it for one of several recipes


def deployments_markdown(rows: Sequence[Row]) -> str:
    """A line for each recipe, what stops those that do not ship, and the figures of each, folded away."""
    good = sum(row["ok"] for row in rows)
    blocks = [f"**yolodeploy**: {good} of {len(rows)} shipped", "\n".join(_summary(rows))]
    blocks += ["\n".join(lines) for row in rows if (lines := list(_problems(row)))]
    blocks += ["\n".join(_details(row)) for row in rows if "measures" in _report(row)]
    return "\n\n".join(blocks)


def markdown_table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int]
) -> list[str]:
    """The lines of a table; the columns in `left` are text, the others figures. Cells must be escaped."""
    ends = ["---" if index in left else "---:" for index in range(len(titles))]
    return [f"| {' | '.join(cells)} |" for cells in (titles, ends, *rows)]


def markdown_code(text: object) -> str:
    """Text from outside as a code span, which Markdown takes literally: no HTML, no mention, no link; on one line."""
    line = quotable(" ".join(str(text).split()), _LONG).replace("\\|", "\\ |").replace("|", "\\|")
    if not line:
        return ""
    fence = "`" * (1 + max(map(len, re.findall(r"`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith(("`", "\\")) else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def markdown_folded(title: str, lines: Sequence[str]) -> list[str]:
    """Lines that show when their title is clicked; the title must be escaped for HTML."""
    return [f"<details><summary>{title}</summary>", "", *lines, "", "</details>"]


def _report(row: Row) -> Row:
    found: Row = row.get("report", row)
    return found


def _summary(rows: Sequence[Row]) -> list[str]:
    titles = "recipe", "device", "verdict", "MB", "score", "source", "now", "change", "ms"
    return markdown_table(titles, [_line(row) for row in rows], left=(0, 1, 2, 4))


def _line(row: Row) -> list[str]:
    report = _report(row)
    named = [markdown_code(report.get("name", row["recipe"]))]
    verdict = "✅ shipped" if row["ok"] else f"❌ {row['error']['kind']}"
    if "measures" not in report:
        return [*named, _ABSENT, verdict, *[_ABSENT] * 6]
    measures, key = read_measures(report["measures"]), Key(report["scores"][0])
    primary, latency = one(measures, key), device_latency(report, measures)
    size = f"{report['artifact']['bytes'] / 1e6:.2f}"
    device = markdown_code(report["target"]["device"])
    score = [_four(primary.source), _four(primary.artifact), _change(primary)]
    time = _ABSENT if latency is None else f"{latency:.1f}"
    return [*named, device, verdict, size, TITLES[key], *score, time]


def _four(value: float | None) -> str:
    return _ABSENT if value is None else f"{value:.4f}"


def _change(measure: Measure) -> str:
    return _ABSENT if measure.loss is None else signed(-measure.loss)


def _problems(row: Row) -> Iterator[str]:
    """What stops a recipe: its checks, or the error."""
    if row["ok"]:
        return
    report = _report(row)
    wrong = [check for check in read_checks(report.get("checks", ())) if not check.ok]
    name = markdown_code(report.get("name", row["recipe"]))
    for check in wrong:
        value = "not measured" if check.value is None else number(check.value)
        side = "at least" if check.least else "at most"
        verdict = check.verdict.lower()
        yield f"* {name}: {markdown_code(check.name)} {verdict}: {value}, {side} {number(check.limit)} allowed"
    if not wrong:
        yield f"* {name}: {markdown_code(row['error']['message'])}"


def _details(row: Row) -> Iterator[str]:
    report = _report(row)
    cells = [
        [
            f"{each.title} {markdown_code(each.group)}".rstrip(),
            each.source,
            _said(each.artifact),
            each.change,
        ]
        for each in figures(report)
    ]
    lines = markdown_table(("", "source", "artifact", "change"), cells, left=(0,))
    if checks := verdicts(report):
        rows = [[markdown_code(each.name), each.verdict, each.value, each.limit] for each in checks]
        lines += ["", *markdown_table(("check", "verdict", "measured", "limit"), rows, left=(0, 1))]
    steps = ", ".join(markdown_code(step["name"]) for step in report["steps"])
    conditions = report["conditions"]
    runtime = f"{conditions['runtime']['name']} {conditions['runtime']['version']}"
    where = f"Measured in {markdown_code(runtime)} on {markdown_code(place_words(conditions))}"
    title = f"Figures of <code>{_plain(report['name'])}</code>"
    yield from markdown_folded(title, [f"Steps: {steps}", "", where, "", *lines])


def _said(text: str) -> str:
    """A figure as it is; a reason as a code span, because it may quote names."""
    return text if _FIGURE.fullmatch(text) else markdown_code(text)


def _plain(text: str) -> str:
    """A name in HTML, as character references, which Markdown leaves alone."""
    return "".join(each if each.isalnum() else f"&#{ord(each)};" for each in text)
