"""The page in real browsers: uploads through lost connections and reloads, downloads, memory."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from kit import processes
from kit.browsers import BROWSERS, Chromium, Page, until
from kit.disks import slow_disk_code
from kit.programs import free_port

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.time_limit(180),
    pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True),  # of the browser's driver
]

MIB = 1024 * 1024
SIZE = 24 * MIB
TIME_LIMIT = 120  # seconds

WATCH = """
    window.problems = [];
    addEventListener("error", (event) => problems.push(event.message));
    addEventListener("unhandledrejection", (event) => problems.push(String(event.reason)));
    addEventListener("securitypolicyviolation", (event) => problems.push(event.violatedDirective));
"""
ONLY_CLASSIC = "delete window.WebSocketStream;"
# Dialogs cannot be driven here: what is picked is a file of the browser's private file system.
SAVE_PRIVATELY = """
    window.showSaveFilePicker = async ({ suggestedName }) =>
        (await navigator.storage.getDirectory()).getFileHandle(suggestedName, { create: true });
"""
# Where uploads go on, as the server says.
NOTE_RESUMED = """
    (() => {
        window.resumed = [];
        const parse = JSON.parse;
        JSON.parse = (text) => {
            const message = parse(text);
            if (message?.t === "accept") resumed.push(message.offset);
            return message;
        };
    })()
