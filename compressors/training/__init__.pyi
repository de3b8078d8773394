from .kept import TrainedModels as TrainedModels
from .trainer import Batch as Batch
from .trainer import Budget as Budget
from .trainer import Trainer as Trainer
from .trainer import TrainingData as TrainingData
from .trainer import TrainingError as TrainingError
from .trainer import trained as trained
