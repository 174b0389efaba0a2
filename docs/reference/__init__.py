"""Pages of the documentation that are generated from the code whenever the site is built."""

from __future__ import annotations

from reference.commands import commands_page
from reference.devices import devices_page
from reference.measures import measures_page
from reference.python import python_page
from reference.recipe import recipe_page
from reference.steps import steps_page
from yolodeploy.backend import load_registry


def generated_pages() -> dict[str, str]:
    """The Markdown of each generated page, by its path in the site."""
    registry = load_registry()
    return {
        "reference/commands.md": commands_page(),
        "reference/recipe.md": recipe_page(registry),
        "reference/steps.md": steps_page(registry),
        "reference/devices.md": devices_page(registry),
        "reference/measures.md": measures_page(),
        "reference/python.md": python_page(),
    }
