"""A name server on loopback, UDP and TCP on one port, whose records a test changes while it runs."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

from dnslib import AAAA, CNAME, QTYPE, RCODE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSLogger, DNSServer


class NameServer(BaseResolver):
    """records: name -> addresses, of both kinds. failing: "", "refuses" or "is silent". broken: names it fails for.
    aliases: names that stand for another, of which it says nothing.

    Records live as long as Docker's say: for ten minutes.
    """

    def __init__(self) -> None:
        self.records: dict[str, list[str]] = {}
        self.failing = ""
        self.broken: set[str] = set()
        self.aliases: dict[str, str] = {}
        self._over = threading.Event()
        quiet = DNSLogger(log="", logf=lambda _line: None)
        self._udp = DNSServer(self, address="127.0.0.1", port=0, logger=quiet)
        port = self._udp.server.server_address[1]
        self._tcp = DNSServer(self, address="127.0.0.1", port=port, tcp=True, logger=quiet)
        self.address = f"127.0.0.1:{port}"

    def resolve(self, request: DNSRecord, handler: Any) -> DNSRecord:
        """See BaseResolver; runs on threads of the server."""
        name = str(request.q.qname).rstrip(".")
        reply = request.reply()
        if self.failing == "is silent":
            self._over.wait(10)
        if self.failing or name in self.broken:
            reply.header.rcode = RCODE.SERVFAIL
            return reply
        if name in self.aliases:
            reply.add_answer(RR(request.q.qname, QTYPE.CNAME, ttl=600, rdata=CNAME(self.aliases[name])))
            return reply
        if name not in self.records:
            reply.header.rcode = RCODE.NXDOMAIN
            return reply
        for address in self.records[name]:
            kind = QTYPE.AAAA if ":" in address else QTYPE.A
            if request.q.qtype == kind:
                data = AAAA(address) if kind == QTYPE.AAAA else A(address)
                reply.add_answer(RR(request.q.qname, kind, ttl=600, rdata=data))
        return reply

    def __enter__(self) -> NameServer:
        self._udp.start_thread()
        self._tcp.start_thread()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for server in (self._udp, self._tcp):
            server.stop()
            server.server.server_close()
