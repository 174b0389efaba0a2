"""yolodeploy: from a YAML recipe to a proven, reproducible YOLO artifact for a device.

    import yolodeploy as yd

    plan = yd.plan("recipes/ios.yaml")
    result = yd.deploy(plan)
    result.measures

`yolodeploy.errors` has what calls raise. Nothing heavy is imported before it is needed. See docs/python.md.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
