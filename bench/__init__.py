"""Benchmarks: side by side with what a user would run instead. See README.md in this folder."""
