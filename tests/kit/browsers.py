"""Real browsers without a window: Chromium by its DevTools protocol, Firefox by WebDriver BiDi.

Both are driven over a WebSocket of wsstream's own client::

    async with chromium(tmp_path) as page:
        await page.open(url)
        await page.run("document.title")
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import anyio
from kit.programs import find_program

import wsstream
from wsstream import WebSocketStream

__all__ = ["BROWSERS", "Chromium", "Firefox", "Page", "chromium", "firefox", "until"]

TIME_LIMIT = 60  # seconds for one answer
START_LIMIT = 60
MAX_ANSWER = 64 << 20  # bytes; a screenshot

_CHROMIUM = (
    "chromium",
    "--headless=new",
    "--no-sandbox",  # does not work for root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--enable-precise-memory-info",
    "--remote-debugging-port=0",
)
_FIREFOX = ("firefox-esr", "--headless", "--no-remote", "--remote-debugging-port=0")
_PREFERENCES = """
user_pref("remote.prefs.recommended", true);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("browser.download.useDownloadDir", true);
user_pref("browser.download.folderList", 2);
user_pref("browser.download.dir", "{downloads}");
user_pref("browser.download.always_ask_before_handling_new_types", false);
"""


class Page(Protocol):
    """One tab."""

    pid: int

    async def open(self, url: str) -> None:
        """Open a URL, and wait until it is loaded."""

    async def before_load(self, script: str) -> None:
        """Run `script` in each page from now on, before its own scripts."""

    async def run(self, script: str) -> Any:
        """Evaluate an expression, as in a click's handler; a promise is awaited."""

    async def choose(self, selector: str, *files: Path) -> None:
        """Choose files in an ``<input type=file>``."""


async def until(page: Page, condition: str, seconds: float = TIME_LIMIT) -> Any:
    """Wait until an expression is true; return its value."""
    last = None
    with anyio.move_on_after(seconds):
        while True:
            if last := await page.run(condition):
                return last
            await anyio.sleep(0.1)
    shown = await page.run("document.body.innerText")
    raise AssertionError(f"{condition} is not true after {seconds} s: {last}; the page says:\n{shown}")


@asynccontextmanager
async def _process(command: list[str], mark: bytes, folder: Path) -> AsyncIterator[tuple[str, int]]:
    """Run a browser; yield the URL that it prints after `mark`, and its process."""
    log = folder / "browser.txt"
    # Chromium puts a socket into it, whose path must be short.
    scratch = tempfile.TemporaryDirectory(prefix="wss-", dir="/tmp", ignore_cleanup_errors=True)
    own = {"HOME": str(folder), "TMPDIR": scratch.name, "MOZ_CRASHREPORTER_DISABLE": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | own,
            start_new_session=True,
        )
    try:
        pattern = re.compile(re.escape(mark) + rb" on (ws://\S+)")
        with anyio.fail_after(START_LIMIT):
            while not (found := pattern.search(log.read_bytes())):
                assert process.poll() is None, log.read_text(errors="replace")
                await anyio.sleep(0.05)
        yield found[1].decode(), process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        scratch.cleanup()


class _Commands:
    """Sends commands and waits for their answers; events are dropped."""

    def __init__(self, ws: WebSocketStream, extra: dict[str, Any]) -> None:
        self.extra = extra  # in each command
        self._ws = ws
        self._id = 0
        self._answers: dict[int, Any] = {}
        self._waiting: dict[int, anyio.Event] = {}

    async def read(self) -> None:
        with suppress(wsstream.ConnectionClosed):
            async for message in self._ws:
                answer = json.loads(message)
                if (id := answer.get("id")) in self._waiting:
                    self._answers[id] = answer
                    self._waiting.pop(id).set()

    async def __call__(self, method: str, **params: Any) -> Any:
        self._id += 1
        id = self._id
        answered = self._waiting[id] = anyio.Event()
        await self._ws.send(json.dumps({"id": id, "method": method, "params": params, **self.extra}))
        with anyio.fail_after(TIME_LIMIT):
            await answered.wait()
        answer = self._answers.pop(id)
        assert "result" in answer, f"{method}: {answer}"
        return answer["result"]


@asynccontextmanager
async def _commands(url: str) -> AsyncIterator[_Commands]:
    async with wsstream.connect(url, max_message_size=MAX_ANSWER, ping_interval=None) as ws:
        commands = _Commands(ws, {})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(commands.read)
            yield commands
            tasks.cancel_scope.cancel()


