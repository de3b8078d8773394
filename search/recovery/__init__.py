"""Recovery: what the candidates of a search are trained on, for how long, and where results are kept.

The training itself is the room `compressors/training`; this one adapts the task's training split to it, and
the section `recovery` of the config.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
