"""The commands: one file each, with its options."""
