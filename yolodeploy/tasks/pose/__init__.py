"""Pose estimation: from raw outputs to keypoints of the original image, and how well they fit the labels."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
