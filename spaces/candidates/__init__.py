"""What is chosen for a network, and the structure that a candidate makes of it.

No tensor is touched here: a blueprint has shapes, bits and names only, so a candidate is priced before it
exists.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
