"""The conversation of ``wsstream connect`` on a terminal.

With prompt_toolkit (extra ``cli``) lines can be edited, and the arrow keys bring back earlier ones; messages
that arrive are printed above the line that is being typed. Python's readline can do neither beside a
connection: `input` cannot be cancelled, and knows nothing of what others print. Without prompt_toolkit the
terminal's own editing has to do. The lines are kept in memory only: they may be secrets.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio

from wsstream.cli.report import Reporter
from wsstream.cli.stdio import Input, Output
from wsstream.cli.terminal import Escaper
from wsstream.errors import check_close_arguments
from wsstream.streams.reader import MessageReader
from wsstream.streams.websocket import WebSocketStream

__all__ = ["Console"]

_HELP = """\
/ping                    send a Ping and show how long the answer takes
/file PATH               send a file as one binary message
/close [CODE [REASON]]   close the connection (1000)
//TEXT                   send /TEXT"""

_MAX_LINE = 1 << 20  # characters


class Console:
    """Sends the lines that are typed, and shows the messages that arrive.

    Args:
        ws: the connection.
        output: the terminal.
        reporter: tells what is not a message.

    Attributes:
        close_with: code and reason for the Close frame, once `run` has returned.
    """

    def __init__(self, ws: WebSocketStream, output: Output, reporter: Reporter) -> None:
        self.close_with: tuple[int, str] = (1000, "")
        self._ws = ws
        self._output = output
        self._reporter = reporter
        self._print: Callable[[bytes], Awaitable[None]] = output.write

    async def show(self, message: MessageReader) -> None:
        """Print one message of the peer, escaped."""
        escaper = Escaper(text=message.kind == "text")
        await self._print(b"< ")
        async for chunk in message:
            await self._print(escaper.feed(chunk))
        await self._print(escaper.feed(b"", last=True) + b"\n")

    async def run(self) -> None:
        """Read and obey lines until the input ends or ``/close``.

        Raises:
            ConnectionClosed: the connection has ended.
        """
        try:
            import prompt_toolkit
        except ImportError:
            await self._read_plain()
        else:
            await self._read_edited(prompt_toolkit.PromptSession)

    async def _read_plain(self) -> None:
        source, held = Input(), bytearray()
        while chunk := await source.read():
            held += chunk
            *lines, held = held.split(b"\n")
            for line in lines:
                if not await self._obey(line.decode(errors="replace")):
                    return
            del held[_MAX_LINE:]

    async def _read_edited(self, session_type: Any) -> None:
        """Ask for lines in a thread with an event loop of its own, as prompt_toolkit knows asyncio only."""
        os.environ.setdefault("PROMPT_TOOLKIT_NO_CPR", "1")  # no question to the terminal that could show up
        from prompt_toolkit.patch_stdout import patch_stdout

        session = session_type("> ")
        with patch_stdout(raw=True):
            self._print = self._print_above
            try:
                while (line := await self._ask(session)) is not None:
                    if not await self._obey(line):
                        return
            finally:
                self._print = self._output.write

    async def _print_above(self, data: bytes) -> None:
        sys.stdout.write(data.decode(errors="replace"))
        await anyio.lowlevel.checkpoint()

    async def _ask(self, session: Any) -> str | None:
        """The next line; ``None`` at the end of the input. If cancelled, the terminal is as it was before."""
        prompt, line = _Prompt(session), None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(prompt.end_when_cancelled)
            line = await anyio.to_thread.run_sync(prompt.ask)  # not cancelled before it has ended
            tasks.cancel_scope.cancel()
        if prompt.interrupted:  # by the key: the terminal sends no signal while a line is edited
            os.kill(os.getpid(), signal.SIGINT)
            await anyio.sleep_forever()
        return line

    # -- commands ----------------------------------------------------------------------------

    async def _obey(self, line: str) -> bool:
        """Send a line, or do what it says; false: the connection is to be closed."""
        command, _, rest = line.strip().partition(" ")
        if not line.startswith("/"):
            await self._ws.send(line)
        elif line.startswith("//"):
            await self._ws.send(line[1:])
        elif command == "/ping":
            self._say(f"pong after {1000 * await self._ws.ping():.1f} ms")
        elif command == "/file":
            await self._send_file(rest.strip())
        elif command == "/close":
            return not self._parse_close(rest)
        else:
            self._say(_HELP)
        return True

    async def _send_file(self, path: str) -> None:
        try:
            (name,) = shlex.split(path)
            size = await self._ws.writable.send_file(name)
        except (OSError, ValueError) as error:
            self._say(f"/file: {error}")
        else:
            self._say(f"sent {size} bytes")

    def _parse_close(self, text: str) -> bool:
        code, _, reason = text.strip().partition(" ")
        try:
            self.close_with = (int(code or 1000), reason)
            check_close_arguments(*self.close_with)
        except ValueError as error:
            self._say(f"/close: {error}")
            return False
        return True

    def _say(self, text: str) -> None:
        self._reporter.note("console", text, message=text)


class _Prompt:
    """Asks for one line in a thread.

    Attributes:
        interrupted: it was ended by Ctrl-C.
    """

    def __init__(self, session: Any) -> None:
        self.interrupted = False
        self._session = session
        self._ended = False

    def ask(self) -> str | None:
        """Return the line, ``None`` if there is none. Blocks."""
        try:
            line: str = self._session.prompt(handle_sigint=False, pre_run=self._exit_if_ended)
        except EOFError:
            return None
        except KeyboardInterrupt:
            self.interrupted = True
            return None
        return line

    async def end_when_cancelled(self) -> None:
        """Wait until this is cancelled, and end the prompt then, also if it has yet to begin."""
        try:
            await anyio.sleep_forever()
        finally:
            self._ended = True
            loop = self._session.app.loop
            if loop is not None:
                with suppress(RuntimeError):  # it has just ended
                    loop.call_soon_threadsafe(self._exit_if_ended)

    def _exit_if_ended(self) -> None:
        app = self._session.app
        if self._ended and app.is_running and not app.is_done:
            app.exit(exception=EOFError())
