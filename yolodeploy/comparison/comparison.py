"""The story of `yolodeploy compare`: paths -> subjects -> groups that can be compared -> table, page, data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolodeploy.comparison.groups import Group, grouped
from yolodeploy.comparison.plain import comparison_value
from yolodeploy.comparison.reading import read_subjects
from yolodeploy.comparison.table import comparison_table
from yolodeploy.errors import VerificationFailed


@dataclass(frozen=True)
class Comparison:
    """Groups of artifacts that can be compared, and a sentence for everything that could not be read."""

    groups: Sequence[Group]
    problems: Sequence[str]

    def table(self) -> str:
        """For a terminal of 80 columns."""
        return comparison_table(self.groups)

    def markdown(self) -> str:
        """For a pull request."""
        from yolodeploy.comparison.markdown import comparison_markdown

        return comparison_markdown(self.groups, self.problems)

    def page(self) -> str:
        """As one self-contained HTML file."""
        from yolodeploy.comparison.page import comparison_page

        return comparison_page(self.groups, self.problems)

    def value(self) -> dict[str, Any]:
        """As plain data."""
        return comparison_value(self.groups, self.problems)


def read_comparison(paths: Sequence[Path]) -> Comparison:
    """Compare bundles, report.json files and folders of bundles; raises VerificationFailed if nothing could be read."""
    subjects, problems = read_subjects(paths)
    if not subjects:
        raise VerificationFailed("\n".join(problems))
    return Comparison(grouped(subjects), problems)
