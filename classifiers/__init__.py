"""Stage 2: vectors to a leaderboard. Swappable heads, folds that keep speakers apart, scores with intervals.

What `ser compare` does, from Python:

    from classifiers import Task, compare, head, leaderboard

    task = Task.load("ravdess", encoder="wav2vec2-base", view="layers")        # X (1440, 13 * 768), y, speakers
    predictions = compare(task, heads=["mlp", "svm", "layer_weighted"], protocol="official")
    leaderboard(predictions)                                                    # rows as in leaderboard.csv

    with sklearn.config_context(enable_metadata_routing=True):                  # heads are told the speakers, too
        cross_validate(head("svm"), task.X, task.y, params={"groups": task.speakers}, cv=LeaveOneGroupOut())
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
