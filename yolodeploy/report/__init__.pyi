from .compact import Figure, Verdicts, figures, verdicts
from .html import render
from .inspection import bundle_rows, described, inspection_table, possible
from .layer_page import layer_page, layer_table
from .markdown import deployments_markdown, markdown_code, markdown_folded, markdown_table
from .page.again import BundlePage, bundle_page
from .page.assembly import report_page
from .page.gallery import Gallery, Shown, gallery
from .report import make_report
from .set_table import set_table
from .summary import summary_table
from .table import report_table
from .verified_table import evidence_text, verified_table

__all__ = [
    "BundlePage",
    "Figure",
    "Gallery",
    "Shown",
    "Verdicts",
    "bundle_page",
    "bundle_rows",
    "deployments_markdown",
    "described",
    "evidence_text",
    "figures",
    "gallery",
    "inspection_table",
    "layer_page",
    "layer_table",
    "make_report",
    "markdown_code",
    "markdown_folded",
    "markdown_table",
    "possible",
    "render",
    "report_page",
    "report_table",
    "set_table",
    "summary_table",
    "verdicts",
    "verified_table",
]
