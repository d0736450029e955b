"""The public names, for `wsstream`, which loads this module when one of them is first used.

``import X as X`` tells type checkers that X is meant for users.
"""

from wsstream.client.attempts import Target as Target
from wsstream.client.connect import connect as connect
from wsstream.client.reconnect import reconnect as reconnect
from wsstream.close_codes import CloseCode as CloseCode
from wsstream.driver.flow import FlowControl as FlowControl
from wsstream.errors import ClosedLocally as ClosedLocally
from wsstream.errors import CloseInfo as CloseInfo
from wsstream.errors import ConnectionBroken as ConnectionBroken
from wsstream.errors import ConnectionClosed as ConnectionClosed
from wsstream.errors import HandshakeError as HandshakeError
from wsstream.errors import HandshakeRejected as HandshakeRejected
from wsstream.errors import InvalidURL as InvalidURL
from wsstream.errors import InvalidUTF8 as InvalidUTF8
from wsstream.errors import KeepaliveTimeout as KeepaliveTimeout
from wsstream.errors import MessageAborted as MessageAborted
from wsstream.errors import MessageTooBig as MessageTooBig
from wsstream.errors import ProtocolViolation as ProtocolViolation
from wsstream.errors import ProxyError as ProxyError
from wsstream.errors import ReceiveTimeout as ReceiveTimeout
from wsstream.errors import StreamEnded as StreamEnded
from wsstream.errors import WebSocketError as WebSocketError
from wsstream.opening.decision import Accept as Accept
from wsstream.opening.headers import Headers as Headers
from wsstream.opening.http import Request as Request
from wsstream.opening.http import Response as Response
from wsstream.opening.retry import Backoff as Backoff
from wsstream.protocol.arrival import ReceiveRate as ReceiveRate
from wsstream.protocol.deflate import Deflate as Deflate
from wsstream.routing.router import Router as Router
from wsstream.server.accept import accept as accept
from wsstream.server.serve import serve as serve
from wsstream.server.server import Server as Server
from wsstream.streams.condition import ConnectionState as ConnectionState
from wsstream.streams.join import join as join
from wsstream.streams.pipe import pipe as pipe
from wsstream.streams.pipe import proxy as proxy
from wsstream.streams.readable import Readable as Readable
from wsstream.streams.reader import MessageReader as MessageReader
from wsstream.streams.typed import TypedStream as TypedStream
from wsstream.streams.typed import typed as typed
from wsstream.streams.websocket import Statistics as Statistics
from wsstream.streams.websocket import WebSocketStream as WebSocketStream
from wsstream.streams.writable import Writable as Writable
from wsstream.streams.writer import MessageWriter as MessageWriter
from wsstream.transports.activation import ActivatedSocket as ActivatedSocket
from wsstream.transports.activation import listen_fds as listen_fds
