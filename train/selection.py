"""Which evaluation of a run is the best one, and when to stop waiting for a better one."""

import math
from typing import Any

Best = dict[str, Any]  # "step", "metric", "value"


def new_best(rule: Any, values: dict[str, float], step: int, best: Best | None) -> Best | None:
    """The mark of the evaluation at `step` if it is the best so far, else None.

    Args:
      rule: ``config.evaluation``.
      values: the evaluation's metrics, by name.
      step: of the run.
      best: the mark of the best one until then; one of a later step, which was lost, does not
        count.
    """
    value, sign = values[rule.metric], 1 if rule.higher_is_better else -1
    if math.isnan(value):  # a metric that is not defined is no best
        return None
    same = best is not None and best["metric"] == rule.metric  # else it says nothing
    if same and best["step"] < step and sign * value <= sign * best["value"]:
        return None
    return {"step": step, "metric": rule.metric, "value": value}


def patience_is_over(rule: Any, step: int, best: Best | None) -> bool:
    """Whether the last ``config.evaluation.patience`` evaluations brought no new best.

    It follows from the step and the best one alone, so that a run that goes on decides alike.
    """
    if not rule.patience or best is None or step % rule.every:
        return False
    return (step - best["step"]) // rule.every >= rule.patience