"""

SLOW_DISK = slow_disk_code(8 << 20)
CONNECTED = "document.querySelector('#connection').dataset.state === 'open'"
ITEM = "document.querySelector('#transfer-list li')"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file.bin"
    file.write_bytes(os.urandom(MIB) * (SIZE // MIB))
    return file


@pytest.fixture(params=sorted(BROWSERS))
def browser(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


class Servers:
    """``wsstream`` in processes of its own, which a test may kill and start again on the same port."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self, *arguments: str, modules: Path | None = None) -> str:
        """Start it, with what is in `modules`; return the page's URL."""
        self.process = process = self._stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "wsstream", *arguments],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env=processes.environment(*filter(None, [modules]), measured=False),
            )
        )
        self._stack.callback(process.kill)
        assert process.stderr is not None
        found = re.search(r"http://\S+", line := process.stderr.readline())
        assert found is not None, line
        self.url = found[0]
        return self.url

    def serve(self, folder: Path, port: int = 0, *, slow: bool = False, token: str | None = None) -> str:
        """Serve a folder; if `slow`, on a disk of 8 MiB/s; perhaps to those only who have a token."""
        modules = folder.with_name("modules") if slow else None
        if modules is not None:
            modules.mkdir()
            (modules / "sitecustomize.py").write_text(SLOW_DISK)
        options = ["--web", "--bind", f"127.0.0.1:{port}", "--allow", "get,list,put"]
        if token is not None:
            (file := folder.with_name("token")).write_text(token)
            options += ["--token-file", str(file)]
        return self.start("serve", "files", str(folder), *options, modules=modules)

    def kill(self) -> int:
        """Kill it as a crash does; return its port."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        return int(self.url.rstrip("/").rpartition(":")[2])


@contextmanager
def running() -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack)


@pytest.fixture
def servers() -> Iterator[Servers]:
    with running() as servers:
        yield servers


@asynccontextmanager
async def opened(
    browser: str, tmp_path: Path, url: str, *scripts: str, token: str = ""
) -> AsyncIterator[Any]:
    """The page in a browser, logged in if there is a token; at the end, nothing may have gone wrong in its
    scripts or with its policy.
    """
    home = tmp_path / "browser"
    home.mkdir()
    with anyio.fail_after(TIME_LIMIT):
        async with BROWSERS[browser](home) as page:
            for script in (WATCH, *scripts):
                await page.before_load(script)
            await page.open(url)
            if token:
                await log_in(page, token)
            await until(page, CONNECTED)
            yield page
            assert await page.run("problems") == []


async def log_in(page: Page, token: str) -> None:
    """Fill in the form, once the page asks."""
    await until(page, "!document.querySelector('#login').hidden", TIME_LIMIT / 2)
    await page.run(
        f"(() => {{ document.querySelector('#token').value = {json.dumps(token)};"
        " document.querySelector('#login-form').requestSubmit(); })()"
    )


async def slow_down(page: Page, name: str, position: int) -> None:
    """Move a slider."""
    await until(page, f"!document.querySelector('#{name}').closest('.control').hidden")
    await page.run(
        f"(() => {{ const s = document.querySelector('#{name}'); s.value = {position};"
        " s.dispatchEvent(new Event('input')); })()"
    )


async def acknowledged(page: Page, least: float) -> None:
    """Wait until this part of the file is acknowledged."""
    await until(page, f"{ITEM}?.querySelector('progress').value >= {least}")


async def done(page: Page) -> str:
    """Wait until the transfer is complete; return its digest."""
    await until(page, f"['done', 'failed'].includes({ITEM}?.dataset.phase)", TIME_LIMIT)
    assert await page.run(f"{ITEM}.dataset.phase") == "done", await page.run(f"{ITEM}.innerText")
    return str(await page.run(f"{ITEM}.querySelector('code').title"))


def recorded(folder: Path) -> int:
    """How much of the one part the server has on its disk, according to its record."""
    for record in folder.glob(".wsstream-*.json"):
        return int(json.loads(record.read_text())["durable"])
    return 0


def resident(pid: int, kind: str = "") -> int:
    """Bytes in the memory of a process and those that it started, of one kind."""
    total = 0
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        waiting += children.get(one, [])
        try:
            if kind in Path(f"/proc/{one}/cmdline").read_text():
                status = Path(f"/proc/{one}/status").read_text()
                total += int(re.findall(r"RssAnon:\s+(\d+)", status)[0]) * 1024
        except (OSError, IndexError):
            continue
    return total


# -- up and down -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scripts", [(), (ONLY_CLASSIC,)], ids=["streams", "classic"])
async def test_a_file_goes_up_through_either_interface_of_chromium(
    servers: Servers, tmp_path: Path, folder: Path, file: Path, scripts: tuple[str, ...]
) -> None:
    async with opened("chromium", tmp_path, servers.serve(folder), *scripts) as page:
        expected = "WebSocket" if scripts else "WebSocketStream"
        assert await page.run("document.querySelector('#api').textContent") == expected
        await page.choose("#picker", file)
        await done(page)
        await until(page, "document.querySelector('#file-list').innerText.includes('file.bin')")
    assert (folder / "file.bin").read_bytes() == file.read_bytes()


async def test_a_file_goes_up_and_down_in_firefox(
    servers: Servers, tmp_path: Path, folder: Path, file: Path
) -> None:
    async with opened("firefox", tmp_path, servers.serve(folder)) as page:
        assert await page.run("document.querySelector('#api').textContent") == "WebSocket"
        await page.choose("#picker", file)
        digest = await done(page)
        await until(page, "document.querySelector('#file-list button') !== null")
        await page.run("document.querySelector('#file-list button').click()")
        await until(page, "document.querySelectorAll('#transfer-list li').length === 2")
        assert await done(page) == digest
        saved = tmp_path / "browser" / "downloads" / "file.bin"
        with anyio.fail_after(20):
            while not saved.exists() or saved.stat().st_size < SIZE:
                await anyio.sleep(0.1)
    assert (folder / "file.bin").read_bytes() == file.read_bytes()
    assert saved.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("scripts", [(), (ONLY_CLASSIC,)], ids=["streams", "classic"])
async def test_chromium_writes_a_download_to_the_chosen_file(
    servers: Servers, tmp_path: Path, folder: Path, file: Path, scripts: tuple[str, ...]
) -> None:
    (folder / "there.bin").write_bytes(file.read_bytes())
    digest = """
        (async () => {
            const root = await navigator.storage.getDirectory();
            const file = await (await root.getFileHandle("there.bin")).getFile();
            const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
            return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
        })()
    """
    async with opened("chromium", tmp_path, servers.serve(folder), SAVE_PRIVATELY, *scripts) as page:
        await until(page, "document.querySelector('#file-list button') !== null")
        await page.run("document.querySelector('#file-list button').click()")
        await done(page)
        assert await page.run(digest) == hashlib.sha256(file.read_bytes()).hexdigest()


# -- what breaks -----------------------------------------------------------------------------------


async def test_an_upload_goes_on_when_the_server_was_killed_and_started_again(
    servers: Servers, tmp_path: Path, folder: Path, browser: str
) -> None:
    file = tmp_path / "file.bin"
    file.write_bytes(os.urandom(MIB) * 80)
    async with opened(browser, tmp_path, servers.serve(folder, slow=True)) as page:
        await page.choose("#picker", file)
        with anyio.fail_after(60):  # until the server has recorded, after 5 s, what is on its disk
            while not recorded(folder):
                await anyio.sleep(0.1)
        port = servers.kill()
        durable = recorded(folder)
        await page.run(NOTE_RESUMED)
        await until(page, "document.querySelector('#connection').dataset.state === 'lost'")
        assert not (folder / "file.bin").exists()
        servers.serve(folder, port)
        await done(page)
        assert await page.run("resumed") == [durable]
    assert (folder / "file.bin").read_bytes() == file.read_bytes()


async def test_an_upload_goes_on_after_a_reload_of_the_page(
    servers: Servers, tmp_path: Path, file: Path, browser: str
) -> None:
    url = servers.start("demo", "--web")
    async with opened(browser, tmp_path, url) as page:
        await slow_down(page, "disk", 8)  # 4 MiB/s
        await page.choose("#picker", file)
        await acknowledged(page, 0.3)
        await anyio.sleep(1.2)  # the page notes once a second how far it is
        await page.open("about:blank")
        await page.open(url)
        await until(page, "!document.querySelector('#unfinished').hidden")
        assert "file.bin" in await page.run("document.querySelector('#unfinished-list').innerText")
        await page.choose("#picker", file)
        await until(page, f"/resumed at \\d/.test({ITEM}?.innerText)")
        assert await page.run("document.querySelector('#unfinished').hidden")
        await slow_down(page, "disk", 20)
        await done(page)
        assert await page.run("localStorage.getItem('wsstream.unfinished')") == "[]"


# -- backpressure ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "scripts"),
    [(300_000_000, ()), (120_000_000, (ONLY_CLASSIC,))],
    ids=["300-mb-streams", "120-mb-classic"],
)
async def test_a_large_file_onto_a_slow_disk_takes_little_memory_of_the_page(
    servers: Servers, tmp_path: Path, size: int, scripts: tuple[str, ...]
) -> None:
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        block = os.urandom(1_000_000)
        for _ in range(size // len(block)):
            file.write(block)
    async with opened("chromium", tmp_path, servers.start("demo", "--web"), *scripts) as page:
        await slow_down(page, "disk", 15)  # 47 MB/s
        before = resident(page.pid)
        heap = await page.heap()
        await page.run(
            "window.most = 0; window.sampling = setInterval(() => {"
            " const text = document.querySelector('#queue-now').value.split(' ');"
            " most = Math.max(most, text[0] * { B: 1, kB: 1e3, MB: 1e6, GB: 1e9 }[text[1]]) }, 50)"
        )
        await page.choose("#picker", large)
        grown = 0
        while await page.run(f"{ITEM}?.dataset.phase !== 'done' && {ITEM}?.dataset.phase !== 'failed'"):
            grown = max(grown, resident(page.pid) - before)
            await anyio.sleep(0.3)
        await done(page)
        most = await page.run("most")
        heap = await page.heap() - heap
    # Without backpressure the page would hold most of the file.
    print(f"waiting {most}, heap {heap}, grown {grown}")
    assert most <= 9_000_000
    assert heap < 30 * MIB
    assert grown < 150 * MIB, f"{grown / MIB:.0f} MiB"


async def test_a_slow_reader_slows_the_server(servers: Servers, tmp_path: Path) -> None:
    """The server's sample of 64 MiB, at 8 MiB/s: what waits in the page stays below its credit."""
    async with opened("chromium", tmp_path, servers.start("demo", "--web"), SAVE_PRIVATELY) as page:
        await slow_down(page, "reader", 10)
        await until(page, "document.querySelector('#file-list button') !== null")
        await page.run("document.querySelector('#file-list button').click()")
        await until(page, "document.querySelector('#verdict').textContent.includes('reader sets the pace')")
        shown = await page.run("document.querySelector('#credit-now').value")
        used, window = (float(number) for number in re.findall(r"[\d.]+", shown))
        assert 0 < used <= window < 30
        await slow_down(page, "reader", 20)
        await done(page)


