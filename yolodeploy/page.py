"""The report as one HTML page: no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from string import Template
from typing import Any

from yolodeploy import chaintable
from yolodeploy.report import layer_counts

_DOCUMENT = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>$title</title><style>
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #cf222e; --bar: #4c8bf5; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 58rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
p { margin: .3rem 0 } .note { opacity: .75 }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums } code { font-size: .85em; overflow-wrap: anywhere }
.ok { color: var(--good) } .failed { color: var(--bad); font-weight: 600 }
.bar { display: inline-block; height: .7em; background: var(--bar); border-radius: 2px }
</style></head><body>
<h1>$title</h1>$body
</body></html>
""")

_BODY = Template("""<p>$target</p>
<h2>Checks</h2>$checks
<h2>Accuracy</h2>$accuracy<p class="note">$interval</p>
<h2>Cost</h2>$cost<p class="note">$note</p>
<h2>Chain</h2>$picture$chain$notes
<h2>Classes</h2>$classes
<h2>Convolutions</h2>$layers
<h2>Steps</h2>$steps
<h2>Data</h2>$data
<h2>Versions</h2>$versions
""")

_NUMBERS = {
    *chaintable.TITLES[1:],
    "SQNR dB",
    "artifact",
    "drop",
    "images",
    "layers",
    "limit",
    "objects",
    "seconds",
    "mAP drop",
    "source",
    "weights",
}

_Cell = str | tuple[str, str]  # text, or text and CSS class; text is escaped
Row = tuple[_Cell, ...]


def html(report: Mapping[str, Any]) -> str:
    """The page of a report."""
    evidence, target = report["evidence"], report["target"]
    system = f", OS {target['os']}" if target["os"] else ""
    body = _BODY.substitute(
        target=escape(
            f"{target['title']} ({target['device']}{system}), backend {report['backend']}"
        ),
        checks=table(("check", "artifact", "limit", ""), map(_check, report["checks"])),
        accuracy=table(
            ("measure", "source", "artifact", "drop"),
            _accuracy(evidence),
        ),
        interval=escape(_interval(evidence)),
        cost=table(("measure", "value"), _cost(report)),
        picture=chaintable.picture(report["chain"]),
        chain=table(chaintable.TITLES, map(_chain_row, report["chain"])),
        notes="".join(
            f'<p class="note">{escape(note)}</p>'
            for note in chaintable.notes(report["chain"], report["imgsz"])
        ),
        note=escape(evidence["runtime"]["note"]),
        classes=table(
            ("class", "objects", "source", "artifact", "drop", ""),
            map(_class, evidence["per_class"]),
        ),
        layers=table(
            ("form", "layers", ""), map(_form, layer_counts(report["interface"]["layers"]))
        ),
        data=table(
            ("view", "images", "split", "read by", "digest"), map(_view, report["data"].items())
        ),
        steps=table(("step", "seconds", "id"), map(_step, report["steps"])),
        versions=table(("tool", "version"), _versions(report["versions"])),
    )
    return document(report["name"], body)


def document(title: str, body: str) -> str:
    """A whole page; `title` is text, `body` is HTML."""
    return _DOCUMENT.substitute(title=escape(title), body=body)


def table(head: tuple[str, ...], rows: Iterable[Row]) -> str:
    """A table; a row's cells are text, or text and CSS class."""
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    if not body:
        return "<p>None.</p>"
    titles = "".join(f'<th class="{"n" * (name in _NUMBERS)}">{escape(name)}</th>' for name in head)
    return f"<table><tr>{titles}</tr>{body}</table>"


def _cell(cell: _Cell) -> str:
    text, style = (cell, "") if isinstance(cell, str) else cell
    if style == "bar":
        return f'<td><span class="bar" style="width:{float(text):.1f}rem"></span></td>'
    if style == "code":
        return f"<td><code>{escape(text)}</code></td>"
    return f'<td class="{style}">{escape(text)}</td>'


def _check(check: Mapping[str, Any]) -> Row:
    verdict = ("ok", "ok") if check["ok"] else ("FAILED", "failed")
    return (
        f"{check['name']} {check['note']}{' (at least)' if check['least'] else ''}",
        _number(check["value"]),
        _number(check["limit"]),
        verdict,
    )


