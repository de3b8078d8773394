"""The rules of a config made into knobs for the networks and device at hand.

Each file decides which values of one kind of knob are worth a choice, and says why others are not.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
