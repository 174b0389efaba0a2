from .bars import bar_chart, waterfall
from .columns import column_chart
from .distributions import ecdf, histogram
from .lines import line_chart
from .points import scatter
from .values import Axis, Bar, Point, Series

__all__ = [
    "Axis",
    "Bar",
    "Point",
    "Series",
    "bar_chart",
    "column_chart",
    "ecdf",
    "histogram",
    "line_chart",
    "scatter",
    "waterfall",
]
