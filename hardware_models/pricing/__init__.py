"""All costs of a candidate together, one by one or for a whole population at once.

The search asks here and nowhere else what something costs.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
