"""Everything that shows a search to people: tables, pictures, pages, the live panel.

Text, colours and units are decided here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
