"""One search from its config to its verified front: loop, engines, ledger, finish.

The only room that knows the order of things.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
