"""Energy of an inference: ratios from a table, joules where there is a meter.

A ranking from the table; nothing is called joules that was not metered.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
