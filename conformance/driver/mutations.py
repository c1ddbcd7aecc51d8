"""Promises broken on purpose, each between one relay and the SDKs, and the check that has to notice."""

import asyncio
import collections
import dataclasses
import json
import re

from . import plan
from .mutant import HEARTBEAT, Mutant, answer
from .process import Failed, Patience
from .sdks import SDKS

# Worlds that run at the same time: so few that what does not come for so long never does.
BESIDE, PATIENCE = 5, 60


@dataclasses.dataclass(frozen=True)
class Mutation:
    key: str
    title: str
    check: str  # goes red
    sdks: tuple  # with each of these
    because: str  # in what the check says then
    mutant: type = None
    certificate: tuple = None


class WrongValue(Mutant):
    def answered(self, request, head, body):
        return head, body.replace(b"42.5", b"41.5")


class OtherOperator(Mutant):
    def answered(self, request, head, body):
        return head, body.replace(b'"starts_with"', b'"ends_with"')


class OtherAnswer(Mutant):
    def answered(self, request, head, body):
        return head, body.replace(b'"value":"true"', b'"value":"false"')


class OneFormOfRules(Mutant):
    def asked(self, request):
        request.path = request.path.replace("rules=v2", "rules=v1")


class OnlyServingRules(Mutant):
    def answered(self, request, head, body):
        if "target-segments" in request.path and "rules=v2" in request.path and head.startswith(b"HTTP/1.1 200"):
            groups = json.loads(body)
            for group in groups:
                group.pop("rules", None)
            body = json.dumps(groups).encode()
        return head, body


class LosesOnePatch(Mutant):
    def streamed(self, stream, piece, event):
        lost = event and event["identifier"] == "patched" and event["version"] == 9
        return [] if lost else [piece]


class LosesDomain(Mutant):
    domain = ""

    def streamed(self, stream, piece, event):
        return [] if event and event["domain"] == self.domain else [piece]


class LosesGroups(LosesDomain):
    domain = "target-segment"


class LosesFlags(LosesDomain):
    domain = "flag"


class LosesDeletes(Mutant):
    def streamed(self, stream, piece, event):
        return [] if event and event["event"] == "delete" else [piece]


class BareHeartbeat(Mutant):
    """Without the empty line before it, some SDKs lose the event behind it."""

    def streamed(self, stream, piece, event):
        return [piece if event else HEARTBEAT.lstrip(b"\n")]


