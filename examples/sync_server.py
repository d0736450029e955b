"""Without async: a chat whose handlers run in threads. Ctrl-C ends it.

python examples/sync_server.py [PORT]
wsstream connect ws://127.0.0.1:8080/     # in two terminals
"""

import sys
import threading

from wsstream import ConnectionClosed
from wsstream.sync import WebSocketStream, serve

everybody: set[WebSocketStream] = set()
lock = threading.Lock()


def chat(ws: WebSocketStream) -> None:
    with lock:
        everybody.add(ws)
    try:
        for message in ws:
            with lock:
                others = everybody - {ws}
            for other in others:
                try:
                    other.send(message, timeout=1)  # one that does not read must not stop the chat
                except (ConnectionClosed, TimeoutError):
                    other.abort()
    finally:
        with lock:
            everybody.discard(ws)


with serve(chat, "127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8080) as server:
    print("serving", server.url, flush=True)
    server.serve_forever()
