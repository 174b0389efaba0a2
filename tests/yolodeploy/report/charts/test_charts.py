"""Charts: the right figures at the right places, escaped, the same bytes each time, and nothing but SVG."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from yolodeploy.report.charts import (
    Axis,
    Bar,
    Point,
    Series,
    bar_chart,
    column_chart,
    drawing,
    ecdf,
    histogram,
    line_chart,
    scatter,
    waterfall,
)

EVIL = "<script>alert('x')</script>&\"}} ${x} \x07"
AXIS = Axis("ms <b>")
LINES = [Series(EVIL, [(0.0, 1.0), (1.0, 0.0)]), Series("b", [(0.0, 0.5), (1.0, 0.25)])]
BARS = [Bar(EVIL, 0.5, (0.4, 0.6)), Bar("b", -0.1), Bar("b", 2.0, text=EVIL, note=EVIL)]
POINTS = [Point(EVIL, 1, 2, EVIL, y_interval=(1, 3)), Point("b", 2, 1, x_interval=(1.5, 2.5))]
DRAWN = {
    "lines": lambda: line_chart(EVIL, LINES, AXIS, AXIS),
    "log": lambda: line_chart("log", [Series("a", [(1, 1), (1000, 2)])], Axis("x", log=True), AXIS),
    "ecdf": lambda: ecdf(EVIL, LINES, AXIS),
    "histogram": lambda: histogram(EVIL, LINES, AXIS),
    "bars": lambda: bar_chart(EVIL, BARS, AXIS),
    "columns": lambda: column_chart(EVIL, BARS, EVIL, AXIS),
    "waterfall": lambda: waterfall(EVIL, BARS, AXIS),
    "scatter": lambda: scatter(EVIL, POINTS, AXIS, AXIS, front=POINTS),
    "one": lambda: histogram("one", [Series("a", [(3.0, 0)])], AXIS),
}


def tree(markup):
    return ET.fromstring(str(markup))


def texts(markup):
    return [
        "".join(each.itertext()) for each in tree(markup).iter() if each.tag in ("text", "title")
    ]


@pytest.mark.parametrize("name", DRAWN)
def test_a_chart_is_plain_static_svg_the_same_each_time(name):
    first = DRAWN[name]()
    drawing._drawn.cache_clear()
    assert DRAWN[name]() == first
    allowed = {"figure", "figcaption", "ul", "li", "svg", "g", "path", "line", "text", "title"}
    assert {each.tag for each in tree(first).iter()} <= allowed
    attributes = {key for each in tree(first).iter() for key in each.attrib}
    assert not attributes & {"style", "href", "id", "font-family"}
    assert not [key for key in attributes if key.startswith("on")]
    assert "var(--" in first
    assert not re.search(r"(?:fill|stroke)=\"#", first), "a colour that no theme can change"
    assert "NaN" not in first
    assert "\x07" not in first
    assert "<script" not in first


def test_a_line_goes_through_its_points_and_names_them_under_the_pointer():
    series = [Series("artifact", [(0, 0.25), (1, 0.75)]), Series("source", [(0, 0.5), (1, 1)])]
    drawn = line_chart("precision", series, Axis("recall", 0, 1), Axis("precision", 0, 1))
    width = 420 - 60 - 14
    lines = [e.get("d") for e in tree(drawn).iter("path") if e.get("stroke-width") == "2.25"]
    assert lines == [f"M0,100L{width},0", f"M0,150L{width},50"]  # the first series lies on top
    assert "artifact: precision 0.25 at recall 0" in texts(drawn)
    assert drawn.count("stroke-dasharray") == 3  # the second line; both entries of the legend


def test_bars_are_sorted_and_cut_long_names_but_not_their_hover_text():
    long = "a class with a very long name indeed"
    drawn = bar_chart("drops", [Bar("b", 0.1), Bar(long, 0.3, (0.2, 0.4))], Axis("drop"))
    found = texts(drawn)
    assert [t for t in found if t.startswith(long)] == [f"{long}: 0.3, 0.2 to 0.4"] * 3
    names = [
        t
        for e in tree(drawn).iter("text")
        for t in [(e.text or "") + "".join(c.tail or "" for c in e)]
    ]
    assert names.index("a class with a ve…") < names.index("b")


def test_the_title_of_an_axis_keeps_clear_of_long_labels():
    """Labels such as 0.0015 take 47 pixels; the title's baseline lies beyond them."""
    points = [Point("a", 0.5, 0.0023), Point("b", 0.9, 0.0001)]
    root = ET.fromstring(str(scatter("t", points, Axis("MB"), Axis("loss"))))
    title = next(each for each in root.iter("text") if each.text == "loss")
    label = next(each for each in root.iter("text") if each.text == "0.0015")
    right = -float(re.search(r"translate\((-?[\d.]+)", title.get("transform"))[1])
    letters = len(label.text) * 7.8
    left = letters - float(re.search(r"translate\((-?[\d.]+)", label.get("transform"))[1])
    assert right > left


def test_a_waterfall_falls_from_step_to_step():
    drawn = waterfall("size", [Bar("load", 10), Bar("prune", 6), Bar("ships", 6)], Axis("MB", 0))
    bars = [e for e in tree(drawn).iter("path") if e.find("title") is not None]
    left = [float(re.match(r"M(-?[\d.]+)", e.get("d"))[1]) for e in bars]
    assert left[0] == left[2] < left[1]


def test_a_histogram_counts_every_sample_once():
    drawn = histogram("ms", [Series("a", [(v, 0) for v in (1, 1, 2, 5, 9, 9, 9)])], Axis("ms"))
    counts = [int(t.split()[1]) for t in texts(drawn) if t.startswith("a: ")]
    assert sum(counts) == 7


def test_columns_of_a_group_share_a_colour_and_every_one_has_its_name_under_the_pointer():
    bars = [Bar("a", 3, group="head"), Bar("b", 1, group="neck"), Bar("c", 2, group="head")]
    drawn = column_chart("levels", bars, "layers", Axis("dB"))
    fills = [e.get("fill") for e in tree(drawn).iter("path") if e.find("title") is not None]
    assert fills == ["var(--artifact)", "var(--source)", "var(--artifact)"]
    assert [t for t in texts(drawn) if ": " in t] == ["a: 3", "b: 1", "c: 2"]


def test_nothing_is_loaded_from_anywhere():
    layer = {"data": {"url": "http://127.0.0.1:9/x.csv"}, "mark": "bar", "encoding": {}}
    with pytest.raises(ValueError, match="not allowed"):
        drawing.figure("x", [layer], 10, drawing.Margins())


def test_the_page_machinery_loads_no_chart_library_before_it_draws():
    code = "import yolodeploy.report.charts as c, sys; c.Axis, c.line_chart; assert 'vl_convert' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
