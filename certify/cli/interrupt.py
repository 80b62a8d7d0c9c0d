"""Ctrl-C ends the program at once, even inside native code, and leaves no half-written file.

While a region is split there is a result already: there the first Ctrl-C asks for it, and the second ends the program.

Python's own handler runs only between two bytecodes of the main thread, which may be seconds away inside a matrix product.
The interpreter's C handler writes the signal's number to a pipe at once; a thread waits at the other end.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from certify import files


def install() -> None:
    """Watch for SIGINT; call once, from the main thread."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, lambda number, frame: None)
    threading.Thread(target=_watch, args=(reader,), daemon=True, name="interrupt").start()


_listening, _asked = threading.Event(), threading.Event()


def stop(listening: bool) -> bool:
    """A `certify.engines.region.limits.Stop`: True once Ctrl-C was pressed while somebody listened."""
    if listening:
        _listening.set()
    else:
        _listening.clear()
    return _asked.is_set()


def _watch(reader: int) -> None:
    while True:
        if signal.SIGINT not in os.read(reader, 1):
            continue
        if not _listening.is_set() or _asked.is_set():
            break
        _asked.set()
        sys.stderr.write("\nstopping with the bound so far (Ctrl-C again ends at once)\n")
        sys.stderr.flush()
    files.abandon()
    sys.stderr.write("\ninterrupted\n")
    sys.stderr.flush()
    # Not sys.exit: the main thread may not come back for a long time.
    os._exit(130)
