"""Keeps glibc from giving memory back to the system after every training step.

XLA:CPU allocates a step's temporaries anew each time. glibc hands blocks of that size out as fresh
mappings and unmaps them afterwards, so every step faults in tens of thousands of zeroed pages: a
third of a small BERT's step (docs/performance.md). With one arena that is never mapped and not
trimmed the pages stay. Peak memory is the same; between peaks it does not shrink.
"""

import ctypes

# From malloc.h; the values are C ints.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_LARGEST = 2**31 - 1


def keep_heap() -> None:
    """Sets malloc's options for this process; nothing happens where it is not glibc's.

    Call it before JAX starts its threads: each could get an arena of its own, which is mapped.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library, another system
        return
    for option, value in ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, _LARGEST)):
        mallopt(option, value)