class Chromium:
    """A tab of Chromium. `call` makes a call of the DevTools protocol."""

    name = "chromium"

    def __init__(self, call: _Commands, pid: int) -> None:
        self.call = call
        self.pid = pid

    async def open(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await until(
            self, f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'"
        )

    async def before_load(self, script: str) -> None:
        await self.call("Page.addScriptToEvaluateOnNewDocument", source=script)

    async def run(self, script: str) -> Any:
        answer = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, f"{script}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    async def choose(self, selector: str, *files: Path) -> None:
        root = await self.call("DOM.getDocument")
        node = await self.call("DOM.querySelector", nodeId=root["root"]["nodeId"], selector=selector)
        await self.call("DOM.setFileInputFiles", nodeId=node["nodeId"], files=[str(file) for file in files])

    async def screenshot(
        self, path: Path, *, width: int, height: int, scale: float = 1, dark: bool = False
    ) -> None:
        """Write a PNG of the page, at a size in CSS pixels."""
        await self.look(width=width, height=height, scale=scale, dark=dark)
        shot = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))

    async def heap(self) -> int:
        """Bytes that the page's scripts hold, without what is only yet to be collected."""
        await self.call("HeapProfiler.collectGarbage")
        size: int = await self.run("performance.memory.usedJSHeapSize")
        return size

    async def look(self, *, width: int, height: int, scale: float = 1, dark: bool = False) -> None:
        """Have the page look as on a screen of this size."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        await self.call("Emulation.setTouchEmulationEnabled", enabled=width < 600)
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[feature])


@asynccontextmanager
async def chromium(folder: Path, *options: str) -> AsyncIterator[Chromium]:
    """Run Chromium with a profile in `folder`; yield a tab."""
    command = [find_program(_CHROMIUM[0]), *_CHROMIUM[1:], f"--user-data-dir={folder / 'chromium'}", *options]
    async with _process(command, b"DevTools listening", folder) as (url, pid), _commands(url) as call:
        target = (await call("Target.createTarget", url="about:blank"))["targetId"]
        session = await call("Target.attachToTarget", targetId=target, flatten=True)
        call.extra = {"sessionId": session["sessionId"]}
        await call("Page.enable")
        yield Chromium(call, pid)


class Firefox:
    """A tab of Firefox."""

    name = "firefox"

    def __init__(self, call: _Commands, context: str, pid: int) -> None:
        self._call = call
        self._context = context
        self.pid = pid

    async def open(self, url: str) -> None:
        await self._call("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def before_load(self, script: str) -> None:
        await self._call("script.addPreloadScript", functionDeclaration=f"() => {{ {script} }}")

    async def run(self, script: str) -> Any:
        answer = await self._call(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({script})) ?? 'null')()",
            target={"context": self._context},
            awaitPromise=True,
            userActivation=True,
        )
        assert answer["type"] == "success", f"{script}: {answer}"
        return json.loads(answer["result"]["value"])

    async def choose(self, selector: str, *files: Path) -> None:
        found = await self._call(
            "browsingContext.locateNodes", context=self._context, locator={"type": "css", "value": selector}
        )
        element = {"sharedId": found["nodes"][0]["sharedId"]}
        names = [str(file) for file in files]
        await self._call("input.setFiles", context=self._context, element=element, files=names)


@asynccontextmanager
async def firefox(folder: Path) -> AsyncIterator[Firefox]:
    """Run Firefox with a profile in `folder`, and downloads in ``folder/downloads``; yield a tab."""
    profile, downloads = folder / "firefox", folder / "downloads"
    profile.mkdir()
    downloads.mkdir()
    (profile / "user.js").write_text(_PREFERENCES.format(downloads=downloads))
    command = [find_program(_FIREFOX[0]), *_FIREFOX[1:], "--profile", str(profile)]
    async with (
        _process(command, b"WebDriver BiDi listening", folder) as (url, pid),
        _commands(f"{url}/session") as call,
    ):
        await call("session.new", capabilities={})
        tree = await call("browsingContext.getTree")
        yield Firefox(call, tree["contexts"][0]["context"], pid)


BROWSERS: dict[str, Callable[[Path], Any]] = {"chromium": chromium, "firefox": firefox}
