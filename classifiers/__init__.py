"""Stage 2: train heads on stored embeddings and rank them on a leaderboard.

Heads are swappable scikit-learn classifiers. Folds are by speaker unless you choose otherwise. Scores have intervals.

What `ser compare` does, from Python:

    from classifiers import Task, compare, head, leaderboard

    task = Task.load("ravdess", encoder="wav2vec2-base", view="layers")        # X (1440, 13 * 768), y, speakers
    predictions = compare(task, heads=["mlp", "svm", "layer_weighted"], protocol="official")
    leaderboard(predictions)                                                    # the rows of leaderboard.csv

    with sklearn.config_context(enable_metadata_routing=True):                  # passes the speakers to the head
        cross_validate(head("svm"), task.X, task.y, params={"groups": task.speakers}, cv=LeaveOneGroupOut())
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
