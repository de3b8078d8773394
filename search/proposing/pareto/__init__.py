"""The sampler `pareto`: exact joint costs, quality learned from predicted damages, expected gain.

An Optuna sampler that works by itself on any discrete space; `pareto_sampler` makes that of a search.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
