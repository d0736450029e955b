"""Sending an iterable of chunks as one message, as they come."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from wsstream.codec.events import Kind
from wsstream.streams.writer import MessageWriter

__all__ = ["AnyChunks", "Chunk", "check_kind", "is_chunks", "kind_of_chunk", "send_chunks"]

Chunk: TypeAlias = str | bytes | bytearray | memoryview
AnyChunks: TypeAlias = AsyncIterable[Chunk] | Iterable[Chunk]

if TYPE_CHECKING:
    NewMessage: TypeAlias = Callable[[Kind], AbstractAsyncContextManager[MessageWriter]]


def is_chunks(item: object) -> TypeGuard[AnyChunks]:
    """Whether `item`, which is not a ``str``, is a message in chunks."""
    if isinstance(item, bytes | bytearray | memoryview | Mapping):
        return False
    return isinstance(item, AsyncIterable | Iterable)


async def send_chunks(new_message: NewMessage, chunks: AnyChunks) -> None:
    """Send `chunks` as one message: `Writable.send` has the contract.

    Args:
        new_message: begins a message of a kind; `Writable.message`.
    """
    source: AsyncIterator[Chunk] = aiter(chunks) if isinstance(chunks, AsyncIterable) else _Stepwise(chunks)
    try:
        try:
            first = await anext(source)
        except StopAsyncIteration:
            return
        async with new_message(kind_of_chunk(first)) as message:
            await message.send(first)
            async for chunk in source:
                check_kind(first, chunk)
                await message.send(chunk)
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()


def check_kind(first: object, chunk: object) -> None:
    """Raise TypeError, unless both are chunks of the same kind of message."""
    if kind_of_chunk(chunk) != kind_of_chunk(first):
        types = f"{type(first).__name__} and {type(chunk).__name__}"
        raise TypeError(f"the chunks of one message must be of one type, got {types}")


def kind_of_chunk(chunk: object) -> Kind:
    """The kind of the message that begins with `chunk`; TypeError: it is no chunk of a message."""
    if isinstance(chunk, str):
        return "text"
    if isinstance(chunk, bytes | bytearray | memoryview):
        return "binary"
    raise TypeError(f"the chunks of a message must be str or bytes-like, got {type(chunk).__name__}")


class _Stepwise(AsyncIterator[Chunk]):
    """An iterable's chunks, for ``async for``."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        self._chunks = iter(chunks)

    async def __anext__(self) -> Chunk:
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration
