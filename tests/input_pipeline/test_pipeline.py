"""Order, mixture, slicing and restart: a batch is a function of (seed, step) and nothing else."""

import itertools
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from input_pipeline import pipeline
from input_pipeline.errors import DataError
from input_pipeline.packing import FixedRows
from input_pipeline.pipeline import eval_batches, mixture, train_batches


class Numbers:
    """Row i of epoch e is [name, e, i]."""

    def __init__(self, size: int, name: int = 0):
        self.size, self.name = size, name

    def __len__(self) -> int:
        return self.size

    def row(self, epoch, index, rng):
        return {"row": np.array([self.name, epoch, index])}


def with_noise(row, rng):
    return {**row, "noise": rng.integers(1 << 30, size=2)}


def batches(rows, weights=(1.0,), *, size=8, seed=3, start=0, steps=10, index=0, count=1, ahead=4):
    iterator = train_batches(
        rows, weights, with_noise, batch_size=size, seed=seed, start_step=start, num_steps=steps,
        process_index=index, process_count=count, prefetch=ahead,
    )  # fmt: skip
    return [np.concatenate([b["row"], b["noise"]], axis=1).tolist() for b in iterator]


@pytest.mark.parametrize("size", [1, 7, 64, 70_001])
def test_every_epoch_is_a_permutation(size, monkeypatch):
    monkeypatch.setattr(pipeline, "_SMALL", 1000)  # the largest goes the way of large sources
    order = mixture([Numbers(size)], [1.0], seed=5)
    epochs = [[order[g] for g in range(e * size, (e + 1) * size)] for e in range(2)]
    for number, epoch in enumerate(epochs):
        assert {(source, e) for source, e, _ in epoch} == {(0, number)}
        assert sorted(index for _, _, index in epoch) == list(range(size))
    if size > 10:
        first, second = ([index for _, _, index in epoch] for epoch in epochs)
        assert first != second
        assert first != sorted(first)


def test_sources_have_orders_of_their_own():
    order = mixture([Numbers(64), Numbers(64, 1)], [0.5, 0.5], seed=5)
    drawn = [order[g] for g in range(128)]
    first, second = ([index for source, _, index in drawn if source == n] for n in (0, 1))
    assert sorted(first) == sorted(second) != first
    assert first != second


