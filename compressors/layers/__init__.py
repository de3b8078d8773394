"""One layer under one choice: the methods by name, their solutions, and the database of them.

Here a choice (bits, zeros, rank, method) becomes tensors.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
