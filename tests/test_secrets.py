"""No secret in any message, log line or repr: a marker is put wherever one may stand, and looked for.

Secrets stand in the userinfo and the query of URLs, in values of header fields, in subprotocols (bearer
tokens) and anywhere in what is malformed. Names of fields, paths and close reasons are none.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute

from wsstream import Accept, Request, Response, accept, connect, reconnect, serve
from wsstream.opening.handshake import accept_key
from wsstream.opening.handshake_client import Agreement
from wsstream.opening.handshake_server import Offer, check_request
from wsstream.opening.headers import Headers
from wsstream.opening.http import RequestedURL
from wsstream.opening.http1 import ClientHandshake, ServerHandshake
from wsstream.opening.proxy_url import parse_proxy_url
from wsstream.opening.redirect import Destination
from wsstream.opening.url import parse_authority, parse_url
from wsstream.testing import memory_pair

pytestmark = pytest.mark.anyio

SECRET = "s3cr3t"
FORMS = (
    SECRET,
    base64.b64encode(f"user:{SECRET}".encode()).decode(),
    base64.b64encode(SECRET.encode()).decode(),
)
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
HEAD = b"Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
FIRST = b"GET / HTTP/1.1\r\n"
OPENING = (
    b"GET /?s3cr3t HTTP/1.1\r\nCookie: s3cr3t\r\nSec-WebSocket-Protocol: s3cr3t\r\n" + HEAD + KEY + b"\r\n"
)
REDIRECT = b"HTTP/1.1 302 x\r\nContent-Length: 0\r\nLocation: "
SWITCHED = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "


def texts_of(error: BaseException | None, seen: frozenset[int] = frozenset()) -> Iterator[str]:
    """All that a traceback may show of an error, also of those behind it."""
    if error is None or id(error) in seen:
        return
    seen |= {id(error)}
    yield str(error)
    yield repr(error)
    yield from getattr(error, "__notes__", [])
    for other in (error.__cause__, error.__context__, *getattr(error, "exceptions", ())):
        yield from texts_of(other, seen)


def has_secret(text: str) -> bool:
    return any(form.lower() in text.lower() for form in FORMS)


class Watch(logging.Handler):
    """Collects texts, and the log."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def see(self, *objects: object) -> None:
        for each in objects:
            self.texts += texts_of(each) if isinstance(each, BaseException) else [repr(each)]

    def log(self) -> list[str]:
        """The lines of the library's loggers, with what their tracebacks tell."""
        lines = []
        for record in self.records:
            lines.append(record.getMessage())
            lines += texts_of(record.exc_info[1] if record.exc_info else None)
        return lines

    def check(self) -> None:
        shown = self.texts + self.log()
        assert shown, "nothing was looked at"
        assert [text for text in shown if has_secret(text)] == []
        assert [text for text in self.log() if not text.isprintable()] == []


@pytest.fixture
def watch() -> Iterator[Watch]:
    logger = logging.getLogger("wsstream")
    level, watch = logger.level, Watch()
    logger.setLevel(logging.DEBUG)
    logger.addHandler(watch)
    try:
        yield watch
    finally:
        logger.removeHandler(watch)
        logger.setLevel(level)
    watch.check()


async def idle(ws: Any) -> None:
    await ws.wait_closed()


# -- what a client sends ---------------------------------------------------------------------------

