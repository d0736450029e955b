"""Negotiating permessage-deflate (RFC 7692 section 7.1): the offer, the response, and the agreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from wsstream.opening.extensions import Extension
from wsstream.protocol.deflate import Agreed, Deflate

__all__ = ["accept_offer", "confirm_response", "make_offer"]

_NAME: Final = "permessage-deflate"
_WINDOWS: Final[dict[str | None, int]] = {
    str(bits): bits for bits in range(8, 16)
}  # section 7.1.2: no leading zeros


@dataclass(slots=True)
class _Params:
    """The parameters of an offer or of a response. ``None`` means that the parameter was absent."""

    server_no_takeover: bool = False
    client_no_takeover: bool = False
    server_window: int | None = None
    client_window: int | None = None
    client_window_offered: bool = False  # the parameter was present, with or without a value


def make_offer(options: Deflate) -> Extension:
    """The offer of a client with `options`."""
    params: list[tuple[str, str | None]] = []
    if not options.peer_context_takeover:
        params.append(("server_no_context_takeover", None))
    if not options.context_takeover:
        params.append(("client_no_context_takeover", None))
    if options.peer_window_bits < 15:
        params.append(("server_max_window_bits", str(options.peer_window_bits)))
    # Section 7.1.2.2: without a value it only lets the server ask for a smaller window.
    params.append(("client_max_window_bits", str(options.window_bits) if options.window_bits < 15 else None))
    return Extension(_NAME, tuple(params))


def accept_offer(options: Deflate, offers: Sequence[Extension]) -> tuple[Extension, Agreed] | None:
    """A server's response to the first offer that is valid and can be met; ``None`` declines all."""
    for offer in offers:
        params = _parse(offer, response=False) if offer.name == _NAME else None
        answer = None if params is None else _answer(options, params)
        if answer is not None:
            return answer
    return None


def _answer(options: Deflate, offer: _Params) -> tuple[Extension, Agreed] | None:
    send_window = min(options.window_bits, offer.server_window or 15)
    if send_window < 9:
        return None  # zlib cannot compress with a window of 2**8 bytes
    receive_window = min(options.peer_window_bits, offer.client_window or 15)
    if receive_window < 15 and not offer.client_window_offered:
        return None  # section 7.1.2.2: without it in the offer, the server must not ask for a smaller window
    params: list[tuple[str, str | None]] = []
    send_takeover = options.context_takeover and not offer.server_no_takeover
    receive_takeover = options.peer_context_takeover and not offer.client_no_takeover
    if not send_takeover:
        params.append(("server_no_context_takeover", None))
    if not receive_takeover:
        params.append(("client_no_context_takeover", None))
    if send_window < 15 or offer.server_window is not None:
        params.append(("server_max_window_bits", str(send_window)))
    if receive_window < 15:
        params.append(("client_max_window_bits", str(receive_window)))
    agreed = Agreed(options, send_window, send_takeover, receive_window, receive_takeover)
    return Extension(_NAME, tuple(params)), agreed


def confirm_response(options: Deflate, accepted: Sequence[Extension]) -> Agreed | None:
    """Check the extensions that the server accepted; ``None`` means no compression.

    Raises:
        ValueError: the response is not a valid answer to `make_offer` (section 7.1).
    """
    if not accepted:
        return None
    if len(accepted) > 1 or accepted[0].name != _NAME:
        raise ValueError("the server accepted extensions that do not go together")
    params = _parse(accepted[0], response=True)
    if params is None:
        raise ValueError("the parameters of permessage-deflate are not valid")
    if not options.peer_context_takeover and not params.server_no_takeover:
        raise ValueError("the server did not accept server_no_context_takeover")
    receive_window = params.server_window or 15
    if receive_window > options.peer_window_bits:
        raise ValueError("the server's window is larger than the one that was asked for")
    send_window = min(options.window_bits, params.client_window or 15)
    if params.client_window is not None and params.client_window > options.window_bits:
        raise ValueError("the server asks for a larger window than the one that was offered")
    if send_window < 9:
        raise ValueError("the server asks for a window of 2**8 bytes, with which zlib cannot compress")
    send_takeover = options.context_takeover and not params.client_no_takeover
    return Agreed(options, send_window, send_takeover, receive_window, not params.server_no_takeover)


def _parse(extension: Extension, *, response: bool) -> _Params | None:
    """The parameters, or ``None`` if one is unknown, occurs twice or has a wrong value (section 7)."""
    if len({name for name, _ in extension.params}) != len(extension.params):
        return None
    params = _Params()
    for name, value in extension.params:
        match name:
            case "server_no_context_takeover" if value is None:
                params.server_no_takeover = True
            case "client_no_context_takeover" if value is None:
                params.client_no_takeover = True
            case "server_max_window_bits" if value in _WINDOWS:
                params.server_window = _WINDOWS[value]
            case "client_max_window_bits" if value in _WINDOWS or (value is None and not response):
                params.client_window = None if value is None else _WINDOWS[value]
                params.client_window_offered = True
            case _:
                return None
    return params
