"""An engine over Redis or Valkey Streams: the feeds of several processes are one."""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import anyio

from wsstream.arguments import check_type
from wsstream.driver.signals import Latch, spawn
from wsstream.feeds.engine import Entry, Page
from wsstream.feeds.position import Position
from wsstream.feeds.redis_appends import Call, RedisAppends, text_of
from wsstream.feeds.redis_scripts import APPEND, READ

__all__ = ["RedisEngine"]

_CHECK_AFTER: Final = 1.0  # seconds; then the epoch is looked at again


class RedisEngine:
    """``async with RedisEngine(url) as engine``: keeps topics in Redis or Valkey. Takes the extra ``redis``.

    Two clients: one blocks in reading, the other one does all else. What is appended goes out in pipelines.
    When Redis cannot be reached, appending waits, and tries again without a duplicate. Leaving the block
    drops what was not appended yet.

    Args:
        url: such as ``redis://localhost:6379/0``, ``rediss://...`` or ``unix:///run/redis.sock``.
        prefix: of the keys in Redis.

    Raises:
        TypeError, ValueError, ImportError: an argument is wrong, or coredis is not installed.
        OSError: on entering: Redis cannot be reached.
    """

    def __init__(self, url: str, *, prefix: str = "wsstream") -> None:
        check_type("url", url, str, "a str")
        check_type("prefix", prefix, str, "a str")
        try:
            import coredis
            from coredis import exceptions
            from coredis.retry import NoRetryPolicy
        except ImportError as error:
            raise ImportError("RedisEngine needs coredis: pip install wsstream[redis]") from error
        self._prefix = prefix
        # It would retry by itself, which is done here with what was sent in view.
        from_url: Any = coredis.Redis.from_url
        self._new_client = partial(from_url, url, verify_version=False, retry_policy=NoRetryPolicy())
        self._new_client()  # checks the URL
        self._passing = (
            OSError, TimeoutError, exceptions.ConnectionError, exceptions.BusyLoadingError,
            exceptions.ReadOnlyError, exceptions.NoScriptError,
        )  # fmt: skip
        self._appends = RedisAppends(self._append_all, self._passing)
        self._seen: dict[str, Position] = {}  # what `after` returned last, while it was waiting
        self._check_at = -math.inf
        self._scope: anyio.CancelScope | None = None  # an engine is made without an event loop
        self._ready = Latch()  # or failed
        self._over = Latch()
        self._open = False
        self._failure: Exception | None = None
        self._reader: Any = None
        self._writer: Any = None

    def __repr__(self) -> str:
        return f"<RedisEngine {'open' if self._open else 'closed'}>"

    async def __aenter__(self) -> Self:
        # Not in this task: what leaves the block would come out of coredis' task groups in groups of its own.
        self._scope = anyio.CancelScope()
        spawn(partial(self._keep_clients, self._scope), "wsstream Redis", self._ended)
        try:
            await self._ready.wait()
        except BaseException:
            await self._stop()
            raise
        if self._failure is not None:
            raise OSError(f"Redis cannot be reached: {_first(self._failure)}") from self._failure
        self._open = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        self._open = False
        if self._scope is not None:
            self._scope.cancel()
        with anyio.CancelScope(shield=True):
            await self._over.wait()
        self._appends.fail(OSError("the engine was closed before"))

    async def _keep_clients(self, scope: anyio.CancelScope) -> None:
        """What coredis needs is open while this runs."""
        try:
            with scope:
                async with self._new_client() as self._reader, self._new_client() as self._writer:
                    await self._writer.ping()
                    self._ready.set()
                    await self._appends.run()
        except Exception as error:
            self._failure = error

    def _ended(self) -> None:
        self._ready.set()
        self._over.set()

    # -- appending -------------------------------------------------------------------------------

    def append(
        self, topic: str, data: str | bytes, *, key: str | None = None, keep: int = 10_000
    ) -> Awaitable[Position]:
        """Append an item: calls take effect in their order. Await the result for its position.

        If that is cancelled, the item is appended all the same.

        Raises:
            anyio.WouldBlock: 64 MiB wait to be appended.
            RuntimeError: the engine is not open.
            OSError: when it is awaited: Redis refused the item, or the engine was closed.
        """
        if not self._open:
            raise RuntimeError('this engine is not open: use "async with RedisEngine(url) as engine"')
        field, payload = ("t", data.encode()) if isinstance(data, str) else ("b", data)
        # Without a key of its own, sending it again could make a duplicate.
        name = f"k{key}" if key is not None else f"r{secrets.token_urlsafe(12)}"
        return self._appends.add(self._keys(topic), [secrets.token_hex(8), name, field, payload, str(keep)])

    async def _append_all(self, calls: Sequence[Call]) -> list[Any]:
        return await self._run(APPEND, calls)

    async def _run(self, script: str, calls: Sequence[Call]) -> list[Any]:
        """Run a script for each of `calls`, in one pipeline. The error of a call is in place of its result.

        Raises:
            Exception: one of `self._passing`: it has to be done again.
        """
        # The script is sent each time: so there is no moment at which a server does not know it.
        async with self._writer.pipeline(transaction=False, raise_on_error=False) as pipeline:
            loaded = pipeline.script_load(script)
            pending = [pipeline.evalsha(_sha(script), keys, arguments) for keys, arguments in calls]
        results = [await _result(each) for each in (loaded, *pending)]
        for result in results:
            if isinstance(result, self._passing):
                raise result
        return results[1:]

    # -- reading ---------------------------------------------------------------------------------

    async def after(
        self, topics: Mapping[str, Position | None], *, limit: int, wait: float
    ) -> dict[str, Page]:
        """As :meth:`Engine.after` says. If cancelled, nothing happened.

        Raises:
            OSError: Redis cannot be reached.
        """
        try:
            return await self._after(topics, limit, wait)
        except self._passing as error:
            self._check_at = -math.inf
            raise OSError(f"Redis cannot be reached: {error}") from error

    async def _after(self, topics: Mapping[str, Position | None], limit: int, wait: float) -> dict[str, Page]:
        now = anyio.current_time()
        if wait <= 0:
            return await self._read(topics, limit)
        if now >= self._check_at or any(self._seen.get(name) != since for name, since in topics.items()):
            pages = await self._read(topics, limit)
            self._check_at = now + _CHECK_AFTER
            self._note(topics, pages)
            if pages:
                return pages
        known = {name: since for name, since in topics.items() if since is not None}
        pages = await self._block(known, limit, wait)
        self._note(topics, pages)
        return pages

    def _note(self, topics: Mapping[str, Position | None], pages: Mapping[str, Page]) -> None:
        for name, since in topics.items():
            if (position := pages[name].position if name in pages else since) is not None:
                self._seen[name] = position
        for name in self._seen.keys() - topics.keys():
            del self._seen[name]

    async def _read(self, topics: Mapping[str, Position | None], limit: int) -> dict[str, Page]:
        """Read without waiting, whatever became of the epochs."""
        calls: list[Call] = []
        for name, since in topics.items():
            epoch, offset = ("", 0) if since is None else (since.epoch, since.offset)
            calls.append((self._keys(name), [secrets.token_hex(8), epoch, str(offset), str(limit)]))
        results = await self._run(READ, calls)
        pages = {}
        for (name, since), result in zip(topics.items(), results, strict=True):
            if isinstance(result, Exception):
                raise OSError(f"Redis did not give the items: {result}") from result
            epoch, newest, recovered, found = result
            entries = [_entry(identifier, fields) for identifier, fields in found]
            last = entries[-1].offset if entries else int(newest)
            if entries or not recovered or since is None or since.epoch != text_of(epoch):
                pages[name] = Page(entries, Position(text_of(epoch), last), bool(recovered))
        return pages

    async def _block(self, topics: Mapping[str, Position], limit: int, wait: float) -> dict[str, Page]:
        """Wait for something new. What is not of the known epoch, or not the next, is left to `_read`."""
        names = {self._keys(name)[0]: name for name in topics}
        found = await self._reader.xread(
            {stream: f"{topics[name].offset}-0" for stream, name in names.items()},
            count=limit,
            block=math.ceil(min(wait, _CHECK_AFTER) * 1000),
        )
        pages = {}
        for stream, items in (found or {}).items():
            name = names[text_of(stream)]
            since = topics[name]
            if any(text_of(item.field_values.get(b"e", b"")) != since.epoch for item in items):
                self._check_at = -math.inf
                continue
            entries = [_entry(item.identifier, item.field_values) for item in items]
            if entries[0].offset != since.offset + 1:
                self._check_at = -math.inf
                continue
            pages[name] = Page(entries, Position(since.epoch, entries[-1].offset))
        return pages

    def _keys(self, topic: str) -> list[str]:
        return [f"{self._prefix}:{{{topic}}}:{part}" for part in ("items", "state", "keys")]


async def _result(command: Any) -> Any:
    try:
        return await command
    except Exception as error:
        return error


def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _entry(identifier: Any, fields: Any) -> Entry:
    if not isinstance(fields, Mapping):
        fields = dict(zip(fields[::2], fields[1::2], strict=True))
    offset = int(text_of(identifier).partition("-")[0])
    text = fields.get(b"t")
    return Entry(offset, fields[b"b"] if text is None else text.decode())


def _first(error: Exception) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error
