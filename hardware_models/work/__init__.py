"""What a device must do for a candidate: one frozen record for each operator that costs something.

Cost models read this, never a model.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
