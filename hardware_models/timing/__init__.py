"""Networks timed on this machine, and what may spoil a measurement.

Needs ONNX Runtime; nothing here predicts.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
