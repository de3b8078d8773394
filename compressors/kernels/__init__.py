"""The kernels that ONNX Runtime gives a file, held against those that it must get.

A file says what is computed; what runs is seen in the runtime's optimised graph alone.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
