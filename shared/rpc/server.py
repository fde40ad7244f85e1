"""The server of a process: front, services, health, reflection, metrics port, drain. Its life is start →
serve → stop.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from prometheus_client.registry import Collector
from sensorium.mesh.v1 import replica_service_pb2_grpc

from shared.errors import RestartError
from shared.files import write_atomically
from shared.rpc.admission.admission import Admission
from shared.rpc.admission.metrics import AdmissionMetrics
from shared.rpc.gate import Gate
from shared.rpc.health import HealthServicer
from shared.rpc.interceptor import Registry
from shared.rpc.listen import AddressError, check_address, describe_failure, split_address
from shared.rpc.load import LoadMeter, Workload
from shared.rpc.method import Method
from shared.rpc.reflection import register_reflection
from shared.rpc.replica import Replica, ReplicaServicer
from shared.rpc.settings import RpcSettings
from shared.rpc.tls import make_credentials
from shared.telemetry import request_log
from shared.telemetry.logging import get_logger
from shared.telemetry.metrics import CallMetrics, LoopMetrics, MetricsServer, make_registry, serve_metrics
from shared.telemetry.tracing import TraceMetrics

# How long the watch streams get to end by themselves after the last call, before their connections are
# closed.
_FAREWELL_S = 1.0
# A second Ctrl-C cuts the drain short. One key press reaches a whole process group, and its supervisor's own
# signal follows: what comes within this time is the same wish.
_IMPATIENT_AFTER_S = 1.0

Register = Callable[[Any], None]
Front = Any  # grpc.aio.Server or NativeServer, which has the same methods


class Server:
    """Answers calls on one address.

    register: called with what generated code takes for the server, e.g.
    `lambda server: add_VisionServiceServicer_to_server(servicer, server)`. Handlers must be `async def`.
    background: started after the server listens, cancelled when it stops; one that fails stops the server.
    on_stop: awaited one after another when no call is left, at the end of the drain: what calls were served from.
        Left out where a background task failed with a RestartError.
    collectors: what else is counted in this process, for Prometheus.
    workload: what the calls wait for, for the load report.
    """

    def __init__(
        self,
        settings: RpcSettings,
        *,
        service: str,
        replica: Replica,
        register: Sequence[Register],
        background: Sequence[Callable[[], Awaitable[None]]] = (),
        on_stop: Sequence[Callable[[], Awaitable[None]]] = (),
        collectors: Sequence[Collector] = (),
        workload: Workload | None = None,
    ) -> None:
        self.settings = settings
        self.service = service
        self.replica = replica
        self.metrics = CallMetrics()
        self._log = get_logger("rpc").bind(service=service)
        self._gate = Gate(service)
        self.admission = Admission(settings.admission)
        self._load = LoadMeter(self.metrics, self._gate, workload)
        self._collectors = [AdmissionMetrics(self.admission), TraceMetrics(), *collectors]
        self._register = list(register)
        self._background = list(background)
        self._on_stop = list(on_stop)
        self._tasks: list[asyncio.Future[None]] = []
        self._front: Front | None = None
        self._metrics_server: MetricsServer | None = None
        self._stop_asked = asyncio.Event()
        self._stopping = False
        self._stopped = asyncio.Event()
        self._asked_at_s = 0.0
        self._failure: BaseException | None = None
        self.address = ""

    async def start(self) -> str:
        """Listens and takes calls; returns the bound address (`host:port` with the real port, or
        `unix:/path`).

        Raises AddressError with one readable line if the address, or that of the metrics, cannot be had, TlsError if TLS
        cannot.
        """
        if self._front is not None:
            raise RuntimeError("a Server starts once")
        settings = self.settings
        check_address(settings.address)
        if settings.metrics_address is not None:
            check_address(settings.metrics_address)
        credentials = make_credentials(settings)
        front = _make_front(settings)
        self._register_services(front)
        try:
            port = (
                front.add_insecure_port(settings.address)
                if credentials is None
                else front.add_secure_port(settings.address, credentials)
            )
        except RuntimeError as error:
            raise describe_failure(settings.address) from error
        if settings.address.startswith("unix:"):
            self.address = settings.address
        else:
            self.address = f"{settings.address.rpartition(':')[0]}:{port}"
        self._start_metrics()
        await front.start()
        self._front = front
        for work in self._background:
            task = asyncio.ensure_future(work())
            task.add_done_callback(self._on_background_end)
            self._tasks.append(task)
        if settings.address_file is not None:
            settings.address_file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(settings.address_file, self.address + "\n")
        self._log.info("listening", address=self.address, front=settings.front)
        return self.address

    async def serve_until_stopped(self) -> None:
        """Serves until SIGTERM, SIGINT or `ask_to_stop`, then drains and stops. A second SIGINT cuts the
        drain short.

        Raises what a background task failed with.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            await self._stop_asked.wait()
            await self.stop()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
        if self._failure is not None:
            raise self._failure

    def ask_to_stop(self) -> None:
        """Makes `serve_until_stopped` drain and return."""
        self._stop_asked.set()

    async def stop(self) -> None:
        """Drains and stops: says so, goes on for the notice, refuses new calls, lets those in flight finish,
        and closes.

        Calls that are still in flight after `drain_timeout_s` are answered UNAVAILABLE. Whoever asks again waits for
        the same stop.
        """
        if self._front is None:
            return
        if self._stopping:
            await self._stopped.wait()
            return
        self._stopping = True
        settings, replica, gate = self.settings, self.replica, self._gate
        replica.set_draining()
        self._log.info("draining", in_flight=len(gate.calls))
        if replica.watchers and settings.drain_notice_s:
            await asyncio.sleep(settings.drain_notice_s)
        gate.close()
        if not await gate.wait_idle(settings.drain_timeout_s):
            self._log.warning("calls cut at the end of the drain", calls=gate.cut())
            await gate.wait_idle(_FAREWELL_S)
        replica.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._front.stop(_FAREWELL_S)
        # A process that restarts because something does not end would wait for just that.
        if not isinstance(self._failure, RestartError):
            for close in self._on_stop:
                await close()
        if self._metrics_server is not None:
            await asyncio.to_thread(self._metrics_server.close)
        if settings.address_file is not None:
            settings.address_file.unlink(missing_ok=True)
        request_log.flush()
        self._log.info("stopped")
        self._stopped.set()

    def _register_services(self, front: Front) -> None:
        bind = partial(
            Method.bind,
            settings=self.settings,
            gate=self._gate,
            metrics=self.metrics,
            admission=self.admission,
            load=self._load,
        )
        registry: Any = Registry(front, bind)
        for register in self._register:
            register(registry)
        own = tuple(registry.services)
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(self.replica, own), registry)
        servicer = ReplicaServicer(self.replica)
        replica_service_pb2_grpc.add_ReplicaServiceServicer_to_server(servicer, registry)
        register_reflection(registry.services, registry)
        registry.check()

    def _start_metrics(self) -> None:
        address = self.settings.metrics_address
        if address is None:
            return
        host, port = split_address(address)
        tasks = LoopMetrics(asyncio.get_running_loop())
        try:
            registry = make_registry(self.metrics, tasks, *self._collectors)
            self._metrics_server = serve_metrics(host, port, registry)
        except OSError as error:
            raise AddressError(f"cannot serve metrics on {address}: {error.strerror}") from error

    def _on_background_end(self, task: asyncio.Future[None]) -> None:
        # The process must not go on without its background work.
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
            self._stop_asked.set()

    def _on_signal(self, number: signal.Signals) -> None:
        now_s = time.monotonic()
        if not self._stop_asked.is_set():
            self._asked_at_s = now_s
            self._stop_asked.set()
        elif number == signal.SIGINT and now_s - self._asked_at_s > _IMPATIENT_AFTER_S:
            self._log.warning("drain cut short by a second interrupt")
            self._gate.close()
            self._gate.cut()


def _make_front(settings: RpcSettings) -> Front:
    options: list[tuple[str, int]] = [
        # Twice the limit: what lies between is refused by the interceptor, in words; what lies above by grpcio's front.
        # The native front has no such bound and refuses in words whatever the size, once it has all of it: its port is
        # for the gateway, which has.
        ("grpc.max_receive_message_length", min(2 * settings.max_message_bytes, 2**31 - 1)),
        ("grpc.max_send_message_length", -1),
        # grpcio would share the port with whoever else asks for it.
        ("grpc.so_reuseport", 0),
        # A gateway keeps idle connections open and pings them; by default that gets it GOAWAY too_many_pings.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ]
    if settings.front == "grpcio":
        return grpc.aio.server(options=options)
    # Imported here: a process on grpcio's front needs no Rust.
    from shared.rpc.native import NativeServer

    return NativeServer(options)
