"""The command `paredown`.

Commands import what they need when they run, so that help and mistakes are immediate.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
