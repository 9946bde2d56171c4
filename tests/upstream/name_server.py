"""A name server on loopback that answers from a table and counts what it was asked, by UDP and TCP."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, field
from typing import Self, cast

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

SILENCE, SERVFAIL, NXDOMAIN, CUT, GARBAGE = "silence", "servfail", "nxdomain", "cut", "garbage"
SOA = "ns.test. root.test. 1 1 1 1 60"


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """``records`` are "name TTL IN TYPE data"; ``moods`` name what goes wrong, by "name TYPE" or name."""

    records: tuple[str, ...] = ()
    moods: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    port: int = 0

    async def __aenter__(self) -> Self:
        for _ in range(20):  # a port that is free for TCP may be taken for UDP
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
            self.port = self._server.sockets[0].getsockname()[1]
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                sock.bind(("127.0.0.1", self.port))
            except OSError:
                sock.close()
                self._server.close()
            else:
                break
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=sock)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._transport.close()
        self._server.close()
        await self._server.wait_closed()
        await asyncio.sleep(0)  # the transport closes its socket in the loop's next turn

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self.answer(data, "udp")
        if answer is not None:
            self._transport.sendto(answer, addr)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            answer = self.answer(await reader.readexactly(length), "tcp")
            if answer is not None:
                writer.write(struct.pack("!H", len(answer)) + answer)
        finally:
            writer.close()

    def answer(self, wire: bytes, by: str) -> bytes | None:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        self.asked.append(f"{name} {kind} {by}")
        mood = self.moods.get(f"{name} {kind}") or self.moods.get(name)
        if mood == SILENCE:
            return None
        if mood == GARBAGE:
            return wire[:2] + b"\x81\x80\xff\xff\xff"
        response = cast("dns.message.QueryMessage", dns.message.make_response(query))
        response.flags |= dns.flags.RA
        if mood == SERVFAIL:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif mood == CUT and by == "udp":
            response.flags |= dns.flags.TC
        else:
            self._fill(response, name, kind)
            if mood == NXDOMAIN or (not response.answer and not any(r.startswith(f"{name} ") for r in self.records)):
                response.set_rcode(dns.rcode.NXDOMAIN)
        return response.to_wire()

    def _fill(self, response: dns.message.QueryMessage, name: str, kind: str) -> None:
        wanted = name
        for _ in range(10):
            mine = [record.split(maxsplit=4) for record in self.records if record.startswith(f"{wanted} ")]
            cname = next((record for record in mine if record[3] == "CNAME"), None)
            found = [cname] if cname is not None else [record for record in mine if record[3] == kind]
            for owner, ttl, _in, what, data in found:
                rrset = dns.rrset.from_text(f"{owner}.", int(ttl), "IN", what, data)
                known = next((r for r in response.answer if r.name == rrset.name and r.rdtype == rrset.rdtype), None)
                if known is None:
                    response.answer.append(rrset)
                else:
                    for rdata in rrset:
                        known.add(rdata)
            if cname is None:
                break
            wanted = cname[4].rstrip(".")
        if not any(dns.rdatatype.to_text(rrset.rdtype) == kind for rrset in response.answer):
            response.authority.append(dns.rrset.from_text("test.", 300, "IN", "SOA", SOA))
