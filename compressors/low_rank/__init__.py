"""Layers as chains of thinner ones, and the ranks that keep a given error.

Factors are found in the space whitened by the inputs.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
