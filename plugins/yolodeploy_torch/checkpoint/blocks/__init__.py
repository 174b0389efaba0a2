"""The lowerings: how each class of block computes, in primitives.

A file lists its lowerings in `LOWERINGS`, by the name of the class. What each block computes was found by running it
and watching its results, see docs/decisions/004-no-ultralytics-at-run-time.md.
"""
