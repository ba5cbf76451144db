"""Contiguous rows: which tokens a lane reads, in which direction, at which step."""

import itertools

import numpy as np
import pytest

from input_pipeline.contiguous import ContiguousOrder, ContiguousRows, share_lanes
from input_pipeline.errors import DataError
from input_pipeline.packing import ChainedRows, FixedRows
from input_pipeline.pipeline import eval_batches, train_batches


class Store:
    """Token i is i."""

    def __init__(self, size):
        self.tokens = np.arange(size, dtype=np.uint16)
        self.folder = type("Folder", (), {"name": "numbers"})


def make(size=40, start=0, stop=None, length=6, stride=4, lanes=4, both=True, seed=None):
    stop = size if stop is None else stop
    return ContiguousRows(Store(size), start, stop, length, stride, lanes, both, seed)


def row(rows, index, epoch=0):
    return rows.row(epoch, index, np.random.default_rng(0))


def test_golden():
    """Two parts of ten tokens, [10, 20) and [20, 30); each is read in both directions."""
    rows = make(size=40, start=10, stop=30)
    assert len(rows) == 8  # two turns: a window of 6 at 0 and at 4
    expected = [
        [10, 11, 12, 13, 14, 15], [20, 21, 22, 23, 24, 25],
        [19, 18, 17, 16, 15, 14], [29, 28, 27, 26, 25, 24],
        [14, 15, 16, 17, 18, 19], [24, 25, 26, 27, 28, 29],
        [15, 14, 13, 12, 11, 10], [25, 24, 23, 22, 21, 20],
    ]  # fmt: skip
    found = [row(rows, index) for index in range(8)]
    assert [r["tokens"].tolist() for r in found] == expected
    assert [int(r["backward"]) for r in found] == [0, 0, 1, 1] * 2
    assert [int(r["continues"]) for r in found] == [0] * 4 + [1] * 4
    for r in found:
        first, second = r["elsewhere"].tolist()
        assert second - first == (-1 if r["backward"] else 1)
        assert 10 <= min(first, second) <= max(first, second) < 30
    assert all(value.dtype == np.int32 for value in found[0].values())


def test_rows_that_do_not_overlap_have_text_from_elsewhere():
    assert len(row(make(length=6, stride=6), 1)["elsewhere"]) == 6


def test_forward_only_and_short_parts():
    rows = make(size=12, lanes=3, both=False)
    assert len(rows) == 3
    assert [row(rows, i)["tokens"].tolist() for i in range(3)] == [
        [0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11],
    ]  # fmt: skip
    with pytest.raises(DataError, match="'numbers' has 5 tokens here, too few for a batch of 4"):
        make(size=5, lanes=4, both=False)


def test_each_epoch_has_a_phase_and_lanes_stay_contiguous():
    rows = make(size=103, seed=5)  # parts of 51
    turns = len(rows) // 4
    firsts = set()
    for epoch in range(20):
        for lane in range(4):
            found = [row(rows, turn * 4 + lane, epoch)["tokens"] for turn in range(turns)]
            assert all(len(tokens) == 6 for tokens in found)
            for before, after in itertools.pairwise(found):
                assert before[4:].tolist() == after[:2].tolist()
        firsts.add(int(row(rows, 0, epoch)["tokens"][0]))
    assert len(firsts) > 3


def keep(example, rng):
    size = np.zeros(6, np.int32)
    size[: len(example["tokens"])] = example["tokens"]
    extra = {key: example[key] for key in ("backward", "continues")}
    return {"tokens": size, "noise": rng.integers(1 << 30, size=1), **extra}


def batches(rows, start=0, steps=60, index=0, count=1, ahead=2):
    lanes = sum(source.lanes for source in rows)
    iterator = train_batches(
        rows, [1.0] * len(rows), keep, batch_size=lanes, seed=3, start_step=start, num_steps=steps,
        process_index=index, process_count=count, prefetch=ahead,
    )  # fmt: skip
    return list(iterator)


def test_row_b_continues_row_b_and_restart_and_processes_change_nothing():
    sources = [make(size=103, seed=5), make(size=200, lanes=2, seed=6)]  # of 11 and 23 turns
    whole = batches(sources)
    for before, after in itertools.pairwise(whole):
        same = before["tokens"][:, 4:] == after["tokens"][:, :2]
        np.testing.assert_array_equal(same.all(1), after["continues"] > 0)
    new = np.stack([batch["continues"] == 0 for batch in whole])  # [steps, lanes]
    turns = [len(source) // source.lanes for source in sources]
    for lanes, every in ((slice(0, 4), turns[0]), (slice(4, 6), turns[1])):
        np.testing.assert_array_equal(new[:, lanes].any(1), np.arange(60) % every == 0)
        np.testing.assert_array_equal(new[:, lanes].all(1), new[:, lanes].any(1))
    for number, batch in enumerate(batches(sources, start=17, ahead=0), 17):
        for key, value in batch.items():
            np.testing.assert_array_equal(value, whole[number][key])
    halves = [batches(sources, steps=5, index=i, count=2) for i in range(2)]
    for step in range(5):
        both = np.concatenate([half[step]["noise"] for half in halves])
        np.testing.assert_array_equal(both, whole[step]["noise"])


def test_fixed_lanes_repeat_and_stay_contiguous():
    turns = len(make(size=103, seed=5)) // 4
    whole = batches([FixedRows(make(size=103, seed=5), 2)], steps=4 * turns)
    for step, batch in enumerate(whole[: 2 * turns]):
        for key, value in batch.items():
            np.testing.assert_array_equal(value, whole[step + 2 * turns][key])
    assert not np.array_equal(whole[0]["tokens"], whole[turns]["tokens"])
    np.testing.assert_array_equal(whole[0]["tokens"][:, 4:], whole[1]["tokens"][:, :2])


def test_far_steps_cost_nothing():
    order = ContiguousOrder([make(seed=1, size=103)])
    turns = len(make(seed=1, size=103)) // 4
    assert order[4 * 10**12 + 1] == (0, 10**12 // turns, 10**12 % turns * 4 + 1)


def test_evaluation_goes_lane_by_lane():
    rows = ChainedRows([make(size=40), make(size=60)])
    for source, limit in ((make(size=60), 0), (make(size=60), 6), (rows, 0)):
        found = list(
            eval_batches(
                source, keep, batch_size=4, seed=0, max_rows=limit, process_index=0,
                process_count=1,
            )
        )  # fmt: skip
        assert len(found) == -(-(limit or len(source)) // 4)
        for before, after in itertools.pairwise(found):
            goes_on = after["continues"] > 0
            same = (before["tokens"][:, 4:] == after["tokens"][:, :2]).all(1)
            np.testing.assert_array_equal(same[goes_on], True)
        assert sum(int(batch["continues"].sum()) for batch in found) > 0


def test_lanes_are_shared_by_weight():
    assert share_lanes([0.5, 0.25, 0.25], 8) == [4, 2, 2]
    assert share_lanes([1.0, 0.0], 4) == [4, 0]
    assert share_lanes([1.0, 0.0, 1e-9], 2) == [1, 0, 1]
    assert sum(share_lanes([3, 5, 7], 32)) == 32
    with pytest.raises(DataError, match="a batch of 2 contiguous rows cannot hold 3 sources"):
        share_lanes([1, 1, 1], 2)
