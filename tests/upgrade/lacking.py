"""What this Headrace names of River and River 0.25.0 does not have, put there at its start.

Nobody deploys these where they are absent. An environment with a `.pth` file that imports this runs
with that River (docs/upgrade.md).
"""

import river.base
import river.linear_model
import river.preprocessing

for module, name in (
    (river.base, "AnomalyDetector"),
    (river.base, "AnomalyFilter"),
    (river.base, "SupervisedAnomalyDetector"),
    (river.linear_model, "AdPredictor"),
    (river.preprocessing, "GapEncoder"),
):
    if not hasattr(module, name):
        setattr(module, name, type(name, (), {"__module__": module.__name__}))
