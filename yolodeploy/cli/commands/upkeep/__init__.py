"""The commands that look after the machine, the store and the editor."""
