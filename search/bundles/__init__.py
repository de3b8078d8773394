"""An evaluated candidate exported with its card, reopened and held against it.

What a card promises and how each promise is checked.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
