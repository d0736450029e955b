"""Makes the pictures of the web page in this documentation: ``python docs/screenshots.py``.

It needs Chromium.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from kit.browsers import Chromium, chromium, until  # noqa: E402 - found by the path above

IMAGES = HERE / "how-to" / "images"
DESKTOP = {"width": 1120, "height": 780}
PHONE = {"width": 390, "height": 780, "scale": 1.5}


async def set_disk(page: Chromium, position: int) -> None:
    await page.run(
        f"(() => {{ const s = document.querySelector('#disk'); s.value = {position};"
        " s.dispatchEvent(new Event('input')); })()"
    )


def make(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


async def take(page: Chromium, url: str, folder: Path) -> None:
    """Send one file at full speed, and another one that meets a slow disk, and look at that."""
    await page.look(**DESKTOP)
    await page.open(url)
    await until(page, "!document.querySelector('#disk-control').hidden")
    await set_disk(page, 14)
    small, large = make(folder / "minutes.pdf", 3_400_000), make(folder / "interview.mp4", 480_000_000)
    await page.choose("#picker", small)
    await until(page, "document.querySelector('li[data-phase=done]') !== null")
    await page.choose("#picker", large)
    await anyio.sleep(10)
    await set_disk(page, 5)
    await anyio.sleep(11)
    await page.run("document.activeElement.blur()")
    await page.screenshot(IMAGES / "files-light.png", **DESKTOP)
    await page.look(**DESKTOP, dark=True)
    await anyio.sleep(0.5)
    await page.screenshot(IMAGES / "files-dark.png", **DESKTOP, dark=True)
    await page.look(**PHONE)
    await page.run("document.querySelector('#transfers').scrollIntoView()")
    await anyio.sleep(0.5)
    await page.screenshot(IMAGES / "files-phone.png", **PHONE)


async def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "wsstream", "demo", "--web"]
    with (
        tempfile.TemporaryDirectory() as name,
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server,  # noqa: ASYNC220 - starts at once
    ):
        folder = Path(name)
        try:
            assert server.stderr is not None
            found = re.search(r"http://\S+", server.stderr.readline())
            assert found is not None
            async with chromium(folder) as page:
                await take(page, found[0], folder)
        finally:
            server.terminate()


anyio.run(main)
