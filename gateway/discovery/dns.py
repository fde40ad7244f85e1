"""Replicas by name: every address of a host name is one, as Docker Compose and Kubernetes' headless Services publish them.

Lives here: asking a name server again and again. Not here: whether a replica answers, which its watch tells.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Mapping

import dns.asyncresolver
import dns.exception
import dns.resolver

from gateway.discovery.membership import Change, Insert, Settled, compare
from shared.telemetry.logging import get_logger

# A new replica is found this much later. The records' own time to live is not gone by: Docker's name server says 600 s.
REFRESH_S = 1.0
# One try at one server; a lookup gives up after three such, and what was known stays.
_TRY_S = 1.0
_TYPES = ("A", "AAAA")
# Of one name. Each replica has a stream of its own; a name server that says more is not one of ours.
_MAX_ADDRESSES = 1_000


class LookupFailed(Exception):
    """No name server gave an answer; this says nothing of who is there."""


class DnsMembership:
    """Those whose addresses a name server gives for each service's name.

    A name that does not exist stands for nobody. A name server that fails or is silent says nothing: what was known stays.
    """

    def __init__(
        self, names: Mapping[str, str], *, server: str | None = None, refresh_s: float = REFRESH_S
    ) -> None:
        """`names`: service -> `host:port`. `server`: `host:port` of a name server, an IP address; None: the system's."""
        self._names = {service: _split(named) for service, named in names.items()}
        self._refresh_s = refresh_s
        self._resolver = dns.asyncresolver.Resolver(configure=server is None)
        if server is not None:
            host, port = _split(server)
            self._resolver.nameservers, self._resolver.port = [host.strip("[]")], port
        # `vision` alone is enough in a pod, whose resolv.conf says in which namespace.
        self._resolver.use_search_by_default = server is None
        self._resolver.timeout, self._resolver.lifetime = _TRY_S, 3 * _TRY_S
        self._silent: set[str] = set()
        self._log = get_logger("discovery")

    @property
    def unknown(self) -> frozenset[str]:
        """Services whose name cannot be looked up at the moment."""
        return frozenset(self._silent)

    async def changes(self) -> AsyncIterator[Change]:
        """Follows the names until cancelled."""
        asked = [(service, kind) for service in self._names for kind in _TYPES]
        known: dict[tuple[str, str], frozenset[Insert]] = dict.fromkeys(asked, frozenset())
        settled = False
        while True:
            answers = await asyncio.gather(*(self._find(*each) for each in asked), return_exceptions=True)
            found = dict(zip(asked, answers, strict=True))
            self._tell(found)
            for each, answer in found.items():
                if isinstance(answer, frozenset):
                    for change in compare(known[each], answer):
                        yield change
                    known[each] = answer
                elif not isinstance(answer, LookupFailed):
                    raise answer
            if not settled:
                settled = True
                yield Settled()
            await asyncio.sleep(self._refresh_s)

    def _tell(self, found: Mapping[tuple[str, str], frozenset[Insert] | BaseException]) -> None:
        """Log once that a name cannot be looked up, and once that it can again. One kind of address is enough."""
        for service, (host, _) in self._names.items():
            answers = [found[service, kind] for kind in _TYPES]
            if not all(isinstance(answer, LookupFailed) for answer in answers):
                if service in self._silent:
                    self._silent.remove(service)
                    self._log.info("name can be looked up again", service=service, name=host)
            elif service not in self._silent:
                self._silent.add(service)
                self._log.warning(
                    "name cannot be looked up", service=service, name=host, reason=str(answers[0])
                )

    async def _find(self, service: str, kind: str) -> frozenset[Insert]:
        host, port = self._names[service]
        return frozenset(Insert(service, _join(address, port)) for address in await self._look_up(host, kind))

    async def _look_up(self, host: str, kind: str) -> list[str]:
        try:
            answer = await self._resolver.resolve(host, kind, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN:
            return []
        except (dns.exception.DNSException, OSError) as error:
            raise LookupFailed(str(error).partition("\n")[0] or type(error).__name__) from error
        if answer.rrset is None:
            # An alias that leads nowhere says nothing of who is there, unlike a name without addresses.
            if answer.chaining_result.cnames:
                raise LookupFailed(
                    f"{host} is an alias of {answer.canonical_name}, which has no {kind} record"
                )
            return []
        addresses = [record.address for record in answer if _can_be_called(record.address)]
        if len(addresses) > _MAX_ADDRESSES:
            raise LookupFailed(
                f"{host} stands for {len(addresses)} addresses, expected at most {_MAX_ADDRESSES}"
            )
        return addresses


def _split(named: str) -> tuple[str, int]:
    host, _, port = named.rpartition(":")
    return host, int(port)


def _can_be_called(address: str) -> bool:
    """Whether a replica can be at an address: not at one that means all hosts, this one or none."""
    parsed = ipaddress.ip_address(address)
    nobodys = parsed.is_unspecified or parsed.is_multicast or parsed.is_link_local or parsed.is_reserved
    # `ipaddress` counts ::1 among the reserved.
    return parsed.is_loopback or not nobodys


def _join(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
