"""A layer's weight as a matrix, and errors measured by the Gram matrix of its inputs.

Algebra that every solver shares.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
