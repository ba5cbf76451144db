"""Sampling against transformers; greedy and beam search are rows of the certificate."""

import numpy as np
import pytest

from model.logits import penalise
from model.sampling import Sampling, narrow

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]


def test_draws_are_from_the_same_tokens():
    torch = pytest.importorskip("torch")
    process = pytest.importorskip("transformers.generation.logits_process")
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (50, 37)).astype(np.float32)
    text = rng.integers(0, 37, (50, 12))
    seen = np.zeros((50, 37), bool)
    np.put_along_axis(seen, text, True, axis=1)
    for sampling in (Sampling(0.7, 5), Sampling(1.3, 0, 0.8), Sampling(0.9, 9, 0.6, 1.3)):
        chain = [
            process.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty),
            process.TemperatureLogitsWarper(sampling.temperature),
            process.TopKLogitsWarper(sampling.top_k or 37),
            process.TopPLogitsWarper(sampling.top_p),
        ]
        expected = torch.tensor(logits)
        for step in chain:
            expected = step(torch.tensor(text), expected)
        found = narrow(penalise(logits, seen, sampling.repetition_penalty), sampling)
        np.testing.assert_allclose(np.asarray(found), expected.numpy(), rtol=1e-6)
        assert np.isinf(expected.numpy()).any()