# -- the token -----------------------------------------------------------------------------------------


async def test_people_log_in_once_and_out(
    servers: Servers, tmp_path: Path, folder: Path, browser: str
) -> None:
    file = tmp_path / "file.bin"
    file.write_bytes(os.urandom(MIB))
    url = servers.serve(folder, token="t0ken")
    refused = "document.querySelector('#login-error').textContent"
    async with opened(browser, tmp_path, url, token="t0ken") as page:
        assert await page.run("document.querySelector('#login').hidden")
        assert await page.run("document.activeElement.id") == "title"
        await page.choose("#picker", file)
        await done(page)
        assert await page.run("document.cookie + location.href + JSON.stringify({...localStorage})") == (
            f'{url}{{"wsstream.unfinished":"[]"}}'
        )
        await page.open("about:blank")
        await page.open(url)  # the browser still has the cookie
        await until(page, CONNECTED)
        assert await page.run("document.querySelector('#login').hidden")
        await page.run("document.querySelector('#logout').click()")
        await until(page, "document.querySelector('#login')?.hidden === false")
        assert await page.run("document.querySelector('main').hidden && document.activeElement.id") == "token"
        if isinstance(page, Chromium):
            await _check_names_and_widths(page, "textbox")
        for wrong in ("other", "caf\xe9"):
            await log_in(page, wrong)
            await until(page, f"{refused} === 'The server does not know this token.'")
            assert await page.run("document.querySelector('#token').getAttribute('aria-invalid')") == "true"
        await log_in(page, "t0ken")
        await until(page, CONNECTED)
    assert (folder / "file.bin").read_bytes() == file.read_bytes()