class CutsEvents(Mutant):
    """In two HTTP chunks, as some SDKs read those."""

    def accepted(self, head):
        head = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head)
        return head.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")

    def streamed(self, stream, piece, event):
        parts = [piece[: len(piece) // 2], piece[len(piece) // 2 :]] if event else [piece]
        return [b"%x\r\n%s\r\n" % (len(part), part) for part in parts]


class ForgetsWhatWasMissed(Mutant):
    """A stream that is not the first of its key begins without events, until its second heartbeat."""

    def __init__(self, site):
        super().__init__(site)
        self.first = {}

    def streamed(self, stream, piece, event):
        first = self.first.setdefault(stream.key, stream)
        return [] if event and first is not stream and stream.heartbeats < 2 else [piece]


class Stale(Mutant):
    """Answers of flags and evaluations are those of the first time, but for flags that were unknown."""

    def __init__(self, site):
        super().__init__(site)
        self.known = {}

    def answered(self, request, head, body):
        if "/client/env/" in request.path and head.startswith(b"HTTP/1.1 200"):
            head, body = self.known.setdefault((request.method, request.path), (head, body))
        return head, body

    def streamed(self, stream, piece, event):
        if event and "evaluations" in event:
            return [with_event(piece, {**event, "evaluations": []})]
        return [piece]


class DependsOnSaas(Mutant):
    """Streams end when SaaS goes."""

    async def start(self):
        self.watching = asyncio.create_task(self._watch())
        return await super().start()

    async def _watch(self):
        while not self.site.upstream.refusing:
            await asyncio.sleep(0.05)
        for writer in list(self._open):
            writer.transport.abort()

    async def stop(self):
        self.watching.cancel()
        await super().stop()


class AsksSaas(Mutant):
    """Who authenticates needs SaaS."""

    def asked(self, request):
        if request.path == "/client/auth" and request.method == "POST" and self.site.upstream.refusing:
            return answer("401 Unauthorized", {"error": "unknown"}, ["Access-Control-Allow-Origin: *"])
        return None


class KeepsStreams(Mutant):
    async def ended(self, stream):
        while True:
            stream.writer.write(HEARTBEAT)
            await stream.writer.drain()
            await asyncio.sleep(10)


class SendsRound(Mutant):
    """Who was refused is sent in a circle."""

    def answered(self, request, head, body):
        if request.path.startswith("/stream") and re.match(rb"HTTP/1.1 4(01|29)", head):
            where = f"Location: {request.path}"
            return answer("307 Temporary Redirect", None, [where, "Access-Control-Allow-Origin: *"]), b""
        return head, body


class ForgetsRefusals(Mutant):
    def answered(self, request, head, body):
        return head.replace(b"HTTP/1.1 429 Too Many Requests", b"HTTP/1.1 401 Unauthorized"), body


class OneForAll(Mutant):
    """After a hundred refusals nothing passes any more."""

    def __init__(self, site):
        super().__init__(site)
        self.refusals = 0

    def answered(self, request, head, body):
        self.refusals += head.startswith(b"HTTP/1.1 429")
        return head, body

    def streamed(self, stream, piece, event):
        return [] if event and self.refusals >= 100 else [piece]


class LosesPost(Mutant):
    """The first of each environment."""

    def __init__(self, site):
        super().__init__(site)
        self.lost = set()

    def asked(self, request):
        if request.method == "POST" and "/metrics/" in request.path and request.path not in self.lost:
            self.lost.add(request.path)
            return answer("200 OK", {}, ["Access-Control-Allow-Origin: *"])
        return None


class CountsTwice(Mutant):
    def asked(self, request):
        if request.method == "POST" and "/metrics/" in request.path:
            body = json.loads(request.body)
            for entry in body["metricsData"]:
                entry["count"] *= 2
            request.body = json.dumps(body).encode()
            request.headers = [line for line in request.headers if not line.lower().startswith("content-length:")]
            request.headers.append(f"Content-Length: {len(request.body)}")


class NoBasePath(Mutant):
    def asked(self, request):
        if request.path.startswith("/api/1.0"):
            return answer("404 Not Found", {"error": "unknown path"})
        return None


class NoPreflights(Mutant):
    def asked(self, request):
        return answer("500 Internal Server Error") if request.method == "OPTIONS" else None


class ForgetsPreflights(Mutant):
    def answered(self, request, head, body):
        return re.sub(rb"(?i)\r\naccess-control-max-age:[^\r]*", b"\r\nAccess-Control-Max-Age: 0", head), body


class BareEvents(Mutant):
    """Events without what they evaluate to."""

    def streamed(self, stream, piece, event):
        if event and event.pop("evaluations", None):
            return [with_event(piece, event)]
        return [piece]


def with_event(piece, event):
    return piece.partition(b"data: ")[0] + b"data: " + json.dumps(event).encode() + b"\n\n"


BROWSERS = ("javascript", "react")
SERVERS = ("go", "java", "node", "python")
ALL = SERVERS + BROWSERS

MUTATIONS = [
    Mutation("wrong-value", "a number is served wrongly", "kinds", ALL, "41.5", WrongValue),
    Mutation("other-operator", "a condition is served with another operator", "vectors", SERVERS, "answers differ", OtherOperator),
    Mutation("other-answer", "browsers are served another variation", "vectors", BROWSERS, "answers differ", OtherAnswer),
    Mutation("one-form", "`rules=v2` is not understood", "and-rules", ("go", "node", "python"), "answers differ", OneFormOfRules),
    Mutation("only-serving", "with `rules=v2`, groups without serving rules have none", "and-rules", ("go", "node", "python"), "answers differ", OnlyServingRules),
    Mutation("lost-patch", "one event in twenty is lost", "changes", ALL, "patched is 'value-7', not 'value-8'|fetches of patched", LosesOnePatch),
    Mutation("lost-group", "a group's event is lost", "changes", ALL, "for-friends is|fetches of friends", LosesGroups),
    Mutation("lost-delete", "a deletion's event is lost", "changes", ALL, "created is 'value-0'|by polling only", LosesDeletes),
    Mutation("bare-heartbeat", "a heartbeat lacks its empty line", "together", ("node",), "the heartbeat first in one chunk", BareHeartbeat),
    Mutation("cut-events", "an event is written in two parts", "burst", ("node", "python", *BROWSERS), "not seen|ended|streams", CutsEvents),
    Mutation("forgets-restart", "after a restart, streams begin without what was missed", "restart", ("python", *BROWSERS), "after terminate: not seen", ForgetsWhatWasMissed),
    Mutation("forgets-cut", "after a cut, streams begin without what was missed", "cut", ("python", *BROWSERS), "not seen", ForgetsWhatWasMissed),
    Mutation("stale", "what is fetched after a change is what was there before", "cut", ALL, "not seen", Stale),
    Mutation("ends-with-saas", "streams end when SaaS goes", "outage", ALL, "a stream ended", DependsOnSaas),
    Mutation("asks-saas", "without SaaS nobody can authenticate", "outage", ALL, "did not initialise|it gives", AsksSaas),
    Mutation("refuses-early", "before there is anything to serve, keys are refused", "cold", ("go", "java", "python", *BROWSERS), "initialised", AsksSaas),
    Mutation("kept-key", "the stream of a revoked key stays open", "key", ALL, "the end of its stream", KeepsStreams),
    Mutation("kept-environment", "the streams of a removed environment stay open", "environment", ALL, "the end of its stream", KeepsStreams),
    Mutation("round", "who was refused is sent round in a circle", "key", ("go",), "it asked", SendsRound),
    Mutation("forgets-refusals", "a token that was refused is looked at again and again", "neighbour", ("go",), "the neighbour: ", ForgetsRefusals),
    Mutation("one-for-all", "refusals for one hold up the others", "neighbour", ("node", *BROWSERS), "not seen", OneForAll),
    Mutation("lost-post", "a post of metrics is answered, and lost", "metrics", ("node", "python", "go"), "SaaS was told", LosesPost),
    Mutation("counted-twice", "a post of metrics counts twice", "metrics", ALL, "SaaS was told", CountsTwice),
    Mutation("no-base-path", "`/api/1.0` is an unknown path", "base-path", ("go", "javascript"), "initialise|values are", NoBasePath),
    Mutation("own-certificate", "the certificate is of an authority that nobody trusts", "https", ALL, "did not initialise|values are", None, ("other.pem", "other.key")),
    Mutation("offline-silent", "an edit of a file is not announced", "offline", ALL, "edited is 'value-0'", LosesFlags),
    Mutation("no-preflights", "preflights are answered with 500", "origin", BROWSERS, "initialise|open streams", NoPreflights),
    Mutation("forgets-preflights", "preflights may not be remembered", "origin", BROWSERS, "preflights are", ForgetsPreflights),
    Mutation("bare-events", "events come without what they evaluate to", "payload", BROWSERS, "made it fetch", BareEvents),
]


async def carry_out(wanted, only=None):
    """Every check goes red where the promise is broken that it is there for; how many do, and do not."""
    Patience.seconds = PATIENCE
    beside = asyncio.Semaphore(BESIDE)
    told = collections.Counter()

    async def one(mutation):
        sdks = [sdk for sdk in wanted if sdk.key in mutation.sdks]
        if not sdks or (only and mutation.check not in only):
            return
        async with beside:
            try:
                world = await plan.carry_out("embedded", sdks, [mutation.check], mutation)
            except Failed as fault:
                print(f"{mutation.key}: {fault}")
                told[False] += len(sdks)
                return
        for sdk in sdks:
            holds, detail = world.found.get((mutation.check, sdk.key), (True, "was not carried out"))
            noticed = not holds and bool(re.search(mutation.because, detail))
            told[noticed] += 1
            word = "noticed" if noticed else "NOT NOTICED"
            print(f"{mutation.key:18} {sdk.title:11} {mutation.check:12} {word}: {detail[:200 if noticed else 2_000]}", flush=True)

    await asyncio.gather(*map(one, MUTATIONS))
    return told[True], told[False]
