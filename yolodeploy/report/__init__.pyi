from .html import report_page
from .layer_page import layer_page, layer_table
from .report import make_report
from .table import report_table

__all__ = ["layer_page", "layer_table", "make_report", "report_page", "report_table"]