REQUESTS = {
    "an opening that is let in": OPENING,
    "the absolute form": b"GET http://user:s3cr3t@a/?s3cr3t HTTP/1.1\r\n" + HEAD + KEY + b"\r\n",
    "no opening": b"GET /?s3cr3t HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer s3cr3t\r\n\r\n",
    "another method": b"POST /?s3cr3t HTTP/1.1\r\nHost: a\r\nCookie: s3cr3t\r\n\r\n",
    "CONNECT": b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nProxy-Authorization: Basic s3cr3t\r\n\r\n",
    "a method": b"s3cr3t /?s3cr3t HTTP/1.1\r\nHost: a\r\n\r\n",
    "a fragment": b"GET /?s3cr3t#s3cr3t HTTP/1.1\r\n" + HEAD + KEY + b"\r\n",
    "HTTP/1.0": b"GET /?s3cr3t HTTP/1.0\r\nCookie: s3cr3t\r\n\r\n",
    "another version of WebSocket": FIRST + HEAD.replace(b"13", b"s3cr3t") + KEY + b"\r\n",
    "a key": FIRST + HEAD + b"Sec-WebSocket-Key: s3cr3t\r\n\r\n",
    "a host": FIRST + HEAD.replace(b"Host: a", b"Host: user:s3cr3t@a") + KEY + b"\r\n",
    "an origin": FIRST + HEAD + KEY + b"Origin: https://s3cr3t.example\r\n\r\n",
    "a subprotocol that is no token": FIRST + HEAD + KEY + b"Sec-WebSocket-Protocol: s3cr3t==?\r\n\r\n",
    "a subprotocol twice": FIRST + HEAD + KEY + b"Sec-WebSocket-Protocol: s3cr3t, s3cr3t\r\n\r\n",
    "a blank before the colon": FIRST + b"Authorization : Bearer s3cr3t\r\n\r\n",
    "no colon": FIRST + b"Authorization Bearer s3cr3t\r\n\r\n",
    "a NUL": FIRST + b"Cookie: s3cr3t\0\r\n\r\n",
    "a NUL in the query": b"GET /?s3cr3t\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a folded field": FIRST + b"Cookie: a;\r\n s3cr3t\r\n\r\n",
    "a bare CR": FIRST + b"Cookie: s3cr3t\rs3cr3t\r\n\r\n",
    "a first line": b"GET /?s3cr3t s3cr3t\r\nHost: a\r\n\r\n",
    "a length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: s3cr3t\r\n\r\n",
    "a coding": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: s3cr3t\r\n\r\n",
    "two hosts": FIRST + b"Host: s3cr3t\r\nHost: s3cr3t\r\n\r\n",
    "many fields": FIRST + b"X: s3cr3t\r\n" * 101 + b"\r\n",
    "many cookies": FIRST + b"Cookie: " + b"s3cr3t;" * 1001 + b"\r\n\r\n",
    "a large head": FIRST + b"Cookie: " + b"s3cr3t" * 12_000,
    "the PROXY protocol": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x1cs3cr3t",
    "the PROXY protocol in words": b"PROXY TCP4 s3cr3t\r\n",
    "another protocol": b"\0s3cr3t\r\n\r\n",
    "SSH": b"SSH-2.0-s3cr3t\r\n",
}  # fmt: skip


async def answer_to(stream: ByteStream, data: bytes) -> bytes:
    """What comes back, until the other side ends or has let us in."""
    answer = b""
    async with stream:
        await stream.send(data)
        with anyio.move_on_after(5):
            while not answer.startswith(b"HTTP/1.1 101"):
                try:
                    answer += await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    break
    return answer


@pytest.mark.parametrize("data", REQUESTS.values(), ids=REQUESTS)
async def test_a_server_tells_nothing_of_what_a_client_sent(data: bytes, watch: Watch) -> None:
    async with serve(idle, "127.0.0.1", origins=["https://a.example", None]) as server:
        answer = await answer_to(await anyio.connect_tcp("127.0.0.1", server.port), data)
        watch.see(server, *server.connections)
        with anyio.fail_after(5):
            while not watch.log():
                await anyio.sleep(0.01)
    assert answer.startswith(b"HTTP/1.1 ")
    assert not has_secret(answer.decode("latin-1"))


@pytest.mark.parametrize("data", REQUESTS.values(), ids=REQUESTS)
async def test_accept_tells_nothing_of_what_a_client_sent(data: bytes, watch: Watch) -> None:
    ours, theirs = memory_pair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer_to, theirs, data)
        try:
            async with accept(ours, origins=["https://a.example", None]) as ws:
                watch.see(ws, ws.request, ws.request.headers, ws.response, ws.readable, ws.writable)
        except Exception as error:
            watch.see(error)


class Broken(Exception):
    """A mistake of an application."""