async def test_when_the_token_changes_the_page_asks_and_the_upload_goes_on(
    servers: Servers, tmp_path: Path, folder: Path
) -> None:
    file = tmp_path / "file.bin"
    file.write_bytes(os.urandom(MIB) * 80)  # 10 s: not all of it has arrived when the server is killed
    url = servers.serve(folder, slow=True, token="t0ken")
    async with opened("chromium", tmp_path, url, token="t0ken") as page:
        await page.choose("#picker", file)
        await acknowledged(page, 0.1)
        port = servers.kill()
        assert not (folder / "file.bin").exists()
        servers.serve(folder, port, token="another")
        await log_in(page, "another")
        await done(page)
    assert (folder / "file.bin").read_bytes() == file.read_bytes()


# -- for people ----------------------------------------------------------------------------------------


async def test_pause_cancel_and_keyboard(servers: Servers, tmp_path: Path, folder: Path, file: Path) -> None:
    async with opened("chromium", tmp_path, servers.start("demo", "--web")) as page:
        assert isinstance(page, Chromium)
        await slow_down(page, "disk", 8)
        await page.choose("#picker", file)
        await acknowledged(page, 0.1)
        await page.run(f"{ITEM}.querySelector('button').focus()")
        await page.call("Input.dispatchKeyEvent", type="keyDown", key=" ", code="Space", text=" ")
        await page.call("Input.dispatchKeyEvent", type="keyUp", key=" ", code="Space")
        await until(page, f"{ITEM}.dataset.phase === 'paused'")
        assert await page.run(f"{ITEM}.querySelector('button').textContent") == "Resume"
        await page.run(f"{ITEM}.querySelector('button').click()")
        await until(page, f"{ITEM}.dataset.phase === 'sending'")
        await page.run(f"{ITEM}.querySelectorAll('button')[1].focus()")
        await page.run(f"{ITEM}.querySelectorAll('button')[1].click()")
        await until(page, f"{ITEM}.dataset.phase === 'failed'")
        assert "Cancelled" in await page.run(f"{ITEM}.innerText")
        assert await page.run(f"document.activeElement === {ITEM}")  # the focus is not lost with the button
        assert "Cancelled" in await page.run("document.querySelector('#announce').textContent")


