"""What comes out of a search: its table, its page, and the recipes of its front."""
