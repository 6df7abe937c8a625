"""The system under test: LoadGen's queries go to a session's copy streams, their outputs go back to LoadGen.

No exception may leave a LoadGen callback: LoadGen's C++ code does not unwind (the process would abort). A failure is
recorded, all remaining queries are rejected immediately, and the thread that started the run is woken.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from cmx4trt.bench.batches import Batch, BatchQueue
from cmx4trt.bench.host import THIS_MACHINE, Host
from cmx4trt.networks.base import Responder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.devices.placement import Placement
    from cmx4trt.sessions.base import Stream

Feeder = Callable[[Sequence[int]], Mapping[str, "NDArray[Any]"]]
"""Sample indices -> feeds that stay unchanged until the feeder has been called ``depth`` more times."""


def refuse(lg: Any, ids: Sequence[int]) -> None:
    """Answer with no bytes: after a failure, so that LoadGen can finish."""
    lg.QuerySamplesComplete([lg.QuerySampleResponse(i, 0, 0) for i in ids])


class Lane:
    """A copy stream with its feeder, its answers, the GPU it uses, and the number of samples it has answered."""

    __slots__ = ("_respond", "answered", "depth", "feed", "placement", "stream")

    def __init__(self, stream: Stream, feed: Feeder, responder: Responder, placement: Placement | None = None) -> None:
        self.stream = stream
        self.depth = stream.depth
        self.feed = feed
        self.placement = placement
        self.answered = 0
        self._respond = responder.complete

    def respond(self, ids: list[int], indices: list[int], outputs: Mapping[str, NDArray[Any]]) -> None:
        """Answer one batch."""
        self._respond(ids, indices, outputs)
        self.answered += len(ids)


class Failure:
    """The first failure of a run, which any thread can report."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._abandoned = False
        self.wake = threading.Event()
        """Set at the first failure, and by the LoadGen thread when it ends."""

    def report(self, error: BaseException) -> None:
        """Keep ``error`` if it is the first."""
        if self.error is None:
            self.error = error
        self.wake.set()

    def abandon(self) -> None:
        """Nobody waits for the run any more: put threads that issue further queries to sleep."""
        self._abandoned = True

    def hold(self) -> None:
        """Sleep forever if the run is abandoned."""
        if self._abandoned:
            threading.Event().wait()


class SystemUnderTest(Protocol):
    """The interface that LoadGen calls."""

    def issue(self, ids: list[int], indices: list[int]) -> None:
        """Answer these samples, now or later."""

    def flush(self) -> None:
        """There are no further queries for now."""

    def close(self, seconds: float) -> list[threading.Thread]:
        """End the threads once LoadGen has ended; returns those of a failed run that take longer than ``seconds``."""


class InlineSystem:
    """Runs each query in LoadGen's own thread: for SingleStream and MultiStream, where the next query waits for this one, and for
    Offline over a single stream that only blocks.

    Passing it to another thread and back would cost more than a short batch.
    """

    def __init__(self, lg: Any, lane: Lane, size: int, failure: Failure) -> None:
        self._lg, self._size, self._failure = lg, size, failure
        self._feed, self._respond = lane.feed, lane.respond
        self._execute = lane.stream.execute

    def issue(self, ids: list[int], indices: list[int]) -> None:
        """Run the query in batches of at most ``size``."""
        if self._failure.error is not None:
            self._failure.hold()
        done, size = 0, self._size
        try:
            if len(ids) <= size and self._failure.error is None:
                self._run(ids, indices)
                return
            while done < len(ids) and self._failure.error is None:
                self._run(ids[done : done + size], indices[done : done + size])
                done += size
        except BaseException as error:  # see the module's docstring
            self._failure.report(error)
        if done < len(ids):
            refuse(self._lg, ids[done:])

    def _run(self, ids: list[int], indices: list[int]) -> None:
        self._respond(ids, indices, self._execute(self._feed(indices)))

    def flush(self) -> None:
        """Nothing is queued."""

    def close(self, seconds: float) -> list[threading.Thread]:
        """There is no thread."""
        return []


class QueuedSystem:
    """One thread per copy stream takes batches of ``sizes`` from a queue: for Offline and Server."""

    def __init__(
        self, lg: Any, lanes: Sequence[Lane], sizes: Sequence[int], failure: Failure, host: Host = THIS_MACHINE
    ) -> None:
        self._lg, self._failure, self._host = lg, failure, host
        self._queue = BatchQueue(sizes)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(lane,), daemon=True) for lane in lanes]
        for thread in self._threads:
            thread.start()

    def issue(self, ids: list[int], indices: list[int]) -> None:
        """Put the query into the queue."""
        if self._failure.error is not None:
            self._failure.hold()
            refuse(self._lg, ids)
        else:
            self._queue.put(ids, indices)
            if self._failure.error is not None:
                self._refuse_waiting()  # the workers may have ended meanwhile

    def flush(self) -> None:
        """No batch waits to be filled."""

    def close(self, seconds: float) -> list[threading.Thread]:
        """Let the threads end; after a failure the device may hang, and the threads with it."""
        self._queue.close()
        self._ended.set()
        for thread in self._threads:
            thread.join(None if self._failure.error is None else seconds)
        return [thread for thread in self._threads if thread.is_alive()]

    def _work(self, lane: Lane) -> None:
        if lane.placement is not None and (cpus := self._host.cpus_near(lane.placement.pci_bus_id)):
            self._host.pin_this_thread(cpus)
        self._serve(lane)
        # LoadGen has a log for every thread that answered, frees it when the thread ends, and may still be reading it.
        self._ended.wait()

    def _serve(self, lane: Lane) -> None:
        """Keep ``depth`` batches in flight as long as there are that many."""
        stream, under_way = lane.stream, deque[Batch]()
        try:
            while True:
                batch = self._queue.take(block=not under_way)
                if self._failure.error is not None:
                    self._refuse(batch, *under_way)
                    self._refuse_waiting()
                    return
                if batch is not None:
                    under_way.append(batch)
                    stream.submit(lane.feed(batch.indices))
                    if len(under_way) < stream.depth:
                        continue
                elif not under_way:
                    return
                oldest = under_way[0]
                outputs = stream.wait()
                lane.respond(oldest.ids, oldest.indices, outputs)
                under_way.popleft()
        except BaseException as error:  # the thread must not end with queries that LoadGen is waiting for
            self._failure.report(error)
            self._refuse(*under_way)
            self._refuse_waiting()

    def _refuse(self, *batches: Batch | None) -> None:
        for batch in batches:
            if batch is not None:
                refuse(self._lg, batch.ids)

    def _refuse_waiting(self) -> None:
        self._queue.close()
        while (batch := self._queue.take(block=False)) is not None:
            refuse(self._lg, batch.ids)
