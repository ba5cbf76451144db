"""How often each task of a mixture is read (Raffel et al. 2020, section 3.5.2)."""

from collections.abc import Sequence

from input_pipeline.errors import DataError


def mixture_rates(sizes: Sequence[int], cap: int = 0, temperature: float = 1.0) -> list[float]:
    """Give the rate of each task from the tasks' sizes; they add up to 1.

    Args:
        sizes: examples of each task.
        cap: no task counts for more than so many (the paper's K); 0 for no limit.
        temperature: T: rates are proportional to min(size, cap)^(1/T). 1 is proportional mixing,
            a large T nearly equal mixing.

    Raises:
        DataError: a negative cap, or a temperature that is not positive.
    """
    if cap < 0 or temperature <= 0:
        raise DataError(
            f"--config.data.mixture_cap={cap} must not be negative (0: no limit), and"
            f" --config.data.mixture_temperature={temperature} must be positive"
        )
    counts = [min(size, cap) if cap else size for size in sizes]
    # Against the largest, so that a small temperature cannot overflow.
    shares = [(count / max(counts)) ** (1 / temperature) for count in counts]
    return [share / sum(shares) for share in shares]
