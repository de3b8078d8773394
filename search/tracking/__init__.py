"""A search in MLflow: runs, models, text, and the store they lie in.

Written by the driver alone, behind the search's back.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
