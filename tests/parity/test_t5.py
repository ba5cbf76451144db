"""T5's buckets of distances against transformers; all else is in the certificate."""

import numpy as np
import pytest

from model.t5_layers import bucket_of

pytestmark = pytest.mark.parity


@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (8, 11), (10, 50), (64, 300)])
def test_buckets(buckets, distance):
    import torch
    from transformers.models.t5.modeling_t5 import T5Attention

    back = np.arange(-400, 401)
    for both_ways in (False, True):
        size = buckets // 2 if both_ways else buckets
        found = bucket_of(np.abs(back) if both_ways else np.maximum(back, 0), size, distance)
        found = found + size * (both_ways & (back < 0))
        expected = T5Attention._relative_position_bucket(
            torch.tensor(-back), both_ways, buckets, distance
        )
        np.testing.assert_array_equal(found, expected)