def _accuracy(evidence: Mapping[str, Any]) -> Iterable[Row]:
    yield _compared("mAP50-95", evidence["map50_95"])
    yield _compared("mAP50", evidence["map50"])
    for row in evidence["by_size"]:
        yield _compared(f"mAP50-95, {row['name']} objects", row)
    row = evidence["fidelity"]
    yield (
        ("fidelity", row["reason"], "", "")
        if row["value"] is None
        else (
            "fidelity to the source model's detections",
            "",
            _number(row["value"]),
            "",
        )
    )


def _chain_row(row: Mapping[str, Any]) -> Row:
    step, *figures = chaintable.cells(row)
    return step, *((figure, "n") for figure in figures)


def _interval(evidence: Mapping[str, Any]) -> str:
    if "drop_90" not in evidence["map50_95"]:
        return ""
    low, high = evidence["map50_95"]["drop_90"]
    return (
        f"With these {evidence['images']} images the drop of mAP50-95 lies between {low:+.4f} and "
        f"{high:+.4f} (90 % interval, paired bootstrap)."
    )


def _form(item: tuple[str, list[str]]) -> Row:
    form, names = item
    return form, (str(len(names)), "n"), (", ".join(names), "code")


def _view(item: tuple[str, Mapping[str, Any]]) -> Row:
    name, view = item
    readers = ", ".join(f"{step} {count}" for step, count in view["read_by"].items()) or "measure"
    return name, (str(view["images"]), "n"), view["split"], readers, (view["digest"], "code")


def _compared(name: str, row: Mapping[str, Any]) -> Row:
    if row["source"] is None:
        return name, row["reason"], "", ""
    return name, *(_number(row[key]) for key in ("source", "artifact", "drop"))


def _class(row: Mapping[str, Any]) -> Row:
    if row["source"] is None:
        return row["name"], (str(row["objects"]), "n"), "", "", "", row["reason"]
    figures = (_number(row[key]) for key in ("source", "artifact", "drop"))
    return row["name"], (str(row["objects"]), "n"), *figures, (str(10 * row["artifact"]), "bar")


def _cost(report: Mapping[str, Any]) -> list[Row]:
    evidence, artifact = report["evidence"], report["artifact"]
    difference, latency, runtime = (
        evidence["output_diff"],
        evidence["latency_ms"],
        evidence["runtime"],
    )
    return [
        ("size", f"{artifact['bytes'] / 1e6:.3f} MB"),
        ("output difference", f"max {difference['max']:.4g}, mean {difference['mean']:.3g}"),
        ("latency", f"median {latency['median']:.2f} ms, p90 {latency['p90']:.2f} ms"),
        ("latency / fp32 export of the same model", _ratio(evidence)),
        ("speedup over the fp32 export of the model as loaded", _speedup(evidence)),
        ("peak memory", f"{evidence['peak_memory_mb']:.0f} MB (whole process)"),
        (
            "runtime",
            f"{runtime['name']} {runtime['version']}, {evidence['threads']} threads, {evidence['cpu']}",
        ),
        ("artifact", (artifact["digest"], "code")),
    ]


def _ratio(evidence: Mapping[str, Any]) -> str:
    ratio = evidence["latency_ratio"]
    return str(evidence["latency_ratio_reason"]) if ratio is None else f"{ratio:.3f}"


def _speedup(evidence: Mapping[str, Any]) -> str:
    speedup = evidence["speedup"]
    return str(evidence["speedup_reason"]) if speedup is None else f"{speedup:.2f}x"


def _step(step: Mapping[str, Any]) -> Row:
    return (
        step["name"],
        ("" if step["seconds"] is None else f"{step['seconds']:.2f}", "n"),
        (step["id"], "code"),
    )


def _versions(versions: Mapping[str, Any]) -> Iterable[Row]:
    for name, value in versions.items():
        text = (
            value
            if isinstance(value, str)
            else ", ".join(f"{tool} {number}" for tool, number in value.items())
        )
        yield name, text


def _number(value: float | None) -> _Cell:
    # adding 0.0 turns a rounded -0.0 into 0.0
    return ("not measured" if value is None else f"{round(value, 4) + 0.0:.4f}", "n")
