"""A latency model for a space: networks drawn, timed here or elsewhere, fitted, held out.

One pipeline for `search` and `paredown calibrate`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
