"""A TCP shim between an SDK and a relay: it counts requests, cuts connections, and puts pieces of a
stream together as an intermediary may."""

import asyncio
import dataclasses
import socket
import struct
import time

HEARTBEAT = b"\n:\n\n"


@dataclasses.dataclass
class Request:
    at: float
    method: str
    path: str
    headers: dict


class Heads:
    """Finds the requests in what a client sends on a connection."""

    def __init__(self, found):
        self.found = found
        self.buffer = b""
        self.body = 0

    def feed(self, data):
        while data:
            skipped = min(self.body, len(data))
            self.body -= skipped
            self.buffer += data[skipped:]
            data = b""
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            if end:
                self._take(head.decode("latin-1"))
                self.buffer, data = b"", rest

    def _take(self, head):
        first, *lines = head.split("\r\n")
        method, path, *_ = first.split(" ")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        self.body = int(headers.get("content-length", 0))
        self.found(Request(time.monotonic(), method, path, headers))


class Shim:
    """`together`: `None`, or which of "heartbeat" and "event" comes first where both go into one
    piece; `chunked`: whether that piece is an HTTP chunk (else a TCP segment). Once `holding` is set,
    the next of the first kind waits (`holds`) for one of the other."""

    def __init__(self, port, together=None, chunked=False):
        self.target = port
        self.together = together
        self.chunked = chunked
        self.pieces = 0
        self.joined = 0
        self.holding = False
        self.holds = False
        self.requests = []
        self.refusing = False
        self._open = set()
        self._streaming = set()
        self._server = None

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def asked(self, part="", method=None):
        """The requests whose path holds `part`, preflights left aside unless asked for."""
        methods = [method] if method else ["GET", "POST"]
        return [request for request in self.requests if request.method in methods and part in request.path]

    def streams(self):
        """The connections that are open and that an SDK asked for the stream on."""
        return set(self._streaming)

    def ended(self, streams):
        """A condition: none of these connections is open any more. Newer ones do not count: an SDK that
        asks again is refused, on a connection that may stay open for its next request."""

        async def none_open():
            return not streams & self._streaming

        return none_open

    def cut(self):
        """Resets every connection, and each new one until `refusing` is unset."""
        self.refusing = True
        for writer in list(self._open):
            self._reset(writer)

    def _reset(self, writer):
        connection = writer.get_extra_info("socket")
        if connection:
            # Lingering for no time makes the close a reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def _serve(self, reader, writer):
        if self.refusing:
            return self._reset(writer)
        try:
            above, upstream = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            return self._reset(writer)
        for one in (writer, upstream):
            one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.add(one)

        def found(request):
            self.requests.append(request)
            if request.method == "GET" and "/stream" in request.path:
                self._streaming.add(writer)

        heads = Heads(found)
        answers = Answers(self, writer)
        pumps = [
            asyncio.create_task(self._pump(reader, upstream.write, upstream, heads.feed)),
            asyncio.create_task(self._pump(above, answers.feed, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass  # the run ends
        finally:
            self._streaming.discard(writer)
            for pump in pumps:
                pump.cancel()
            for one in (writer, upstream):
                self._open.discard(one)
                one.close()

    async def _pump(self, reader, write, writer, look=None):
        try:
            while data := await reader.read(65_536):
                if look:
                    look(data)
                write(data)
                await writer.drain()
        except (ConnectionError, OSError):
            pass

    async def stop(self):
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()


class Answers:
    """Passes answers on; takes the pieces of a stream apart where they are to be put together."""

    def __init__(self, shim, writer):
        self.shim = shim
        self.writer = writer
        self.streaming = False
        self.buffer = b""
        self.held = b""

    def feed(self, data):
        if not self.shim.together:
            return self.writer.write(data)
        self.buffer += data
        if not self.streaming:
            if b"text/event-stream" not in self.buffer:
                self.writer.write(self.buffer)
                self.buffer = b""
                return None
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            if not end:
                return None
            if self.shim.chunked:
                lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
                head = b"\r\n".join([*lines, b"Transfer-Encoding: chunked"])
            self.writer.write(head + b"\r\n\r\n")
            self.streaming, self.buffer = True, rest
        self._pieces()
        return None

    def _pieces(self):
        while self.buffer:
            if self.buffer.startswith(HEARTBEAT):
                piece, kind = HEARTBEAT, "heartbeat"
            else:
                event, end, _ = self.buffer.partition(b"\n\n")
                if not end or HEARTBEAT.startswith(self.buffer):
                    return
                piece, kind = event + end, "heartbeat" if event.startswith(b":") else "event"
            self.buffer = self.buffer[len(piece):]
            self._pass(piece, kind)

    def _pass(self, piece, kind):
        self.shim.pieces += 1
        first = kind == self.shim.together
        if self.held:
            if first and kind == "heartbeat":
                # One is held already; of another the client has to hear, or it gives the stream up.
                return self._write(piece)
            if first:
                self.held += piece
                return None
            piece, self.held = self.held + piece, b""
            self.shim.joined += 1
            self.shim.holding = self.shim.holds = False
        elif first and self.shim.holding:
            self.held, self.shim.holds = piece, True
            return None
        return self._write(piece)

    def _write(self, piece):
        self.writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if self.shim.chunked else piece)
