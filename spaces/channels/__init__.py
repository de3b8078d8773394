"""How channels flow through operators: which of them are tied, and in what layout values hold them.

The rules know operators alone; `structure` reads a network with them and proves what they find.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
