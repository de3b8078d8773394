"""A bundle on disk: written whole, read back without training code.

The folder that is handed on: ONNX, packed weights, graph and card.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
