"""The gateway as a whole: what is put together from the parts, in which order it starts and stops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from gateway.config import MeshFile, read_mesh
from gateway.contract import Contract, read_contract
from gateway.control.metrics import MeshMetrics, MetricsSocket
from gateway.control.server import ControlServer
from gateway.control.view import View
from gateway.discovery.catalog import Catalog
from gateway.discovery.dns import DnsMembership
from gateway.discovery.membership import FolderMembership, Membership, StaticMembership
from gateway.discovery.roster import Replica, Roster
from gateway.discovery.watch import Watcher
from gateway.envoy import Json
from gateway.envoy.admin import Admin, AdminError
from gateway.envoy.bootstrap import Ports, node_id, render_bootstrap
from gateway.envoy.clusters import endpoints_path, render_endpoints
from gateway.envoy.files import Publisher, report_rejections
from gateway.envoy.filters import TOKENS_VERSION, render_tokens, tokens_path
from gateway.envoy.listener import STANDARD_OUTPUT, routes_path
from gateway.envoy.process import Envoy, Record, find_envoy, read_record
from gateway.envoy.rotation import RotationWatch
from gateway.envoy.routes import render_routes
from gateway.identity.key import PUBLIC_NAME, KeyFileError
from gateway.identity.watch import KeyWatch
from gateway.place import Run
from gateway.settings import GatewaySettings
from shared.errors import StartupError
from shared.files import write_atomically
from shared.rpc.listen import check_address
from shared.settings import state_dir
from shared.telemetry import tracing
from shared.telemetry.logging import get_logger
from shared.telemetry.metrics import CallMetrics, make_registry
from shared.telemetry.tracing import TraceMetrics, TraceSettings

# A running Envoy keeps its endpoints until every replica was heard, so that taking it over loses none; this is for those
# that never answer.
_HEARING_S = 5.0
# Envoy has read a file within milliseconds; this is for a machine under load.
_TAKING_S, _ASKING_S = 5.0, 0.02


class Plane:
    """A control plane with its Envoy. Making one reads and checks everything, and starts nothing. Raises StartupError."""

    def __init__(self, settings: GatewaySettings, traces: TraceSettings) -> None:
        self._settings, self._traces = settings, traces
        state = settings.state_dir or state_dir()
        self._run = Run(state / "run" / "gateway")
        self._file: MeshFile = read_mesh(settings.config)
        mesh = self._file.mesh
        self._contract: Contract = read_contract(self._file)
        keys = self._file.resolve(mesh.auth.jwks) if mesh.auth.jwks else state / "keys" / PUBLIC_NAME
        self._keys = KeyWatch(keys)
        self._binary = find_envoy(settings.envoy_path)
        self._address_file = settings.address_file or self._run.address
        services = [service.name for service in mesh.services]
        folder = settings.endpoints_dir or state / "run" / "endpoints"
        self._roster = Roster()
        self._names: DnsMembership | None = None
        memberships: list[Membership] = [StaticMembership(mesh), FolderMembership(folder, services)]
        if named := {service.name: service.dns for service in mesh.services if service.dns}:
            self._names = DnsMembership(named, server=settings.dns_server)
            memberships.append(self._names)
        self._watcher = Watcher(self._roster, memberships)
        self._view = View(mesh, self._contract, self._roster)
        self._publisher = Publisher()
        self._log = get_logger("gateway")

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT, then drains and stops Envoy too. Raises StartupError."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        with self._run.create():
            await self._serve(stop)

    async def _serve(self, stop: asyncio.Event) -> None:
        run, places, settings = self._run, self._run.places, self._settings
        admin = Admin(places.admin)
        record = read_record(run.record)
        ports = self._ports(record)
        address, metrics = ports.address, ports.metrics
        bootstrap = render_bootstrap(self._file.mesh, self._contract, ports, places, self._traces)
        wanted = Record(0, node_id(bootstrap), address, ports.admin, metrics)
        envoy = Envoy(
            self._binary,
            bootstrap=run.bootstrap,
            record=run.record,
            log=run.log,
            says=self._file.mesh.access_log == STANDARD_OUTPUT,
            admin=admin,
            concurrency=settings.concurrency or os.cpu_count() or 1,
            start_timeout_s=settings.start_timeout_s,
        )
        calls = CallMetrics()
        control = ControlServer(self._view, places.control, calls)
        counts = MetricsSocket(places.metrics, make_registry(calls, TraceMetrics(), self._measure(envoy)))
        tracing.start(self._traces, "gateway-control", node_id(bootstrap))
        await control.start()
        await counts.start()
        tasks: list[asyncio.Task[None]] = [asyncio.create_task(self._watcher.run())]
        try:
            await self._watcher.started.wait()
            if await envoy.adopt(record, wanted.node):
                await self._roster.wait_until_heard(_HEARING_S)
                self._publish()
                # Refused, those that it has serve on; said in its log, and by the alert on refused files.
            else:
                check_address(address)
                check_address(f"127.0.0.1:{ports.admin}")
                if metrics is not None:
                    check_address(metrics)
                write_atomically(places.descriptors, self._contract.serialized(), mode=0o600)
                write_atomically(run.bootstrap, json.dumps(bootstrap, indent=1), mode=0o600)
                self._publish()
                await envoy.start(wanted)
                try:
                    await self._take_keys_over(envoy, admin)
                except KeyFileError:
                    # It would refuse every call.
                    await envoy.stop(0.0)
                    raise
            tasks.append(asyncio.create_task(envoy.keep_alive(wanted)))
            tasks.append(asyncio.create_task(self._publisher.follow(self._roster.changes(), self._render)))
            rotation = RotationWatch(admin, self._roster, self._publisher, places.folder)
            tasks.append(asyncio.create_task(rotation.run()))
            tasks.append(asyncio.create_task(report_rejections(admin)))
            tasks.append(asyncio.create_task(self._keys.run(partial(self._take_keys_over, envoy, admin))))
            write_atomically(self._address_file, f"{address}\n", mode=0o644)
            self._log.info(
                "ready", address=address, admin=f"127.0.0.1:{ports.admin}", metrics=metrics, envoy=envoy.pid
            )
            await _wait_for_stop(stop, tasks)
        finally:
            # If this is an error and nobody asked to stop, Envoy serves on, for the next control plane to adopt.
            self._view.set_draining()
            await _cancel(tasks)
            # Before the drain, which would wait for those who watch our health.
            await control.stop()
            await counts.stop()
            await asyncio.to_thread(tracing.stop)
        self._log.info("draining")
        self._address_file.unlink(missing_ok=True)
        await envoy.stop(settings.drain_timeout_s)
        self._log.info("stopped")

    def _measure(self, envoy: Envoy) -> MeshMetrics:
        names = self._names
        return MeshMetrics(
            self._view,
            find_unknown=lambda: names.unknown if names is not None else (),
            count_starts=lambda: envoy.starts,
            is_stuck=lambda: self._publisher.stuck,
        )

    def _ports(self, record: Record | None) -> Ports:
        """Where to listen; a free port, where one is asked for, is that of the Envoy that may still run."""
        mesh, settings = self._file.mesh, self._settings
        admin = mesh.admin_port if settings.admin_port is None else settings.admin_port
        if admin == 0:
            admin = record.admin_port if record else _free_port("127.0.0.1")
        metrics = settings.metrics or mesh.metrics
        return Ports(
            _choose(settings.listen or mesh.listen, record.address if record else None),
            admin,
            metrics and _choose(metrics, record.metrics if record else None),
        )

    def _publish(self) -> None:
        replicas = self._roster.replicas
        self._publisher.publish(self._render(replicas), replicas)

    async def _take_keys_over(self, envoy: Envoy, admin: Admin) -> None:
        """Publishes the keys of tokens and waits until Envoy has them. Raises KeyFileError if it does not take them."""
        self._publish()
        wanted = self._publisher.versions[tokens_path(self._run.places.folder)]
        deadline_s = time.monotonic() + _TAKING_S
        while time.monotonic() < deadline_s:
            # Without an answer it is being restarted, and reads them then.
            with contextlib.suppress(AdminError):
                if wanted in (await admin.get(f"/stats?filter={TOKENS_VERSION}")):
                    return
            await asyncio.sleep(_ASKING_S)
        raise KeyFileError(f"{self._keys.path}: Envoy does not take these keys: {envoy.last_error()}")

    def _render(self, replicas: Sequence[Replica]) -> Mapping[Path, Json]:
        """Everything that changes while Envoy runs: endpoints first, so that no route leads to where nobody is yet."""
        mesh, folder = self._file.mesh, self._run.places.folder
        services = [service.name for service in mesh.services]
        files = {
            endpoints_path(folder, name): render_endpoints(
                name, [replica for replica in replicas if replica.service == name]
            )
            for name in services
        }
        catalog = Catalog(services, replicas)
        return files | {
            routes_path(folder): render_routes(mesh, self._contract, catalog),
            tokens_path(folder): render_tokens(mesh, self._keys.text),
        }


async def _wait_for_stop(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Waits for the signal; a task that ends before it has failed, and its error is raised."""
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    for task in done - {stopping}:
        task.result()


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _choose(address: str, before: str | None) -> str:
    """`address`, or where it asks for a free port, the one of `before` if that is of the same host."""
    host, _, port = address.rpartition(":")
    if port != "0":
        return address
    if before is not None and before.rpartition(":")[0] == host:
        return before
    return f"{host}:{_free_port(host)}"


def _free_port(host: str) -> int:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.bind((host.strip("[]"), 0))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise StartupError(f"cannot listen on {host}: {error.strerror}") from error
