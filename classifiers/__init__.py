"""Stage 2: vectors to a leaderboard. Swappable heads, folds that keep speakers apart, scores with intervals.

What `ser compare` does, from Python:

    from classifiers import Task, compare, head, leaderboard

    task = Task.load("ravdess", encoder="wav2vec2-base", view="layers")        # X (1440, 13 * 768), y, speakers
    predictions = compare(task, heads=["mlp", "svm", "layer_weighted"], protocol="official")
    leaderboard(predictions)                                                    # rows as in leaderboard.csv

    with sklearn.config_context(enable_metadata_routing=True):                  # heads are told the speakers, too
        cross_validate(head("svm"), task.X, task.y, params={"groups": task.speakers}, cv=LeaveOneGroupOut())
"""

from . import heads
from .compare import compare
from .head import Head
from .heads import head
from .leaderboard import Row, leaderboard
from .persist import Card, load_model, save_model
from .predict import Prediction, Predictor
from .predictions import Predictions, load_predictions, save_predictions
from .protocol import PROTOCOLS, Fold, make_folds
from .sounds import Windows
from .task import Task

__all__ = [
    "PROTOCOLS",
    "Card",
    "Fold",
    "Head",
    "Prediction",
    "Predictions",
    "Predictor",
    "Row",
    "Task",
    "Windows",
    "compare",
    "head",
    "heads",
    "leaderboard",
    "load_model",
    "load_predictions",
    "make_folds",
    "save_model",
    "save_predictions",
]
