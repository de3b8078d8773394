"""Zeros in a matrix of weights, channels that go entirely, and zeros and codes found together.

Optimal Brain Surgeon in its exact, blockwise and sequential forms.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
