"""How long this process has spent on making programs: tracing, lowering and compiling them."""

import jax

# XLA's part holds the time to read a program from the persistent cache.
PARTS = ("jaxpr_trace_duration", "jaxpr_to_mlir_module_duration", "backend_compile_duration")
_seconds = dict.fromkeys((f"/jax/core/compile/{part}" for part in PARTS), 0.0)


def _add(event: str, duration: float, **_: object) -> None:
    if event in _seconds:
        _seconds[event] += duration


jax.monitoring.register_event_duration_secs_listener(_add)


def compile_seconds() -> float:
    """Seconds since this module was imported; a stretch of work is a difference of two calls."""
    return sum(_seconds.values())
