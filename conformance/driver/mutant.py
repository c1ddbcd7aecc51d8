"""A proxy between SDKs and a relay that breaks a promise: one answer a connection, streams by their
pieces. `Mutant` itself breaks nothing."""

import asyncio
import dataclasses
import json
import re

HEARTBEAT = b"\n:\n\n"


@dataclasses.dataclass
class Request:
    method: str
    path: str
    headers: list  # lines
    body: bytes

    def header(self, name):
        return next((line.partition(":")[2].strip() for line in self.headers if named(line, name)), None)

    def text(self):
        # Answers come in one piece, uncompressed, and end with their connection.
        kept = [line for line in self.headers if not named(line, "accept-encoding") and not named(line, "connection")]
        head = "\r\n".join([f"{self.method} {self.path} HTTP/1.1", *kept, "Connection: close"])
        return f"{head}\r\n\r\n".encode("latin-1") + self.body


def named(line, name):
    return line.partition(":")[0].lower() == name


class Mutant:
    """What a mutation overrides: everything passes here as it is."""

    def __init__(self, site):
        self.site = site
        self._server = None
        self._open = set()

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def stop(self):
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()

    def asked(self, request):
        """May change a request, or give an answer in place of the relay's."""

    def answered(self, request, head, body):
        """May change an answer."""
        return head, body

    def accepted(self, head):
        """May change the head of a stream."""
        return head

    def streamed(self, stream, piece, event):
        """What is written to a stream for a piece of it; `event` is the JSON of an event, else `None`."""
        return [piece]

    async def ended(self, stream):
        """The relay ended a stream: so it is for the SDK when this returns."""

    async def _serve(self, reader, writer):
        self._open.add(writer)
        try:
            await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(self, reader, writer):
        request = await read(reader)
        answer = self.asked(request)
        if answer is not None:
            writer.write(answer)
            return await writer.drain()
        above, upstream = await asyncio.open_connection("127.0.0.1", self.site.listens)
        try:
            upstream.write(request.text())
            head = await above.readuntil(b"\r\n\r\n")
            if b"text/event-stream" in head:
                return await self._stream(Stream(self, request, head, reader, above, writer))
            head, body = self.answered(request, head, await above.read())
            if request.method != "OPTIONS":
                head = re.sub(rb"(?i)\r\ncontent-length:[^\r]*", b"\r\nContent-Length: %d" % len(body), head)
            writer.write(head + body)
            await writer.drain()
        finally:
            upstream.close()

    async def _stream(self, stream):
        sides = [asyncio.create_task(stream.pass_on()), asyncio.create_task(stream.left())]
        try:
            await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for side in sides:
                side.cancel()


class Stream:
    """A stream of an SDK that the relay accepted."""

    def __init__(self, mutant, request, head, reader, above, writer):
        self.mutant = mutant
        self.key = request.header("api-key")
        self.events = self.heartbeats = 0
        self.head, self.reader, self.above, self.writer = head, reader, above, writer

    async def pass_on(self):
        self.writer.write(self.mutant.accepted(self.head))
        held = b""
        while data := await self.above.read(65_536):
            held += data
            while piece := first_piece(held):
                held = held[len(piece):]
                await self._piece(piece)
        await self.mutant.ended(self)

    async def _piece(self, piece):
        event = None
        if piece == HEARTBEAT:
            self.heartbeats += 1
        else:
            self.events += 1
            event = json.loads(piece.partition(b"data: ")[2])
        for part in self.mutant.streamed(self, piece, event):
            self.writer.write(part)
            await self.writer.drain()
            # So that parts arrive as parts.
            await asyncio.sleep(0.02)

    async def left(self):
        """Returns when the SDK has left."""
        while await self.reader.read(1_024):
            pass


def first_piece(held):
    if held.startswith(HEARTBEAT):
        return HEARTBEAT
    event, end, _ = held.partition(b"\n\n")
    return event + end if end and event else b""


async def read(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *headers = head.rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ")
    request = Request(method, path, headers, b"")
    request.body = await reader.readexactly(int(request.header("content-length") or 0))
    return request


def answer(status, value=None, headers=()):
    body = b"" if value is None else json.dumps(value).encode()
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\nConnection: close\r\n\r\n").encode() + body
