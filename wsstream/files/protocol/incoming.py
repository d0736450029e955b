"""What a session does with each message that arrives.

`RECEIVE` says which may arrive in which state; this module looks each one up there before all else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from wsstream.files.errors import TransferError
from wsstream.files.protocol.link import Link
from wsstream.files.protocol.messages import (
    VERSION,
    Abort,
    Accept,
    Ack,
    Bye,
    Cancel,
    Delete,
    Done,
    End,
    Error,
    Get,
    Hello,
    List,
    Message,
    Offer,
    Reject,
)
from wsstream.files.protocol.receiving import Receiving
from wsstream.files.protocol.states import CROSSING, RECEIVE, REQUESTS, SERVES, State

__all__ = ["OPS", "receive_data", "receive_message"]

OPS: Final = {Get: "get", List: "list", Delete: "delete", Offer: "put"}
"""What `Hello.ops` calls each request."""

_OWES: Final = {
    Get: State.REQUESTED,
    List: State.LOOKING,
    Delete: State.DELETING,
    Offer: State.DECIDING,
}
_IDLE, _CANCELLING = State.IDLE, State.CANCELLING


def receive_message(link: Link, message: Any, now: float) -> None:
    """A message came.

    Raises:
        TransferError: it breaks the protocol (``protocol``), or shows that the transfer cannot succeed.
    """
    kind = type(message)
    if kind is Error and message.id is None:
        link.end_by_peer(TransferError.from_peer(message.code, message.reason, message.retry))
    elif kind is Hello or link.state is State.HELLO:
        _look_up(link, kind)
        _receive_hello(link, message, now)
    elif kind is Bye:
        link.peer_bye = message
        link.tell(message)
    elif message.id == link.id:
        _receive_active(link, message, now)
    elif kind in REQUESTS and not _is_ours(link, message.id):
        _receive_request(link, message, now)
    elif not _is_over(link, message.id):
        raise TransferError("protocol", f"{_name(kind)} has an id that no request had")


def receive_data(link: Link, size: int) -> bool:
    """A binary message came. Returns whether it is part of the file.

    Raises:
        TransferError: it breaks the protocol (``protocol``), or the file is too large.
    """
    _look_up(link, bytes)
    if link.receiving is None or link.grant is None:
        raise TransferError("protocol", "data came before it was accepted")
    if link.state is _CANCELLING:
        link.grant.receive(size)
        return False
    link.receiving.receive_data(size)
    link.move(State.RECEIVING)
    return True


def _name(kind: type[Any]) -> str:
    return "data" if kind is bytes else kind.__name__.lower()


def _look_up(link: Link, kind: type[Any]) -> tuple[State, ...]:
    if (targets := RECEIVE.get((link.state, kind))) is None:
        raise TransferError("protocol", f"{_name(kind)} is not possible in state {link.state.name}")
    return targets


def _is_ours(link: Link, id: int) -> bool:
    return id % 2 == link.next_id % 2


def _is_over(link: Link, id: int) -> bool:
    return id < link.next_id if _is_ours(link, id) else id <= link.last_peer_id


def _receive_hello(link: Link, hello: Hello, now: float) -> None:
    if hello.v != VERSION:
        link.fail(TransferError("unsupported", f"version {VERSION} is spoken here"), now)
        return
    link.peer = hello
    link.tell(hello)
    link.move(_IDLE)


# -- a new request of the peer ---------------------------------------------------------------------


def _receive_request(link: Link, message: Any, now: float) -> None:
    if message.id <= link.last_peer_id:
        raise TransferError("protocol", "the ids of requests must grow")
    link.last_peer_id = message.id
    if link.state in CROSSING:
        if link.client:
            return
        link.take_back(now)
    if link.state is State.CLOSED:  # this end has said Bye, and its own request was the last
        return
    _look_up(link, type(message))
    link.id = message.id
    link.state = _OWES[type(message)]
    try:
        _check_request(link, message)
        if type(message) is Offer:
            link.receiving = Receiving(message, link.hello.max_size)
    except TransferError as error:
        link.reject(error, now)
    else:
        link.tell(message)


def _check_request(link: Link, message: Message) -> None:
    if (op := OPS[type(message)]) not in link.hello.ops:
        raise TransferError("denied", f"`{op}` is not allowed here")


# -- a message about the active request --------------------------------------------------------------


def _receive_active(link: Link, message: Any, now: float) -> None:
    targets = _look_up(link, type(message))
    if link.state is _CANCELLING:
        link.move(targets[0])
    elif (receive := _BY_KIND.get(type(message))) is not None:
        receive(link, message, now)
    else:
        link.tell(message)
        link.move(targets[0])


def _receive_accept(link: Link, accept: Accept, now: float) -> None:
    assert link.sending is not None
    assert link.peer is not None
    link.sending.receive_accept(accept, link.peer)
    link.tell(accept)
    link.move(State.SENDING if accept.check is None else State.CHECKING)


def _receive_ack(link: Link, ack: Ack, now: float) -> None:
    assert link.sending is not None
    link.sending.receive_ack(ack)
    if link.state is not State.OFFERED:
        link.tell(ack)


def _receive_done(link: Link, done: Done, now: float) -> None:
    if link.sending is not None:
        link.sending.receive_done(done)
    elif done.digest is not None:
        raise TransferError("protocol", "done is about a file that was sent, not about one that is deleted")
    link.tell(done)
    link.move(_IDLE)


def _receive_cancel(link: Link, cancel: Cancel, now: float) -> None:
    link.post(Abort(cancel.id, cancel.code, "", cancel.keep), now)
    link.stop(TransferError.from_peer(cancel.code, cancel.reason), cancel.keep)


def _receive_abort(link: Link, abort: Abort, now: float) -> None:
    link.stop(TransferError.from_peer(abort.code, abort.reason), abort.keep)


def _receive_reject(link: Link, reject: Reject, now: float) -> None:
    link.stop(TransferError.from_peer(reject.code, reject.reason, reject.retry), True)


def _receive_error(link: Link, error: Error, now: float) -> None:
    if link.state in SERVES:
        link.post(Abort(link.id, error.code, "", True), now)
    link.stop(TransferError.from_peer(error.code, error.reason, error.retry), True)


def _receive_offer(link: Link, offer: Offer, now: float) -> None:
    """The answer to Get, or the second offer of a transfer whose check failed."""
    if link.receiving is not None and not (offer.fresh and offer.name == link.receiving.offer.name):
        raise TransferError("protocol", "a second offer must have the same name, and `fresh`")
    link.move(State.DECIDING)
    link.receiving = Receiving(offer, link.hello.max_size)
    link.tell(offer)


def _receive_end(link: Link, end: End, now: float) -> None:
    assert link.receiving is not None
    link.receiving.receive_end(end)
    link.tell(end)
    link.move(State.VERIFYING)


_BY_KIND: Final[dict[type[Any], Callable[[Link, Any, float], None]]] = {
    Accept: _receive_accept,
    Ack: _receive_ack,
    Done: _receive_done,
    Cancel: _receive_cancel,
    Abort: _receive_abort,
    Reject: _receive_reject,
    Error: _receive_error,
    Offer: _receive_offer,
    End: _receive_end,
}
