"""What is done to the scores of the next token, whether it is drawn or searched for.

Legend: B rows, V vocabulary, K stop tokens.
"""

import jax
import jax.numpy as jnp

from model.errors import ModelError


def check_penalty(penalty: float) -> None:
    """ModelError unless it is a repetition penalty."""
    if not penalty > 0:
        raise ModelError(f"The repetition penalty is {penalty}; it must be above 0 (1: none).")


def penalise(scores_BV: jax.Array, seen_BV: jax.Array | None, penalty: float) -> jax.Array:
    """Makes tokens that were seen less likely (Keskar et al. 2019, section 4.1).

    Their positive scores are divided by the penalty and their negative ones multiplied: the paper
    divides both, which would make a token of negative score more likely. None seen: as they were.
    """
    if seen_BV is None:
        return scores_BV
    lower_BV = jnp.where(scores_BV > 0, scores_BV / penalty, scores_BV * penalty)
    return jnp.where(seen_BV, lower_BV, scores_BV)


def forbid(scores_BV: jax.Array, stop_K: jax.Array, where_B: jax.Array) -> jax.Array:
    """Takes the stop tokens out of the rows where [B] is true."""
    stops_BK = scores_BV[:, stop_K]
    return scores_BV.at[:, stop_K].set(jnp.where(where_B[:, None], -jnp.inf, stops_BK))


def mark(seen_BV: jax.Array | None, token_B: jax.Array) -> jax.Array | None:
    """What was seen, with one more token in each row."""
    return None if seen_BV is None else seen_BV.at[jnp.arange(len(token_B)), token_B].set(True)
