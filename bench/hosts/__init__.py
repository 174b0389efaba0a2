"""Measuring elsewhere, and many recipes at once."""
