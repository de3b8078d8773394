"""Why the models of a front are as they are: what each of their decisions bought, and what it cost.

Costs are exact, quality is what the surrogate attributes to a decision by the scores of the first rung.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
