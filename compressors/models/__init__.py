"""A whole candidate: solutions put together, layers solved again for the inputs they really get.

From a blueprint and a database to a `CompressedModel`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
