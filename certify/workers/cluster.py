"""A Dask cluster as crew. Its scheduler hands a unit out again when its worker dies.

The model travels with its files, as the result of a task: whoever needs it fetches it, and when the last worker that has it dies, the
scheduler has it made again. So nothing is lost with a worker, and nothing has to be readable but what was sent.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import tempfile
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np

from certify.errors import UsageError
from certify.version import built
from certify.workers import units
from certify.workers.crew import Died
from certify.workers.model import Model, Parcel

try:
    import dask
    import distributed
    from distributed.comm.core import CommClosedError
except ImportError as absent:
    raise UsageError("--scheduler: Dask is not installed; install onnx-certify[dask]") from absent

for name in ("client", "batched"):
    logging.getLogger(f"distributed.{name}").setLevel(logging.CRITICAL)  # what they would log is raised here

CONNECT = 5.0  # seconds in which the scheduler must answer
AHEAD = 512


ALIKE = f"certify {built()} with numpy {np.__version__}"
"""What workers must run: other sources may bound otherwise, and another numpy round otherwise."""
WORK = "__import__('importlib').import_module('certify.workers.cluster').work(alike, key, parcel, unit)"
"""By name, not pickled: a worker or a scheduler that cannot unpickle a task, since it has no certify or another one, falls silent."""


class Cluster:
    """The workers of the scheduler at an address, those that come and go later among them. Raises UsageError if it can't be reached."""

    def __init__(self, scheduler: str) -> None:
        self._scheduler = scheduler
        self._sent: tuple[Model, str, Any] | None = None
        if scheduler.startswith("tls:") and distributed.Security().get_connection_args("client").get("ssl_context") is None:
            raise UsageError(f"--scheduler {scheduler}: Dask's configuration names no certificates; set distributed.comm.tls in it")
        try:
            self._client = distributed.Client(scheduler, timeout=CONNECT, set_as_default=False, name="certify")
        except (OSError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise UsageError(f"--scheduler {scheduler}: can't be reached: {reason[0]}; is it running there?") from error

    @property
    def ahead(self) -> int:
        return AHEAD

    def submit(self, model: Model, unit: Callable[..., Any], *arguments: Any) -> Any:
        """A unit under way. Raises UsageError if the scheduler is gone."""
        if self._client.status not in ("running", "connecting"):
            raise self._lost()
        key, parcel = self._parcel(model)
        given = {"alike": ALIKE, "key": key, "parcel": parcel, "unit": pickle.dumps((unit, arguments))}
        return self._client.submit(eval, WORK, given, key=f"certify-unit-{uuid.uuid4()}", pure=False)

    def result(self, submitted: Any) -> Any:
        """Its result. Raises what the unit raised; Died if every worker that tried it died; UsageError for workers of another version
        and if the scheduler is gone."""
        try:
            return submitted.result()
        except distributed.KilledWorker as killed:
            raise Died from killed
        except (CancelledError, CommClosedError) as gone:
            raise self._lost() from gone
        except ModuleNotFoundError as absent:
            raise UsageError(f"--scheduler {self._scheduler}: a worker has no {ALIKE}: {absent}; install it there") from absent

    def close(self) -> None:
        self._sent = None
        self._client.close()

    def _lost(self) -> UsageError:
        return UsageError(f"--scheduler {self._scheduler}: the connection was lost; nothing was certified")

    def _parcel(self, model: Model) -> tuple[str, Any]:
        if self._sent is None or self._sent[0] is not model:
            content = pickle.dumps(Parcel.of(model))
            key = hashlib.sha256(content).hexdigest()
            with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"}):
                self._sent = (model, key, self._client.submit(bytes, content, key=f"certify-model-{key}"))
        return self._sent[1:]


_turn = threading.Lock()
_bound: tuple[str, tempfile.TemporaryDirectory[str]] | None = None


def work(alike: str, key: str, parcel: bytes, unit: bytes) -> Any:
    """On a worker: one unit, with all threads of the worker, and no other unit of this process meanwhile.

    alike: what the client runs. key: of the parcel, a pickled `Parcel`. unit: a function of `units` and its arguments, pickled.
    Raises UsageError, before anything is unpickled, if this process runs something else.
    """
    worker = distributed.get_worker()
    if alike != ALIKE:
        raise UsageError(f"--scheduler: the worker {worker.address} runs {ALIKE}, not {alike}; install the same on every machine")
    with _turn:
        _prepare(key, parcel, worker.state.nthreads)
        function, arguments = pickle.loads(unit)
        return function(*arguments)


def _prepare(key: str, parcel: bytes, threads: int) -> None:
    global _bound
    if _bound is not None and _bound[0] == key:
        return
    before, _bound = _bound, None
    folder = tempfile.TemporaryDirectory(prefix="certify-", dir=distributed.get_worker().local_directory, ignore_cleanup_errors=True)
    units.prepare(pickle.loads(parcel).unpacked(Path(folder.name)), threads)
    _bound = (key, folder)
    if before is not None:
        before[1].cleanup()
