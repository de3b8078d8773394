from .belief import believed_values as believed_values
from .belief import quality_models as quality_models
from .promotion import Promotion as Promotion
from .promotion import leading as leading
from .rivals import rivals_among as rivals_among
from .rivals import unbeaten as unbeaten
