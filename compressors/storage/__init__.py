"""How compressed tensors are kept: codes and scales, packed to the bit, in memory and on disk.

Forms of storage and the files they lie in; what is stored is found elsewhere.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
