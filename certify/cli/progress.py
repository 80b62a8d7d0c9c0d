"""Progress on standard error, from the first second on: the stage, what share of it is done, and how long it will still take."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

DELAY = 1.0
AGAIN = 60.0  # seconds after which a line of the same stage is written again, where there is no terminal


class Remaining:
    """How long a stage will still take, if it goes on as it did since it was first heard of, or since it began anew.

    What other stages took meanwhile counts: cases go through the same stages one after another.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begun: dict[str, tuple[float, float]] = {}
        self._last: dict[str, float] = {}

    def __call__(self, stage: str, fraction: float | None) -> float | None:
        """Seconds; None while nothing can be said."""
        if fraction is None:
            return None
        now = self._clock()
        if stage not in self._begun or fraction < self._last[stage]:
            self._begun[stage] = now, fraction
        self._last[stage] = fraction
        start, before = self._begun[stage]
        if now - start < DELAY or fraction <= before:
            return None
        return (now - start) * (1.0 - fraction) / (fraction - before)


def spoken(seconds: float) -> str:
    """A duration for people."""
    if seconds < 59.5:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60.0)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class Progress:
    """A `certify.request.Progress`: silent for a second, then a bar on a terminal, or a line a stage, and one a minute, elsewhere."""

    def __init__(self, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet = quiet
        self._clock = clock
        self._remaining = Remaining(clock)
        self._lock = threading.Lock()
        self._stage = "reading the model"
        self._fraction: float | None = None
        self._left: float | None = None
        self._shown: tuple[str, float] | None = None
        self._bar: Any = None
        self._visible = False
        self._timer = threading.Timer(DELAY, self._appear)
        self._timer.daemon = True

    def __enter__(self) -> Progress:
        if not self._quiet:
            self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._timer.cancel()
        with self._lock:
            self._visible = False
            if self._bar is not None:
                self._bar.stop()

    def __call__(self, stage: str, fraction: float | None) -> None:
        """Note the stage under way and the fraction of it that is done."""
        with self._lock:
            self._stage, self._fraction = stage, fraction
            self._left = self._remaining(_named(stage), fraction)
            if self._visible:
                self._show()

    def _appear(self) -> None:
        with self._lock:
            self._visible = True
            if sys.stderr.isatty():
                from rich.console import Console
                from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
                from rich.progress import Progress as Bar

                columns = (
                    SpinnerColumn(),
                    TextColumn("{task.description}"),
                    BarColumn(),
                    TimeElapsedColumn(),
                    TextColumn("{task.fields[far]}"),
                )
                self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
                self._bar.add_task(self._stage, total=None, far="")
                self._bar.start()
            self._show()

    def _show(self) -> None:
        if self._bar is not None:
            total = None if self._fraction is None else 1.0
            self._bar.update(0, description=self._stage, total=total, completed=self._fraction or 0.0, far=self._far())
            return
        stage, now = _named(self._stage), self._clock()
        if self._shown is None or stage != self._shown[0] or now - self._shown[1] >= AGAIN:
            sys.stderr.write(f"{stage} ...{' ' if self._far() else ''}{self._far()}\n")
            self._shown = stage, now

    def _far(self) -> str:
        """The share that is done, and the time that is left."""
        if self._left is None or self._fraction is None:
            return ""
        return f"{100.0 * self._fraction:.0f} %, about {spoken(self._left)} left"


def _named(stage: str) -> str:
    return stage.split(":")[0]  # what follows a colon changes all the time
