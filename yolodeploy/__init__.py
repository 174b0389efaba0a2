"""yolodeploy: from a YAML recipe to a proven, reproducible YOLO artifact for a device."""

__version__ = "0.1.0"
