"""A compressed model as an ONNX file: planned, lowered operator by operator, its kernels checked.

What ONNX Runtime reads and how it runs it. Bytes are known before the file exists.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
