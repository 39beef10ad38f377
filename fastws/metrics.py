"""Figures for Prometheus: what the option ``metrics`` shows at its path.

All is counted when a connection is answered, when it ends, and when somebody asks; nothing per
message. With several workers each writes its figures to a file now and then, in a directory that
their supervisor makes; whichever is asked adds them up. Counts of a worker that has gone stay.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fastws.options import ConfigError
from fastws.responses import Response

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from fastws._connection import Connection

__all__ = ["Figures", "Metrics", "check_available", "shared_directory"]

DIRECTORY_VARIABLE = "_FASTWS_METRICS_DIRECTORY"
"""Names the workers' directory to them."""

SAMPLE_INTERVAL = 1.0
"""Seconds between two looks at how late the event loop is; and between two writes of the file."""

STALE = 10.0
"""Seconds after which a file that is not written any more is that of a worker that has died."""

LEFT = "left"
"""In the place of a status: the peer left before its opening handshake was answered."""

Figures = dict[str, dict[str, float]]
"""Values by family, then by label; of a histogram by upper bound, not cumulated, and ``sum``."""


class Family(NamedTuple):
    """One of the metrics."""

    kind: str
    help: str
    label: str = ""
    buckets: tuple[float, ...] = ()


FAMILIES: Mapping[str, Family] = {
    "fastws_connections": Family("gauge", "Open WebSocket connections"),
    "fastws_http_connections": Family(
        "gauge", "Open connections that are no WebSocket, or not yet"
    ),
    "fastws_connections_opened": Family("counter", "WebSocket connections that were accepted"),
    "fastws_handshakes": Family(
        "counter",
        "Opening handshakes, and requests that could not be read, by the status that answered",
        "status",
    ),
    "fastws_http_responses": Family("counter", "Plain HTTP requests answered", "status"),
    "fastws_connections_closed": Family("counter", "WebSocket connections that ended", "code"),
    "fastws_messages": Family("counter", "Messages of WebSocket connections", "direction"),
    "fastws_message_bytes": Family("counter", "Bytes of these messages, inflated", "direction"),
    "fastws_receive_queue_bytes": Family("gauge", "Bytes that wait for a handler to receive them"),
    "fastws_unsent_bytes": Family("gauge", "Bytes that wait for a peer to read them"),
    "fastws_ping_round_trip_seconds": Family(
        "gaugehistogram",
        "The latest round trip of a ping, of each open connection that has had one",
        buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    ),
    "fastws_loop_lag_seconds": Family(
        "histogram",
        "How late the event loop runs what is due, looked at once a second",
        buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0),
    ),
    "fastws_open_files": Family("gauge", "Open file descriptors of the serving processes"),
}


def check_available() -> None:
    """Say in time that the figures cannot be shown.

    Raises:
        ConfigError: ``prometheus_client`` is not installed.
    """
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        raise ConfigError(
            "metrics needs the package prometheus-client, which cannot be imported: "
            "install fastws[metrics], or leave the option out"
        ) from None


@contextlib.contextmanager
def shared_directory(wanted: bool) -> Iterator[None]:
    """For a supervisor: the place where its workers, started within the block, add figures up.

    Parameters:
        wanted: whether there is more than one worker and the option ``metrics`` is set.
    """
    if not wanted:
        yield
        return
    directory = tempfile.mkdtemp(prefix="fastws-metrics-")
    os.environ[DIRECTORY_VARIABLE] = directory
    try:
        yield
    finally:
        os.environ.pop(DIRECTORY_VARIABLE, None)
        shutil.rmtree(directory, ignore_errors=True)