async def break_down(_: object) -> None:
    raise Broken("a bug")


async def test_a_server_whose_application_fails_logs_no_secret(watch: Watch) -> None:
    opening = REQUESTS["an opening that is let in"]
    mistakes = [break_down, lambda request: SECRET, lambda request: Accept(subprotocol=f"{SECRET}-too")]
    for options in [{"process_request": mistake} for mistake in mistakes] + [{}]:
        async with serve(break_down, "127.0.0.1", **options) as server:  # type: ignore[arg-type]
            await answer_to(await anyio.connect_tcp("127.0.0.1", server.port), opening)
    assert any("a bug" in line for line in watch.log())


# -- what a server and a proxy answer ----------------------------------------------------------------

URL = f"ws://user:{SECRET}@127.0.0.1:%d/?{SECRET}"
OPTIONS: dict[str, Any] = {
    "headers": {"Cookie": SECRET, "X-Api-Key": SECRET},
    "subprotocols": ["bearer", SECRET],
}
ANSWERS = {
    "another status": b"HTTP/1.1 401 x\r\nSet-Cookie: s3cr3t\r\nContent-Length: 0\r\n\r\n",
    "a body that repeats the target": b"HTTP/1.1 404 x\r\nContent-Length: 19\r\n\r\nCannot GET /?s3cr3t",
    "a phrase": b"HTTP/1.1 500 s3cr3t\r\nContent-Length: 0\r\n\r\n",
    "a status": b"HTTP/1.1 s3cr3t x\r\n\r\n",
    "no HTTP": b"s3cr3t\r\n\r\n",
    "a blank before the colon": b"HTTP/1.1 401 x\r\nSet-Cookie : s3cr3t\r\n\r\n",
    "no colon": b"HTTP/1.1 401 x\r\nSet-Cookie s3cr3t\r\n\r\n",
    "a NUL": b"HTTP/1.1 401 x\r\nSet-Cookie: s3cr3t\0\r\n\r\n",
    "a folded field": b"HTTP/1.1 401 x\r\nSet-Cookie: a;\r\n s3cr3t\r\n\r\n",
    "a length": b"HTTP/1.1 401 x\r\nContent-Length: s3cr3t\r\n\r\n",
    "a chunk": b"HTTP/1.1 401 x\r\nTransfer-Encoding: chunked\r\n\r\ns3cr3t\r\n",
    "many fields": b"HTTP/1.1 401 x\r\n" + b"Set-Cookie: s3cr3t\r\n" * 101 + b"\r\n",
    "a head that is cut off": b"HTTP/1.1 401 x\r\nSet-Cookie: s3cr3t",
    "nothing": b"",
    "a redirect that is not followed": REDIRECT + b"ftp://user:s3cr3t@a/?s3cr3t\r\n\r\n",
    "a redirect to no host": REDIRECT + b"http://user:s3cr3t@[a/?s3cr3t\r\n\r\n",
    "a redirect to a foreign host": REDIRECT + b"http://user%3As3cr3t%40h\xc3\xa9_/\r\n\r\n",
    "a redirect in a loop": REDIRECT + b"/?s3cr3t\r\n\r\n",
    "an accept": SWITCHED + b"s3cr3t\r\n\r\n",
    "an upgrade": b"HTTP/1.1 101 x\r\nUpgrade: s3cr3t\r\nConnection: Upgrade\r\n\r\n",
    "no subprotocol": SWITCHED + b"%b\r\n\r\n",
    "all subprotocols": SWITCHED + b"%b\r\nSec-WebSocket-Protocol: bearer, s3cr3t\r\n\r\n",
    "the one that was wanted": SWITCHED + b"%b\r\nSec-WebSocket-Protocol: s3cr3t\r\n\r\n",
}  # fmt: skip


