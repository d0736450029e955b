"""Logging in to the page: what the server answers, which cookies hold, and for whom."""

from __future__ import annotations

import pytest

from wsstream import Headers, Request, Response
from wsstream.files.web import WebPage, web_page
from wsstream.files.web.login import HOLDS, Login

TOKEN = "correct-horse"
UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade"}
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def ask(page: WebPage, method: str, fields: dict[str, str], target: str = "/session") -> Response | None:
    return page(Request(target, Headers(fields), method=method))


def status(page: WebPage, method: str, fields: dict[str, str], target: str = "/session") -> int | None:
    response = ask(page, method, fields, target)
    return None if response is None else response.status


def log_in(page: WebPage) -> dict[str, str]:
    """Log in; return the cookie, as a browser sends it."""
    response = ask(page, "POST", BEARER)
    assert response is not None
    assert (response.status, response.headers["cache-control"]) == (204, "no-store")
    value, _, attributes = response.headers["set-cookie"].partition("; ")
    assert attributes == f"Max-Age={HOLDS}; HttpOnly; SameSite=Strict"
    assert TOKEN not in value
    return {"Cookie": f"theme=dark; {value}"}


def test_a_websocket_needs_the_token_or_the_cookie_that_the_page_got_for_it() -> None:
    page = web_page(token=TOKEN)
    cookie = log_in(page)
    for fields, expected in (({}, 401), (BEARER, None), (cookie, None), ({"Authorization": TOKEN}, 401)):
        assert status(page, "GET", UPGRADE | fields, "/") == expected, fields
        assert page.knows(Request("/", Headers(fields))) == (expected is None)
    assert status(page, "GET", {}) == 401
    assert status(page, "GET", cookie) == 204
    assert web_page().knows(Request("/", Headers({})))


def test_the_page_is_shown_to_everybody_and_other_paths_are_left_to_others() -> None:
    page = web_page("/files/", token=TOKEN)
    assert status(page, "GET", {}, "/files/page.js") == 200
    assert status(page, "POST", BEARER, "/files/session") == 204
    assert status(page, "GET", UPGRADE, "/files/") == status(page, "GET", UPGRADE, "/files") == 401
    assert status(page, "GET", UPGRADE, "/filesystem") is None
    assert status(page, "POST", BEARER, "/session") is None
    assert status(web_page(), "GET", {}) == 404


@pytest.mark.parametrize(
    "sent", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer correct-hors\xe9"]
)
def test_without_the_token_there_is_no_cookie(sent: str) -> None:
    response = ask(web_page(token=TOKEN), "POST", {"Authorization": sent})
    assert response is not None
    assert (response.status, response.headers["www-authenticate"]) == (401, "Bearer")
    assert "set-cookie" not in response.headers


def test_a_cookie_holds_for_its_time_and_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = log_in(web_page(token=TOKEN))
    assert status(web_page(token=TOKEN), "GET", cookie) == 204, "another process, or a restart"
    assert status(web_page(token="another"), "GET", cookie) == 401
    name, _, value = cookie["Cookie"].rpartition("=")
    until, _, mac = value.partition(".")
    page = web_page(token=TOKEN)
    for forged in (
        "", ".", until, f"{until}.", f"{int(until) + 1}.{mac}", f"{until}.{mac[:-1]}", f"x{until}.{mac}",
        f"{until}.{mac}\xe9", f"\xb2.{mac}", f"{'9' * 5000}.{mac}",
    ):  # fmt: skip
        assert status(page, "GET", {"Cookie": f"{name}={forged}"}) == 401, forged
    monkeypatch.setattr("wsstream.files.web.login.time.time", lambda: float(until) - 1)
    assert status(page, "GET", cookie) == 204
    monkeypatch.setattr("wsstream.files.web.login.time.time", lambda: float(until))
    assert status(page, "GET", cookie) == 401


def test_over_tls_the_cookie_stays_on_tls() -> None:
    login = Login(TOKEN)
    request = Request("/session", Headers(BEARER), method="POST")
    request.tls = True
    assert login.answer(request).headers["set-cookie"].endswith("; HttpOnly; SameSite=Strict; Secure")


def test_logging_out_takes_the_cookie_away() -> None:
    page = web_page(token=TOKEN)
    name = log_in(page)["Cookie"].partition("; ")[2].partition("=")[0]
    response = ask(page, "DELETE", {})
    assert response is not None
    assert response.status == 204
    assert response.headers["set-cookie"] == f"{name}=; Max-Age=0; HttpOnly; SameSite=Strict"


def test_servers_with_other_tokens_on_one_host_do_not_take_each_others_cookies_away() -> None:
    names = {log_in(web_page(token=TOKEN))["Cookie"].partition("; ")[2].partition("=")[0]}
    response = ask(web_page(token="other"), "POST", {"Authorization": "Bearer other"})
    assert response is not None
    names.add(response.headers["set-cookie"].partition("=")[0])
    assert len(names) == 2


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT"])
def test_other_methods_get_405_so_that_no_other_site_logs_anybody_in(method: str) -> None:
    response = ask(web_page(token=TOKEN), method, BEARER)
    assert response is not None
    assert (response.status, response.headers["allow"]) == (405, "GET, POST, DELETE")
    assert not [name for name, _ in response.headers.items() if name.startswith("access-control")]


@pytest.mark.parametrize("token", ["", "two words", "caf\xe9", "tab\t"])
def test_a_token_that_no_header_field_can_carry_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match=r"^token must be one word of printable ASCII$"):
        web_page(token=token)


def test_a_token_that_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="token must be a str or None, got bytes"):
        web_page(token=b"token")  # type: ignore[arg-type]
