"""When a search stops, and who is told of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from certify.engines.contract import Progress
from certify.engines.region.search import Search

Stop = Callable[[bool], bool]
"""stop(True): there is a result, which splitting on makes better; True asks for it as it is. stop(False): splitting is over."""


INTERRUPTED = "interrupted"


def never(listening: bool) -> bool:
    """Nobody asks to stop."""
    return False


@dataclass(frozen=True, slots=True)
class Limits:
    """seconds: from when on no round is begun. boxes: how many are asked about at most, None for any number. stop: asked between rounds."""

    seconds: float = 60.0
    boxes: int | None = None
    stop: Stop = never
    started: float = field(default_factory=time.monotonic)

    def share(self, part: float) -> Limits:
        """The same, with this share of the time that is left."""
        left = max(0.0, self.seconds - (time.monotonic() - self.started))
        return Limits(part * left, self.boxes, self.stop)

    def search(self, search: Search, progress: Progress | None, state: Callable[[], str]) -> str:
        """Search until there is nothing to gain or a limit is met; says which."""
        try:
            return self._search(search, progress, state)
        finally:
            self.stop(False)

    def _search(self, search: Search, progress: Progress | None, state: Callable[[], str]) -> str:
        for count in search.rounds():
            elapsed = time.monotonic() - self.started
            asked = self.stop(True)  # before anyone is told that there is a result to ask for
            if progress is not None:
                progress(f"{state()}, {count:,} sub-boxes", min(1.0, elapsed / max(self.seconds, 1e-9)))
            if asked:
                return INTERRUPTED
            if self.boxes is not None and count >= self.boxes:
                return "limit of sub-boxes"
            if elapsed + 0.5 * elapsed * search.upcoming() / search.asked > self.seconds:
                return "time limit"
        return search.ended
