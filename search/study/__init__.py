"""What came of candidates: evaluations, their journal, the front, and picking from it.

Everything that is read back from a run's folder; nothing of the model is loaded.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