class Metrics:
    """The figures of one server.

    Parameters:
        loop: the loop that it serves in.
        connections: its WebSockets, answered or not; looked at, never changed.
        requests: its other connections.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connections: Collection[Connection],
        requests: Collection[object],
    ) -> None:
        check_available()
        self._loop = loop
        self._connections = connections
        self._requests = requests
        self._counts: defaultdict[str, defaultdict[str, float]] = defaultdict(
            lambda: defaultdict(float)
        )
        directory = os.environ.get(DIRECTORY_VARIABLE)
        # The time too: the number of a process may be given again.
        name = f"{os.getpid()}-{time.time_ns()}.json"
        self._file = None if directory is None else Path(directory, name)
        self._due = 0.0
        self._sampling: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Sample until :meth:`stop`."""
        self._wait_for_sample()

    def stop(self) -> None:
        """Stop to sample, and leave what was counted to the other workers."""
        if self._sampling is not None:
            self._sampling.cancel()
            self._sampling = None
            self._write(gauges=False)

    # What happens

    def answered(self, status: int | None) -> None:
        """An opening handshake was answered, or given up by the peer (``None``)."""
        self._counts["fastws_handshakes"][LEFT if status is None else str(status)] += 1
        if status == 101:
            self._counts["fastws_connections_opened"][""] += 1

    def responded(self, status: int) -> None:
        """A plain HTTP request was answered."""
        self._counts["fastws_http_responses"][str(status)] += 1

    def ended(self, connection: Connection) -> None:
        """A connection that was open is lost."""
        self._counts["fastws_connections_closed"][str(connection.close_code)] += 1
        _add_traffic(self._counts, (connection,))

    # Sampling

    def _wait_for_sample(self) -> None:
        # Not the loop's clock, which may be late itself in this step.
        self._due = time.monotonic() + SAMPLE_INTERVAL
        self._sampling = self._loop.call_later(SAMPLE_INTERVAL, self._sample)

    def _sample(self) -> None:
        lag = max(0.0, time.monotonic() - self._due)
        _observe(self._counts, "fastws_loop_lag_seconds", lag)
        self._write(gauges=True)
        self._wait_for_sample()

    # Figures

    def figures(self) -> Figures:
        """This process's, as they are now."""
        figures: Figures = defaultdict(lambda: defaultdict(float))
        _merge(figures, self._counts)
        _add_traffic(figures, self._connections)
        queued = unsent = 0
        for connection in self._connections:
            queued += connection.queued_bytes
            unsent += connection.unsent_bytes
            if connection.round_trip is not None:
                _observe(figures, "fastws_ping_round_trip_seconds", connection.round_trip)
        gauges = {
            "fastws_connections": sum(1 for found in self._connections if found.opened_at),
            "fastws_http_connections": len(self._requests),
            "fastws_receive_queue_bytes": queued,
            "fastws_unsent_bytes": unsent,
            "fastws_open_files": _open_files(),
        }
        for name, value in gauges.items():
            if value is not None:
                figures[name][""] = value
        return figures

    def _write(self, *, gauges: bool) -> None:
        """Tell the other workers."""
        if self._file is None:
            return
        figures = self.figures()
        if not gauges:
            figures = _lasting(figures)
        partial = self._file.with_suffix(".partial")
        # Without its directory the supervisor has gone, and nobody adds up any more.
        with contextlib.suppress(OSError):
            partial.write_text(json.dumps(figures), encoding="utf-8")
            partial.replace(self._file)

    def all_figures(self) -> Figures:
        """Those of all workers, this one's as they are now, the others' a second old at most."""
        figures = self.figures()
        if self._file is not None:
            for path in self._file.parent.glob("*.json"):
                if path != self._file:
                    _merge(figures, _read(path))
        return figures

    def page(self, accept: str = "") -> Response:
        """The figures in Prometheus's text format, or in that of OpenMetrics if asked for.

        Parameters:
            accept: the request's ``Accept``.
        """
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder

        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(self.all_figures()))
        encode, media_type = choose_encoder(accept)
        return Response(encode(registry), headers={"content-type": media_type})


class _Collector:
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        """Called by the registry."""
        for name, family in FAMILIES.items():
            yield _metric(name, family, self._figures.get(name, {}))


def _metric(name: str, family: Family, values: Mapping[str, float]) -> Metric:
    from prometheus_client import core

    if family.buckets:
        buckets, count = [], 0.0
        for bound in (*map(str, family.buckets), "+Inf"):
            count += values.get(bound, 0)
            buckets.append((bound, count))
        if family.kind == "histogram":
            return core.HistogramMetricFamily(
                name, family.help, buckets=buckets, sum_value=values.get("sum", 0)
            )
        return core.GaugeHistogramMetricFamily(
            name, family.help, buckets=buckets, gsum_value=values.get("sum", 0)
        )
    labels = [family.label] if family.label else None
    kinds: Any = {"counter": core.CounterMetricFamily, "gauge": core.GaugeMetricFamily}
    metric: Metric = kinds[family.kind](name, family.help, labels=labels)
    # What has no label is there from the start, so that a rate of it can be had.
    for label, value in (values or ({} if family.label else {"": 0})).items():
        metric.add_metric([label] if family.label else [], value)  # type: ignore[attr-defined]
    return metric


def _observe(figures: Mapping[str, Any], name: str, seconds: float) -> None:
    bounds = FAMILIES[name].buckets
    place = bisect_left(bounds, seconds)
    values = figures[name]
    values[str(bounds[place]) if place < len(bounds) else "+Inf"] += 1
    values["sum"] += seconds


def _add_traffic(figures: Mapping[str, Any], connections: Iterable[Connection]) -> None:
    messages, sizes = figures["fastws_messages"], figures["fastws_message_bytes"]
    for connection in connections:
        messages["received"] += connection.messages_received
        messages["sent"] += connection.messages_sent
        sizes["received"] += connection.bytes_received
        sizes["sent"] += connection.bytes_sent


def _merge(figures: Mapping[str, Any], added: Mapping[str, Mapping[str, float]]) -> None:
    for name, values in added.items():
        for label, value in values.items():
            figures[name][label] += value


def _lasting(figures: Figures) -> Figures:
    """What stays true when a worker has gone."""
    kinds = ("counter", "histogram")
    return {name: values for name, values in figures.items() if FAMILIES[name].kind in kinds}


def _read(path: Path) -> Figures:
    try:
        age = time.time() - path.stat().st_mtime
        figures: Figures = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return figures if age < STALE else _lasting(figures)


def _open_files() -> int | None:
    # Linux and macOS; the number is not to be had elsewhere.
    for directory in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            # Less the one that reads the directory.
            return len(os.listdir(directory)) - 1
    return None
