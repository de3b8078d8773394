"""Every decision of a search: a class for each kind of knob, and the space that the knobs span.

A new kind of knob is one file here, beside the others, and one entry in the rules of `search/space`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
