"""Codes for a matrix of weights: to the nearest, with errors compensated, by descent, learned.

Each solver takes a matrix, a Gram matrix and bits, and returns `Codes`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
