"""WebSockets inside ASGI applications.

Under uvicorn, ``--ws wsstream.asgi:UvicornProtocol`` gives any application its WebSockets from this
library, and :func:`streams` gives an endpoint the two streams. :func:`from_scope` gives them under any ASGI
server, over whole messages.
"""

from __future__ import annotations

from wsstream.asgi.scope import ClientDisconnected as ClientDisconnected
from wsstream.asgi.streams import from_scope as from_scope
from wsstream.asgi.streams import streams as streams
from wsstream.asgi.uvicorn import UvicornProtocol as UvicornProtocol
