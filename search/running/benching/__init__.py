"""The ablation of a search: samplers and restrictions of its space against each other, at equal budgets.

Every candidate is evaluated once, whoever asks for it; how the arms compare is volume over evaluations.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
