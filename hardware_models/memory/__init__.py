"""Memory of activations and of weights, as the runtime plans and holds them.

Peak memory by lifetimes of buffers; weights as loaded.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
