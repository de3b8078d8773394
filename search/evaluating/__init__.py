"""A config made ready to score candidates: surveyed, prepared, priced, scored.

The workbench holds everything read and measured before a search starts.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
