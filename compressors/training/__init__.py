"""Training of compressed models: `Recover` and what it is made of, and how its results are kept.

A trainer (`Trainer`) gets a compressed model, rows (`TrainingData`) and a budget. It changes values and
scales and nothing of the structure, so that the trained model is scored, priced, exported and verified as
the assembled one would be; `trained` checks that. `Recover` is paredown's own: a `Trainable` view of the
model, in which a quantiser of the room `quantizers` finds the codes of each weight at every step, learns
from the uncompressed network's answers. Results are kept by content in `TrainedModels`, trainings under
way in a `CheckpointFile`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
