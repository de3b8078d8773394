"""Model, data, metric and loss: built-in ones and the user's own, as one record.

Also what is kept of them between searches.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
