from .checkpoint import CheckpointCard as CheckpointCard
from .checkpoint import Finetuned as Finetuned
from .settings import FinetuneSettings as FinetuneSettings
from .training import train as train
