"""What MkDocs asks while it builds the site: pages from the code, and pages of files outside docs/."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files
from reference import generated_pages
from reference.decisions import decisions_page
from reference.outside import DOCS, outside_pages, relinked

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that docs/ has no file for."""
    outside, pictures = outside_pages()
    pages = {**generated_pages(), "decisions/index.md": decisions_page(DOCS / "decisions")}
    for place, text in {**outside, **pages}.items():
        files.append(File.generated(config, place, content=text))
    for place, path in pictures.items():
        files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Let links that leave docs/ lead to pages of the site."""
    if page.file.generated_by is not None:
        return markdown
    return relinked(markdown, page.file.src_uri, DOCS / Path(page.file.src_uri).parent)
