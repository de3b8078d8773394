"""The YAML file of a search: its schema, reading it, and mistakes with path, rule, value and remedy.

Imports nothing heavy: a typo is reported before torch is loaded.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
