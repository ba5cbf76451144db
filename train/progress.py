"""The terminal: a live bar where there is one, a line now and then where there is not."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_SECONDS = 10  # between lines when the output is no terminal


class Bar:
    """Steps, loss, tokens/s and time left of one run."""

    def __init__(self, title: str, start: int, total: int, enabled: bool) -> None:
        """`enabled` False shows nothing."""
        self._console = Console(file=sys.stderr)
        self._enabled, self._title, self._total = enabled, title, total
        self._last = 0.0
        self._progress: Any = None
        if enabled and self._console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[text]}"),
                TimeElapsedColumn(),
                TextColumn("ETA"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._progress.add_task(title, total=total, completed=start, text="")
            self._progress.start()

    def update(self, step: int, values: dict[str, float]) -> None:
        """Shows the state after `step` from the values of the last logging interval."""
        rate = values["train/tokens_per_second"]
        text = f"loss {values['train/loss']:.4f}  {rate:,.0f} tokens/s"
        if self._progress:
            self._progress.update(self._task, completed=step, text=text)
        elif self._enabled and (
            time.monotonic() - self._last > PLAIN_SECONDS or step == self._total
        ):
            self._last = time.monotonic()
            left = (self._total - step) * values["train/seconds_per_step"]
            print(f"{self._title}  {step}/{self._total}  {text}  ETA {left:.0f} s", file=sys.stderr)

    def say(self, sentence: str) -> None:
        """A line above the bar."""
        if self._progress:
            self._progress.console.print(sentence, highlight=False, markup=False)
        elif self._enabled:
            print(sentence, file=sys.stderr)

    def close(self) -> None:
        """Ends the bar."""
        if self._progress:
            self._progress.stop()
