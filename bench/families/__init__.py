"""Models of every family and task, and of other projects."""
