"""Targets: what a device and its runtime can do, read from data files with sources.

No code elsewhere knows a device by its name.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
