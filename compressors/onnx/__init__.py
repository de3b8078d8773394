"""A compressed model as an ONNX file: planned, and lowered operator by operator.

What ONNX Runtime reads. Bytes are known before the file exists.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
