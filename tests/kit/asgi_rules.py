"""ASGI's rules for WebSockets as a table: an application, a client, and what both must see."""

from __future__ import annotations

from typing import Any

from kit.asgi import Case

__all__ = ["RULES", "STATUS_500"]

ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close"}
CONNECT = ("connect",)
STATUS_500 = (500, b"Internal Server Error")
SANSIO, WSPROTO = "websockets-sansio", "wsproto"

BROKEN = "the handshake broke"

# What differs under uvicorn's own protocols, and why.
NO_CLOSE = ("it drops TCP without a Close frame", {"client_sees": [{}, (1006, "")]})
ABNORMAL_IS_NO_CODE = (
    "an end without a Close frame is told as 1005, which stands for a Close frame without a code",
    {"app_sees": [CONNECT, "ok", ("disconnect", 1005, "")]},
)
TWO_DISCONNECTS = (
    "the end of TCP is a second disconnect",
    {"app_sees": [CONNECT, "ok", ("disconnect", 1000, ""), ("disconnect", 1005, "")]},
)


def send(data: str | bytes) -> dict[str, Any]:
    return {"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data}


def close(code: int, reason: str = "") -> dict[str, Any]:
    return {"type": "websocket.close", "code": code, "reason": reason}


def start(status: int, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "websocket.http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "websocket.http.response.body", "body": data, "more_body": more}


RULES: dict[str, Case] = {
    "messages pass both ways": Case(
        ["receive", ACCEPT, "receive", send("a"), "receive", send(b"b"), "receive"],
        ["x", "receive", b"y", "receive", (4001, "bye")],
        [CONNECT, "ok", ("receive", "x"), "ok", ("receive", b"y"), "ok", ("disconnect", 4001, "bye")],
        [{}, "a", b"b", (4001, "bye")],
    ),
    "accepting may come before the first receive": Case(
        [ACCEPT, "receive", "receive", "receive"],
        ["x", (1000, "")],
        ["ok", CONNECT, ("receive", "x"), ("disconnect", 1000, "")],
        [{}, (1000, "")],
    ),
    "accepting chooses a subprotocol and adds header fields": Case(
        ["receive", {**ACCEPT, "subprotocol": "b", "headers": [(b"x-one", b"1")]}, "receive"],
        [(1000, "")],
        [CONNECT, "ok", ("disconnect", 1000, "")],
        [{"sec-websocket-protocol": "b", "x-one": "1"}, (1000, "")],
        subprotocols=("a", "b"),
    ),
    "closing before accepting is 403": Case(
        ["receive", CLOSE, "receive"], [], [CONNECT, "ok", ("disconnect", 1006, "")], [(403, b"")]
    ),
    "a response may deny": Case(
        [
            "receive",
            start(401, (b"x-why", b"token"), (b"content-type", b"text/plain"), (b"content-length", b"6")),
            body(b"log ", more=True),
            body(b"in"),
            "receive",
        ],
        [],
        [CONNECT, "ok", "ok", "ok", ("disconnect", 1006, "")],
        [(401, b"log in")],
    ),
    "nothing but its body follows a response that denies": Case(
        ["receive", start(401), ACCEPT, body(b"no")],
        [],
        [CONNECT, "ok", "RuntimeError", "ok"],
        [(401, b"no")],
    ),
    "nothing follows a response that has denied": Case(
        ["receive", start(401), body(b"no"), ACCEPT],
        [],
        [CONNECT, "ok", "ok", "RuntimeError"],
        [(401, b"no")],
    ),
    "sending before accepting is an error": Case(
        ["receive", send("x"), CLOSE], [], [CONNECT, "RuntimeError", "ok"], [(403, b"")]
    ),
    "accepting twice is an error": Case(
        ["receive", ACCEPT, ACCEPT, CLOSE],
        [],
        [CONNECT, "ok", "RuntimeError", "ok"],
        [{}, (1000, "")],
    ),
    "a message that is not known is an error": Case(
        ["receive", {"type": "websocket.other"}, ACCEPT, {"type": "websocket.other"}, CLOSE],
        [],
        [CONNECT, "RuntimeError", "ok", "RuntimeError", "ok"],
        [{}, (1000, "")],
    ),
    "a message without bytes and text is an error": Case(
        ["receive", ACCEPT, {"type": "websocket.send"}, CLOSE],
        [],
        [CONNECT, "ok", "ValueError", "ok"],
        [{}, (1000, "")],
        differs={
            SANSIO: ("it sends nothing, and says nothing", {"app_sees": [CONNECT, "ok", "ok", "ok"]}),
            WSPROTO: ("another error", {"app_sees": [CONNECT, "ok", "another error", "ok"]}),
        },
    ),
    "a subprotocol that was not offered is an error": Case(
        ["receive", {**ACCEPT, "subprotocol": "b"}, CLOSE],
        [],
        [CONNECT, "ValueError", "ok"],
        [(403, b"")],
        subprotocols=("a",),
        differs={
            SANSIO: (
                "it sends the subprotocol, and the client has to fail the handshake",
                {"app_sees": [CONNECT, "ok", "ok"], "client_sees": [BROKEN]},
            ),
            WSPROTO: (
                "the connection breaks, so that the application cannot go on",
                {"app_sees": [CONNECT, "another error", "OSError"], "client_sees": [BROKEN]},
            ),
        },
    ),
    "the server closes with 1000 by default": Case(
        ["receive", ACCEPT, CLOSE, "receive"],
        [],
        [CONNECT, "ok", "ok", ("disconnect", 1000, "")],
        [{}, (1000, "")],
    ),
    "the server closes with a code and a reason": Case(
        ["receive", ACCEPT, close(4002, "why"), "receive"],
        [],
        [CONNECT, "ok", "ok", ("disconnect", 4002, "why")],
        [{}, (4002, "why")],
    ),
    "a code that no Close frame may carry is an error": Case(
        ["receive", ACCEPT, close(1005), CLOSE],
        [],
        [CONNECT, "ok", "ValueError", "ok"],
        [{}, (1000, "")],
        differs={
            SANSIO: ("another error", {"app_sees": [CONNECT, "ok", "another error", "ok"]}),
            WSPROTO: ("it sends 1000 instead", {"app_sees": [CONNECT, "ok", "ok", "RuntimeError"]}),
        },
    ),
    "sending after closing is an error": Case(
        ["receive", ACCEPT, CLOSE, send("x")],
        [],
        [CONNECT, "ok", "ok", "RuntimeError"],
        [{}, (1000, "")],
    ),
    "closing twice is an error": Case(
        ["receive", ACCEPT, CLOSE, CLOSE],
        [],
        [CONNECT, "ok", "ok", "RuntimeError"],
        [{}, (1000, "")],
    ),
    "a client closes without a code": Case(
        ["receive", ACCEPT, "receive"],
        [(None, "")],
        [CONNECT, "ok", ("disconnect", 1005, "")],
        [{}, (1005, "")],
    ),
    "a client drops the connection": Case(
        ["receive", ACCEPT, "receive"],
        ["drop"],
        [CONNECT, "ok", ("disconnect", 1006, "")],
        [{}],
        differs={
            SANSIO: ABNORMAL_IS_NO_CODE,
            WSPROTO: ABNORMAL_IS_NO_CODE,
        },
    ),
    "sending after the client has closed is an OSError": Case(
        ["receive", ACCEPT, "receive", send("x")],
        [(1000, "")],
        [CONNECT, "ok", ("disconnect", 1000, ""), "OSError"],
        [{}, (1000, "")],
    ),
    "closing after the client has closed does nothing": Case(
        ["receive", ACCEPT, "receive", CLOSE],
        [(1000, "")],
        [CONNECT, "ok", ("disconnect", 1000, ""), "ok"],
        [{}, (1000, "")],
        differs={
            WSPROTO: (
                "closing is an error, as sending is",
                {"app_sees": [CONNECT, "ok", ("disconnect", 1000, ""), "OSError"]},
            ),
        },
    ),
    "nothing is received after disconnect": Case(
        ["receive", ACCEPT, "receive", "receive"],
        [(1000, "")],
        [CONNECT, "ok", ("disconnect", 1000, ""), "RuntimeError"],
        [{}, (1000, "")],
        differs={
            SANSIO: TWO_DISCONNECTS,
            WSPROTO: TWO_DISCONNECTS,
        },
    ),
    "a message above the limit closes with 1009": Case(
        ["receive", ACCEPT, "receive"],
        ["x" * (1 << 20) + "y"],
        [CONNECT, "ok", ("disconnect", 1009, "")],
        [{}, (1009, "")],
    ),
    "an application that ends without an answer is 500": Case(["receive"], [], [CONNECT], [STATUS_500]),
    "an application that fails before its answer is 500": Case(
        ["receive", "raise"], [], [CONNECT], [STATUS_500]
    ),
    "an application that fails in its answer is 500": Case(
        ["receive", start(401), "raise"],
        [],
        [CONNECT, "ok"],
        [STATUS_500],
        differs={
            SANSIO: ("it closes the connection without a response", {"client_sees": [BROKEN]}),
            WSPROTO: ("it had sent the head of the response at once", {"client_sees": [(401, b"")]}),
        },
    ),
    "an application that ends closes with 1000": Case(
        ["receive", ACCEPT],
        [],
        [CONNECT, "ok"],
        [{}, (1000, "")],
        differs={
            SANSIO: NO_CLOSE,
            WSPROTO: NO_CLOSE,
        },
    ),
    "an application that fails closes with 1011": Case(
        ["receive", ACCEPT, "raise"],
        [],
        [CONNECT, "ok"],
        [{}, (1011, "")],
        differs={
            SANSIO: NO_CLOSE,
            WSPROTO: NO_CLOSE,
        },
    ),
}
