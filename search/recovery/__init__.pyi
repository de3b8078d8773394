from .augmenting import AUGMENTATIONS as AUGMENTATIONS
from .configured import configured_recovery as configured_recovery
from .recovery import Recovery as Recovery
from .recovery import TrainingRung as TrainingRung
from .training_rows import TrainingRows as TrainingRows
