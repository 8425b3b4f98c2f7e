"""`/metrics` and `/healthz` over HTTP, in threads that nobody can hold for long."""

from __future__ import annotations

import hmac
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, MetricsHandler, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from typing_extensions import Self

from appliance.health import Health
from appliance.metrics.families import families
from appliance.metrics.survey import Snapshot

_log = logging.getLogger(__name__)

MOST_CONNECTIONS = 8
"""Where one more comes, the oldest makes room for it: a scrape takes milliseconds."""

LONGEST_CONNECTION_S = 10.0
"""A connection that is older is cut off, however busily it sends."""

POLL_S = 0.5
"""How often that is looked after."""


class _OfAppliance(Collector):
    """Asks for a snapshot when it is scraped, and never before."""

    def __init__(self, survey: Callable[[], Snapshot], health: Callable[[], Health]) -> None:
        self._survey = survey
        self._health = health

    def collect(self) -> Iterator[Metric]:
        return families(self._survey(), self._health())

    def describe(self) -> Iterator[Metric]:
        """Nothing beforehand: registering it takes no snapshot."""
        return iter(())


class MetricsServer:
    """Serves an appliance's metrics while its `with` block runs; without a port, nothing.

    Where it cannot listen the log says so, and the appliance goes on. `survey` and `health` are
    called in the threads of its connections.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int | None,
        token: str | None,
        survey: Callable[[], Snapshot],
        health: Callable[[], Health],
    ) -> None:
        self._host = host
        self._port = port
        self._token = token
        self._health = health
        self._registry = CollectorRegistry(support_collectors_without_names=True)
        self._registry.register(_OfAppliance(survey, health))
        ProcessCollector(registry=self._registry)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._port is None:
            return self
        try:
            self._server = _Server(self._host, self._port, self._handle)
        except OSError as error:
            _log.error(
                "metrics are not served, since %s:%d cannot be listened on (%s): free it, or set"
                " DELEN_METRICS_HOST and DELEN_METRICS_PORT to what is free here",
                self._host, self._port, error,
            )  # fmt: skip
            return self
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_S,), name="metrics"
        )
        self._thread.start()
        _log.info("metrics are served at http://%s:%d/metrics", self._host, self.port)
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    @property
    def port(self) -> int:
        """Where it listens; 0 where it does not."""
        return 0 if self._server is None else self._server.server_port

    def _handle(self, connection: socket.socket, address: Any, server: _Server) -> None:
        _Handler(connection, address, server, registry=self._registry, health=self._health,
                 token=self._token)  # fmt: skip


class _Handler(MetricsHandler):
    """One request on one connection."""

    timeout = LONGEST_CONNECTION_S
    server_version = "delen"
    sys_version = ""

    def __init__(  # noqa: PLR0913 - the first three are the server's
        self,
        connection: socket.socket,
        address: Any,
        server: _Server,
        *,
        registry: CollectorRegistry,
        health: Callable[[], Health],
        token: str | None,
    ) -> None:
        self.registry = registry
        self._health = health
        self._token = token
        super().__init__(connection, address, server)

    def do_GET(self) -> None:  # noqa: N802 - the library's name
        path, _, _ = self.path.partition("?")
        if not self._may_read():
            self._say(HTTPStatus.UNAUTHORIZED, "send the token of DELEN_METRICS_TOKEN as a Bearer")
        elif path == "/metrics" and self._accepts_what_there_is():
            super().do_GET()
        elif path == "/metrics":
            self._say(HTTPStatus.BAD_REQUEST, "the versions in Accept cannot be read")
        elif path == "/healthz":
            health = self._health()
            status = HTTPStatus.OK if health.well else HTTPStatus.SERVICE_UNAVAILABLE
            self._say(status, health.sentence)
        else:
            self._say(HTTPStatus.NOT_FOUND, "here are /metrics and /healthz")

    def _may_read(self) -> bool:
        if self._token is None:
            return True
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        # Header fields come as Latin-1; compared as bytes, in a time that tells nothing.
        return scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode("latin-1", "replace"), self._token.encode()
        )

    def _accepts_what_there_is(self) -> bool:
        # The library compares versions that are no numbers with numbers.
        try:
            choose_encoder(self.headers.get("Accept", ""))
        except TypeError:
            return False
        return True

    def _say(self, status: HTTPStatus, sentence: str) -> None:
        body = f"{sentence}\n".encode()
        self.send_response(status)
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(HTTPServer):
    """An HTTP server with a thread for each connection, few of them and none for long."""

    request_queue_size = MOST_CONNECTIONS

    def __init__(
        self, host: str, port: int, handle: Callable[[socket.socket, Any, _Server], None]
    ) -> None:
        self._handle = handle
        self._connections: dict[threading.Thread, tuple[socket.socket, float]] = {}
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        self.address_family = family
        super().__init__((str(address[0]), int(address[1])), BaseHTTPRequestHandler)

    def server_bind(self) -> None:
        # HTTPServer's own asks the name service, which can take seconds where there is none.
        super(HTTPServer, self).server_bind()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """In the thread that accepts, which alone knows the connections."""
        self._forget_ended()
        while len(self._connections) >= MOST_CONNECTIONS:
            self._cut_off(next(iter(self._connections)))
        thread = threading.Thread(
            target=self._converse, args=(request, client_address), name="metrics-connection"
        )
        self._connections[thread] = (request, time.monotonic())
        thread.start()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """In the thread that accepts, where a connection's could not be started."""
        _log.exception("a connection for metrics could not be taken")

    def service_actions(self) -> None:
        """In the thread that accepts, twice a second."""
        self._forget_ended()
        oldest_s = time.monotonic() - LONGEST_CONNECTION_S
        for thread, (_, since_s) in list(self._connections.items()):
            if since_s < oldest_s:
                self._cut_off(thread)

    def server_close(self) -> None:
        super().server_close()
        for thread in list(self._connections):
            self._cut_off(thread)

    def _converse(self, request: socket.socket, client_address: Any) -> None:
        try:
            self._handle(request, client_address, self)
        except OSError as error:
            _log.debug("a reader of the metrics went away: %s", error)
        except Exception:  # noqa: BLE001 - it is logged
            # A thread that dies ends the appliance, and no metric is worth that.
            _log.exception("the metrics could not be told")
        finally:
            self.shutdown_request(request)

    def _cut_off(self, thread: threading.Thread) -> None:
        connection, _ = self._connections.pop(thread)
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            _log.debug("a connection for metrics had ended already: %s", error)
        thread.join()

    def _forget_ended(self) -> None:
        for thread in [one for one in self._connections if not one.is_alive()]:
            del self._connections[thread]
