"""The answers of `web_page`: which file, with which header fields, and to which requests none."""

from __future__ import annotations

import re
from importlib.resources import files

import anyio
import pytest

import wsstream
from wsstream import Headers, Request
from wsstream.files import SUBPROTOCOL, serve_files
from wsstream.files.web import WebPage, web_page

STATIC = files("wsstream.files.web").joinpath("static")
NAMES = sorted(entry.name for entry in STATIC.iterdir() if not entry.name.startswith("_"))
UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade"}


def ask(page: WebPage, target: str, method: str = "GET", **headers: str) -> wsstream.Response | None:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return page(Request(target, Headers(fields), method=method))


def test_the_page_is_html_and_allows_nothing_from_elsewhere_and_nothing_inline() -> None:
    response = ask(web_page(), "/?ignored")
    assert response is not None
    assert (response.status, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("name", NAMES)
def test_each_file_has_its_type_and_is_kept_by_its_etag(name: str) -> None:
    page = web_page()
    target = "/" if name == "index.html" else f"/{name}"
    response = ask(page, target)
    assert response is not None
    assert (response.status, response.body) == (200, STATIC.joinpath(name).read_bytes())
    kind = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    assert response.headers["content-type"].startswith(kind[name.rpartition(".")[2]])
    etag = response.headers["etag"]
    for known in (etag, f'"other", W/{etag}', "*"):
        again = ask(page, target, If_None_Match=known)
        assert again is not None
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
    other = ask(page, target, If_None_Match='"other"')
    assert other is not None
    assert other.status == 200


@pytest.mark.parametrize("name", NAMES)
def test_a_file_names_no_other_place_and_no_inline_script_or_style(name: str) -> None:
    text = STATIC.joinpath(name).read_text()
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)[\w.]+", text)
    assert not re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
    )
    if name.endswith(".html"):
        assert not re.findall(r"<style|<script(?![^>]* src=)|\sstyle=|\son\w+=", text)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("wsstream-")])
def test_the_module_does_not_need_the_page(name: str) -> None:
    imported = re.findall(r'from "\./([\w.-]+)"', STATIC.joinpath(name).read_text())
    assert all(other.startswith("wsstream-") for other in imported)


def test_what_the_page_imports_is_served() -> None:
    page = web_page()
    for name in NAMES:
        text = STATIC.joinpath(name).read_text()
        for other in re.findall(r'(?:from|src=|href=) ?"(?:\./)?([\w.-]+)"', text):
            response = ask(page, f"/{other}")
            assert response is not None, (name, other)
            assert response.status == 200, (name, other)


@pytest.mark.parametrize(
    "target", ["/nope", "/index.html", "/static/page.js", "/../pages.py", "/%2e%2e/pages.py"]
)
def test_what_is_not_a_file_of_the_page_is_404(target: str) -> None:
    response = ask(web_page(), target)
    assert response is not None
    assert response.status == 404


@pytest.mark.parametrize("method", ["DELETE", "OPTIONS", "POST", "PUT"])
def test_other_methods_get_405(method: str) -> None:
    response = ask(web_page(), "/", method)
    assert response is not None
    assert (response.status, response.headers["allow"]) == (405, "GET, HEAD")


def test_requests_for_a_websocket_and_for_other_paths_are_left_to_others() -> None:
    page = web_page("/files/")
    assert page(Request("/files/", Headers(UPGRADE))) is None
    assert ask(page, "/") is None
    assert ask(page, "/filesystem") is None
    moved = ask(page, "/files")
    assert moved is not None
    assert (moved.status, moved.headers["location"]) == (308, "/files/")
    script = ask(page, "/files/page.js")
    assert script is not None
    assert script.status == 200


def test_the_settings_tell_of_the_control() -> None:
    for control, said in ((None, b"null"), ("a.v1", b'"a.v1"')):
        response = ask(web_page(control=control), "/settings.json")
        assert response is not None
        assert response.headers["content-type"] == "application/json"
        assert response.body == b'{"control": %b, "login": false}' % said


@pytest.mark.parametrize("path", ["", "files/", "/files"])
def test_a_path_that_is_not_a_folders_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path must begin and end with a slash"):
        web_page(path)


async def fetch(port: int, method: str, target: str) -> tuple[bytes, bytes]:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        answer = b"".join([part async for part in stream])
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


@pytest.mark.anyio
async def test_one_port_serves_the_page_and_the_files(tmp_path: object) -> None:
    handler = serve_files(str(tmp_path))
    async with wsstream.serve(
        handler, "127.0.0.1", subprotocols=[SUBPROTOCOL], process_request=web_page()
    ) as server:
        head, body = await fetch(server.port, "GET", "/page.css")
        assert body == STATIC.joinpath("page.css").read_bytes()
        again, nothing = await fetch(server.port, "HEAD", "/page.css")
        assert nothing == b""
        assert again == head
        async with wsstream.connect(server.url, subprotocols=[SUBPROTOCOL]) as ws:
            assert '"hello"' in str(await ws.receive())