@asynccontextmanager
async def answering(answer: bytes, end: bytes = b"\r\n\r\n") -> AsyncIterator[int]:
    """A port where what ends so gets `answer`; gives the port."""

    async def handle(stream: ByteStream) -> None:
        async with stream:
            try:
                head = await stream.receive()
                while not head.endswith(end):
                    head += await stream.receive()
                lines = [line.partition(b": ") for line in head.split(b"\r\n")]
                key = {name: value for name, _, value in lines}.get(b"Sec-WebSocket-Key")
                await stream.send(answer.replace(b"%b", accept_key(key.decode()).encode()) if key else answer)
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass  # the client left

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield listener.extra(SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_a_client_tells_nothing_of_what_it_was_given_nor_of_the_answer(
    answer: bytes, watch: Watch
) -> None:
    async with answering(answer) as port:
        connecting = connect(URL % port, max_redirects=1, close_timeout=0.1, **OPTIONS)
        watch.see(connecting)
        try:
            async with connecting as ws:
                watch.see(ws, ws.request, ws.response, ws.request.headers, ws.response.headers, connecting)
        except Exception as error:
            watch.see(error)


PROXIES = [("http", answer) for answer in ANSWERS.values()]
PROXIES += [("socks5h", answer) for answer in (b"\0s3cr3t", b"\x05\xff", b"\x05\x02\x01\x01", b"")]


@pytest.mark.parametrize(("scheme", "answer"), PROXIES)
async def test_a_client_tells_nothing_of_its_proxy(scheme: str, answer: bytes, watch: Watch) -> None:
    end = b"\r\n\r\n" if scheme == "http" else b""
    async with answering(answer, end) as port:
        proxy = f"{scheme}://user:{SECRET}@127.0.0.1:{port}"
        with pytest.raises(Exception) as caught:
            async with connect(URL % 1, proxy=proxy, **OPTIONS):
                pass
        watch.see(caught.value)


async def test_a_client_that_connects_again_logs_no_secret(watch: Watch) -> None:
    async with answering(ANSWERS["another status"].replace(b"401", b"503")) as port:
        with pytest.raises(Exception) as caught:
            async for _ in reconnect(URL % port, delays=[0], **OPTIONS):
                pass
    watch.see(caught.value)
    with pytest.raises(OSError) as refused:
        async for _ in reconnect(URL % port, delays=[0]):
            pass
    watch.see(refused.value)
    assert len(watch.log()) >= 2


async def test_a_client_whose_time_is_over_tells_no_secret(watch: Watch) -> None:
    ours, _theirs = memory_pair()
    with pytest.raises(TimeoutError) as caught:
        async with connect(URL % 1, transport=ours, open_timeout=0.01, **OPTIONS):
            pass
    watch.see(caught.value, connect(URL % 1, transport=ours))


# -- what an application gives -------------------------------------------------------------------------

URLS = [
    "user:s3cr3t@a",
    "//user:s3cr3t@a",
    "ftp://user:s3cr3t@a/?s3cr3t",
    "ws://user:s3cr3t@",
    "ws://user:s3cr3t@a b/",
    "ws://user:s3cr3t@a:0/?s3cr3t",
    "ws://user:s3cr3t@a:port/",
    "ws://user:s3cr3t@[::1/",
    "ws://user:s3cr3t@1.2.3/",
    "ws://user:s3cr3t@a_é/",
    "ws://user:s3cr3t@@a/",
    "ws://user:s3cr3t@[::g]/",
    "ws://us[er:s3cr3t@a/",
    "ws://us%3Aer:s3cr3t@a/",
    "ws://user:s3cr3t%ff@a/",
    "ws://user%3As3cr3t%40é_/",
    "ws://user%3As3cr3t%40a/",
    "ws://user:s3cr3t@a/#s3cr3t",
    "ws://user:s3cr3t@a/%",
    "ws://a/?s3cr3t\n",
]
WRONG_OPTIONS: dict[str, dict[str, Any]] = {
    "a header field in one str": {"headers": ["Authorization: Bearer s3cr3t"]},
    "a str": {"headers": "s3cr3t"},
    "a field in the name": {"headers": {"Authorization: Bearer s3cr3t": ""}},
    "a name": {"headers": {"Bearer s3cr3t": "x"}},
    "a line end": {"headers": {"Authorization": "Bearer s3cr3t\n"}},
    "a character": {"headers": [("Cookie", "s3cr3t=€")]},
    "bytes": {"headers": [(b"Cookie", b"s3cr3t")]},
    "three": {"headers": [("Cookie", "s3cr3t", "s3cr3t")]},
    "a field of the handshake": {"headers": {"Sec-WebSocket-Protocol": "s3cr3t"}},
    "two hosts": {"headers": [("Host", "s3cr3t"), ("Host", "s3cr3t")]},
    "an origin": {"origin": "s3cr3t\n"},
    "an origin of bytes": {"origin": b"s3cr3t"},
    "a subprotocol": {"subprotocols": ["bearer s3cr3t"]},
    "a subprotocol twice": {"subprotocols": ["s3cr3t", "s3cr3t"]},
    "subprotocols in one str": {"subprotocols": "s3cr3t"},
    "a subprotocol of bytes": {"subprotocols": [b"s3cr3t"]},
    "a proxy": {"proxy": "user:s3cr3t@a"},
    "a proxy of another scheme": {"proxy": "ftp://user:s3cr3t@a"},
    "a proxy with a query": {"proxy": "http://user:s3cr3t@a/?s3cr3t"},
    "a proxy without a host": {"proxy": "http://user:s3cr3t@"},
    "a user name that SOCKS cannot have": {"proxy": "socks5://s3cr3té:s3cr3t@a"},
}


@pytest.mark.parametrize("url", URLS)
def test_an_error_about_a_url_does_not_quote_it(url: str, watch: Watch) -> None:
    for parse in (connect, parse_proxy_url, parse_url("ws://user:s3cr3t@a/b").resolve):
        try:
            watch.see(parse(url if parse is connect else url.encode().decode("latin-1")))
        except ValueError as error:
            watch.see(error)


@pytest.mark.parametrize("options", WRONG_OPTIONS.values(), ids=WRONG_OPTIONS)
def test_an_error_about_an_argument_does_not_quote_it(options: dict[str, Any], watch: Watch) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        connect("ws://a/", **options)
    watch.see(caught.value)


def test_an_error_about_a_variable_does_not_quote_it(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("ftp://user:s3cr3t@a", "user:s3cr3t@a:port", "http://user:s3cr3t@a/?s3cr3t"):
        monkeypatch.setenv("https_proxy", value)
        with pytest.raises(ValueError) as caught:
            connect("ws://a/", proxy="env")
        watch.see(caught.value)


def test_an_error_about_a_response_does_not_quote_it(watch: Watch) -> None:
    make: list[Callable[[], object]] = [
        lambda: Response(401, {"WWW-Authenticate": "s3cr3t\n"}),
        lambda: Response(401, {"Connection": "s3cr3t"}),
        lambda: Response(204, (), "s3cr3t"),
        lambda: Response(302, {"Location: /?s3cr3t": ""}),
    ]
    for wrong in make:
        with pytest.raises(ValueError) as caught:
            wrong()
        watch.see(caught.value)


# -- inside ---------------------------------------------------------------------------------------------


def test_what_is_kept_inside_shows_no_secret(watch: Watch) -> None:
    url = parse_url("ws://user:s3cr3t@a/feed?s3cr3t")
    watch.see(url, parse_authority("user:s3cr3t@a:1"), parse_proxy_url("http://user:s3cr3t@a"))
    watch.see(Destination(url, Headers({"Cookie": SECRET})))
    asking = ClientHandshake(url, key=bytes(16), subprotocols=[SECRET], headers={"Cookie": SECRET})
    answering = ServerHandshake()
    request = answering.receive_data(asking.data_to_send())
    assert isinstance(request, Request)
    watch.see(asking, answering, request, RequestedURL(request))
    offer = check_request(request)
    accepted = asking.receive_data(answering.accept(offer, subprotocol=SECRET) + b"\x81\x06s3cr3t")
    assert accepted is not None
    assert accepted.subprotocol == SECRET
    watch.see(offer, accepted, Offer(SECRET, (SECRET,), ()), Agreement(SECRET, ()))
