"""The process that does the jobs: ``python -m sparsemf.batch.child FD`` answers requests on a socket until it closes.

Its standard output leads nowhere (solvers write banners there).  A thread reads the socket, so that the end of the
parent, however sudden, ends this process at once and not after its job.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection

READY = b'"ready"'


def main(descriptor: int) -> None:
    """Serve one parent; never returns."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    connection = Connection(descriptor)
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(connection, requests), daemon=True).start()

    # loaded before the first job, so that no job's time is spent on it
    import sparsemf.pipeline.analyze
    import sparsemf.pipeline.certify  # noqa: F401
    from sparsemf.batch import worker

    connection.send_bytes(READY)
    while True:
        reply = worker.answer(json.loads(requests.get()))
        connection.send_bytes(json.dumps(reply).encode("utf-8"))


def _read(connection: Connection, requests: queue.SimpleQueue[bytes]) -> None:
    try:
        while True:
            requests.put(connection.recv_bytes())
    except (EOFError, OSError):  # the parent is gone: nobody wants the result any more
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
