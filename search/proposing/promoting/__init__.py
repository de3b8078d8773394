"""Which scored candidates go further, to more rows or into training, and what of each is believed.

Scores on few rows are off by luck; they are weighed with what the candidates' damages predict.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
