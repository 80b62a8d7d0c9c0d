"""Progress on standard error, from the first second on."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Any

DELAY = 1.0


class Progress:
    """A `certify.request.Progress`: silent for a second, then a bar on a terminal, or one line a stage elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._lock = threading.Lock()
        self._stage = "reading the model"
        self._fraction: float | None = None
        self._shown: str | None = None
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
            if self._visible:
                self._show()

    def _appear(self) -> None:
        with self._lock:
            self._visible = True
            if sys.stderr.isatty():
                from rich.console import Console
                from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
                from rich.progress import Progress as Bar

                columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
                self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
                self._bar.add_task(self._stage, total=None)
                self._bar.start()
            self._show()

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.update(0, description=self._stage, total=None if self._fraction is None else 1.0, completed=self._fraction or 0.0)
        elif (stage := self._stage.split(":")[0]) != self._shown:  # what follows a colon changes all the time
            sys.stderr.write(f"{stage} ...\n")
            self._shown = stage