def test_far_positions_cost_nothing():
    order = mixture([Numbers(10**7), Numbers(50, 1)], [0.5, 0.5], seed=5)
    far = [order[10**12 + g] for g in range(50)]
    assert sorted(index for source, _, index in far if source == 1) != []
    assert {epoch for source, epoch, _ in far if source == 0} == {10**12 // 2 // 10**7}


def test_global_batch_does_not_depend_on_processes():
    rows, weights = [Numbers(30), Numbers(11, 1)], (0.7, 0.3)
    whole = batches(rows, weights)
    for count in (2, 4):
        parts = [batches(rows, weights, index=i, count=count) for i in range(count)]
        joined = [list(itertools.chain(*step)) for step in zip(*parts, strict=True)]
        assert joined == whole


def test_start_step_is_where_iterating_gets():
    rows, weights = [Numbers(30), Numbers(100_000, 1)], (0.7, 0.3)
    whole = batches(rows, weights)
    for start in (0, 1, 9, 10):
        assert batches(rows, weights, start=start) == whole[start:]
    assert batches(rows, weights, ahead=0) == whole


def test_seed_and_epoch_change_order_and_noise():
    rows = [Numbers(8)]
    first = batches(rows)
    assert batches(rows, seed=4) != first
    noise = [tuple(row[3:]) for step in first for row in step]
    assert len(set(noise)) == len(noise)  # the same row draws anew in the next epoch


def test_fixed_rows_are_drawn_once_for_each_copy():
    """Static masking: ten epochs of eight rows, of which there are three drawings of each."""
    rows = [FixedRows(Numbers(8), 3)]
    found = [row for step in batches(rows, steps=10) for row in step]
    drawn = {}
    for place, (_, copy, index, *noise) in enumerate(found):
        assert copy == place // 8 % 3  # epochs take the copies in turn, each in an order of its own
        drawn.setdefault((copy, index), []).append(tuple(noise))
    assert sorted(drawn) == [(copy, index) for copy in range(3) for index in range(8)]
    assert {len(draws) for draws in drawn.values()} == {3, 4}  # epochs 0, 3, 6, 9: copy 0
    assert all(len(set(draws)) == 1 for draws in drawn.values())
    assert len({draws[0] for draws in drawn.values()}) == 24
    orders = [[row[2] for row in found[8 * e : 8 * e + 8]] for e in (0, 3)]
    assert orders[0] != orders[1]
    assert batches(rows, start=7) == batches(rows)[7:]
    other = {tuple(row[3:]) for step in batches(rows, seed=4) for row in step}
    assert not other & {draws[0] for draws in drawn.values()}


def test_fixed_rows_of_two_sources_draw_apart():
    rows = [FixedRows(Numbers(8), 1), FixedRows(Numbers(8, 1), 1)]
    found = [row for step in batches(rows, (1, 1), steps=20) for row in step]
    draws = {(name, index): tuple(noise) for name, _, index, *noise in found}
    assert len(set(draws.values())) == len(draws) == 16


def test_fresh_process_gives_the_same_batches():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_pipeline import Numbers, batches\n"
        "print(batches([Numbers(30), Numbers(70_000, 1)], (0.7, 0.3), steps=4))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    here = batches([Numbers(30), Numbers(70_000, 1)], (0.7, 0.3), steps=4)
    assert run.stdout.strip() == str(here)


def test_mixture_rates():
    rows = [Numbers(10), Numbers(1000, 1), Numbers(10, 2)]
    drawn = Counter(row[0] for step in batches(rows, (6, 3, 1), steps=50) for row in step)
    assert [drawn[i] for i in range(3)] == pytest.approx([240, 120, 40], abs=2)
    # A source goes through its own epochs, whatever the others do.
    seen = [row[2] for step in batches(rows, (6, 3, 1), steps=50) for row in step if row[0] == 2]
    assert sorted(seen[:10]) == list(range(10))


def test_batch_must_divide():
    with pytest.raises(DataError, match="batch size 8 does not divide among 3 processes"):
        batches([Numbers(30)], count=3)


def test_exception_reaches_the_consumer_at_its_step():
    def features(row, rng):
        if row["row"][2] == 5:
            raise KeyError("row five")
        return row

    order = [index for _, _, index in (mixture([Numbers(8)], [1.0], 0)[g] for g in range(8))]
    iterator = train_batches(
        [Numbers(8)], [1.0], features, batch_size=1, seed=0, start_step=0, num_steps=8,
        process_index=0, process_count=1, prefetch=4,
    )  # fmt: skip
    good = order.index(5)
    assert [next(iterator)["row"][0][2] for _ in range(good)] == order[:good]
    with pytest.raises(KeyError, match="row five"):
        next(iterator)


def evaluate(size, *, max_rows=0, index=0, count=1, seed=0):
    iterator = eval_batches(
        Numbers(size, 1), with_noise, batch_size=4, seed=seed, max_rows=max_rows,
        process_index=index, process_count=count,
    )  # fmt: skip
    return [np.concatenate([b["row"], b["noise"]], axis=1).tolist() for b in iterator]


def test_evaluation_is_in_order_and_padded():
    found = evaluate(6)
    assert [[row[2] for row in batch] for batch in found] == [[0, 1, 2, 3], [4, 5, 0, 0]]
    assert found[1][2:] == [[0] * 5] * 2  # nothing but zeros, the name (1) included
    assert evaluate(6) == found  # the same masks each time
    assert evaluate(6, seed=1) != found


def test_evaluation_rows_are_spread_evenly():
    found = evaluate(100, max_rows=4)
    assert [[row[2] for row in batch] for batch in found] == [[0, 25, 50, 75]]
    whole = [row for batch in evaluate(100) for row in batch]
    assert found[0] == [whole[i] for i in (0, 25, 50, 75)]  # a row's masks are its own
    assert [row[2] for row in evaluate(100, max_rows=3)[0]] == [0, 33, 66, 0]
    assert evaluate(100, max_rows=3)[0][3] == [0] * 5


def test_evaluation_draws_apart_from_training():
    trained = {tuple(row[3:]) for step in batches([Numbers(8)], seed=0) for row in step}
    assert not trained & {tuple(row[3:]) for batch in evaluate(8) for row in batch}


def test_evaluation_on_processes():
    whole = evaluate(5)
    parts = [evaluate(5, index=i, count=4) for i in range(4)]
    assert [list(itertools.chain(*step)) for step in zip(*parts, strict=True)] == whole
