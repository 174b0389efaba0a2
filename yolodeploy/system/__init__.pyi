from .bars import new_bars, shows_bars
from .console import WIDTH, Console, Report
from .digest import StatCache, digest_of, file_digest, tree_bytes, tree_digest, tree_files
from .distributions import installed, missing
from .files import (
    BUNDLE_BYTES,
    IMAGE_BYTES,
    MODEL_BYTES,
    is_file,
    is_folder,
    open_plain,
    read_plain,
    replace_file,
    swap,
)
from .image_shape import FILL, GREY, RGB, Fit, ImageShape
from .json_files import adapter, encoded, read_json, shown_json, write_json
from .machine import conditions, cpu_name, described, peak_memory_mb, threads
from .memo import Memo
from .pace import Pace, progress_text
from .process_tree import descendants, end_processes
from .processes import (
    IN_PROCESS,
    PASSPHRASE,
    child_environment,
    end_with_parent,
    python_command,
    wait_passively,
)
from .text import one_line, quotable, shortened, shown, straight

__all__ = [
    "BUNDLE_BYTES",
    "FILL",
    "GREY",
    "IMAGE_BYTES",
    "IN_PROCESS",
    "MODEL_BYTES",
    "PASSPHRASE",
    "RGB",
    "WIDTH",
    "Console",
    "Fit",
    "ImageShape",
    "Memo",
    "Pace",
    "Report",
    "StatCache",
    "adapter",
    "child_environment",
    "conditions",
    "cpu_name",
    "descendants",
    "described",
    "digest_of",
    "encoded",
    "end_processes",
    "end_with_parent",
    "file_digest",
    "installed",
    "is_file",
    "is_folder",
    "missing",
    "new_bars",
    "one_line",
    "open_plain",
    "peak_memory_mb",
    "progress_text",
    "python_command",
    "quotable",
    "read_json",
    "read_plain",
    "replace_file",
    "shortened",
    "shown",
    "shown_json",
    "shows_bars",
    "straight",
    "swap",
    "threads",
    "tree_bytes",
    "tree_digest",
    "tree_files",
    "wait_passively",
    "write_json",
]
