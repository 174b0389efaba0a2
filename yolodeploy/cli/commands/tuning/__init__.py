"""Commands that look for what to change in a recipe."""
