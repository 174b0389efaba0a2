from .preparation import Wish, require_searchable
from .results import Judged, Searched, Tried
from .searching import search_recipe
from .talk import quietly
from .written.page import front_rows, write_results
from .written.table import described, search_table
from .written.writing import write_front

__all__ = [
    "Judged",
    "Searched",
    "Tried",
    "Wish",
    "described",
    "front_rows",
    "quietly",
    "require_searchable",
    "search_recipe",
    "search_table",
    "write_front",
    "write_results",
]