async def test_the_keyboard_keeps_its_place_in_folders(
    servers: Servers, tmp_path: Path, folder: Path, browser: str
) -> None:
    (folder / "outer" / "inner").mkdir(parents=True)
    for number in range(201):  # one more than the page shows at a time
        (folder / "outer" / "inner" / f"{number:03}.txt").touch()
    focused = "document.activeElement.textContent"
    buttons = "Array.from(document.querySelectorAll('#files button'))"
    async with opened(browser, tmp_path, servers.serve(folder)) as page:
        for button, place in (("outer/", "outer"), ("inner/", "inner")):
            await until(page, f"{buttons}.some((each) => each.textContent === '{button}')")
            await page.run(f"{buttons}.find((each) => each.textContent === '{button}').click()")
            await until(page, f"{focused} === '{place}'")
        await until(page, "!document.querySelector('#more').hidden")
        await page.run("document.querySelector('#more').click()")
        await until(page, "document.activeElement.ariaLabel === 'Download 200.txt'")
        await page.run(f"{buttons}.find((each) => each.textContent === 'All files').click()")
        await until(page, f"{focused} === 'On the server'")


async def test_numbers_that_change_all_the_time_are_not_read_out(servers: Servers, tmp_path: Path) -> None:
    async with opened("chromium", tmp_path, servers.start("demo", "--web")) as page:
        live = "Array.from(document.querySelectorAll('output'), (each) => each.ariaLive)"
        assert await page.run(live) == ["off"] * 5


async def test_each_control_has_a_name_and_nothing_is_wider_than_a_phone(
    servers: Servers, tmp_path: Path
) -> None:
    async with opened("chromium", tmp_path, servers.start("demo", "--web")) as page:
        await until(page, "document.querySelector('#file-list button') !== null")
        await _check_names_and_widths(page, "slider")


async def _check_names_and_widths(page: Chromium, expected: str) -> None:
    tree = await page.call("Accessibility.getFullAXTree")
    roles = ("button", "slider", "progressbar", "image", "heading", "region", "navigation", "textbox")
    seen = {node["role"]["value"] for node in tree["nodes"] if not node["ignored"]}
    assert expected in seen
    for node in tree["nodes"]:
        if not node["ignored"] and node["role"]["value"] in roles:
            assert node["name"]["value"], node
    for width in (320, 390, 800):
        await page.look(width=width, height=800)
        assert await page.run("document.documentElement.scrollWidth <= innerWidth"), width


async def test_a_page_of_another_site_may_not_connect(servers: Servers, tmp_path: Path) -> None:
    async with opened("chromium", tmp_path, servers.start("demo", "--web")) as page:
        attempt = f"""
            new Promise((resolve) => {{
                const ws = new WebSocket("{servers.url.replace("http", "ws")}", ["wsstream.file.v1"]);
                ws.onopen = () => resolve("open");
                ws.onclose = () => resolve("refused");
            }})
        """
        assert await page.run(attempt) == "open"
        await page.open("about:blank")
        assert await page.run(attempt) == "refused"
        await page.open(servers.url)
        await until(page, "document.querySelector('#connection').dataset.state === 'open'")


async def test_the_page_of_the_documentation_sends_a_file(
    servers: Servers, tmp_path: Path, folder: Path, file: Path, browser: str
) -> None:
    text = (Path(__file__).parents[3] / "docs" / "how-to" / "files-in-a-browser.md").read_text()
    page_html, program = (
        re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)[0] for kind in ("html", "python")
    )
    port = free_port()
    (tmp_path / "page.html").write_text(page_html)
    (tmp_path / "program.py").write_text(
        program.replace("8080", str(port)).replace('"shared"', repr(str(folder)))
    )
    command = [sys.executable, "program.py"]
    environment = processes.environment(measured=False)
    with anyio.fail_after(TIME_LIMIT), subprocess.Popen(command, cwd=tmp_path, env=environment) as server:
        try:
            while True:
                try:
                    await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
                    break
                except OSError:
                    await anyio.sleep(0.1)
            home = tmp_path / "browser"
            home.mkdir()
            async with BROWSERS[browser](home) as page:
                await page.open(f"http://127.0.0.1:{port}/")
                await page.choose("#file", file)
                await until(
                    page, "document.querySelector('#said').textContent.startsWith('file.bin has arrived')"
                )
        finally:
            server.kill()
    assert (folder / "file.bin").read_bytes() == file.read_bytes()
