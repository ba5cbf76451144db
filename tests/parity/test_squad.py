"""SQuAD's exact match and F1 against those of torchmetrics, answer by answer."""

import numpy as np
import pytest

from train import squad

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
WORDS = ["the", "a", "an", "cat", "Cat.", "dog's", "U.S.", "in", "1949", "-", "x-y", "éa", ""]


def test_metrics_are_theirs():
    from torchmetrics.functional.text import squad as theirs

    rng, hits = np.random.default_rng(0), 0
    for _ in range(1000):
        found, *wanted = (" ".join(rng.choice(WORDS, rng.integers(1, 5))) for _ in range(3))
        if not all(map(squad.normalize, wanted)):
            continue  # such references are not looked at here (the published script of 2.0)
        line = {"prediction": found, "answers": wanted}
        ours = squad.scores([line], False)
        published = theirs(
            {"prediction_text": found, "id": "0"},
            {"answers": {"text": wanted, "answer_start": [0] * 2}, "id": "0"},
        )
        assert 100 * ours["exact_match"] == pytest.approx(float(published["exact_match"]))
        assert 100 * ours["f1"] == pytest.approx(float(published["f1"]), abs=1e-4)
        hits += ours["f1"] > 0
    assert 200 < hits < 900
