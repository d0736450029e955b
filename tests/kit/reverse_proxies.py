"""Reverse proxies with the very configurations that the documentation shows, on free ports of loopback."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kit.programs import find_program, free_port, wait_for_port

__all__ = ["PROXIES", "ReverseProxy", "running"]

DOCS = Path(__file__).parents[2] / "docs" / "how-to" / "proxies"

PROXIES = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg", "caddy": "Caddyfile", "apache2": "apache.conf"}
"""Each program, and the file of the documentation that configures it."""

# What the documentation leaves to the system's own configuration.
_AROUND = {
    "nginx": """
        daemon off; master_process on; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
        events {{ }}
        http {{
            access_log off;
            client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
            uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
            {config}
        }}
        """,
    "haproxy": "global\n    maxconn 500\n    hard-stop-after 60s\n{config}",
    "caddy": "{{\n\tadmin off\n\tauto_https off\n}}\n{config}",
    "apache2": """
        ServerRoot {folder}
        PidFile {folder}/pid
        ErrorLog {folder}/error.log
        ServerName localhost
        LoadModule mpm_event_module {modules}/mod_mpm_event.so
        LoadModule proxy_module {modules}/mod_proxy.so
        LoadModule proxy_http_module {modules}/mod_proxy_http.so
        LoadModule headers_module {modules}/mod_headers.so
        LoadModule ssl_module {modules}/mod_ssl.so
        LoadModule authz_core_module {modules}/mod_authz_core.so
        Listen 127.0.0.1:{port}
        {config}
        """,
}
_COMMANDS = {
    "nginx": ["-c", "{file}", "-p", "{folder}"],
    "haproxy": ["-db", "-W", "-f", "{file}"],
    "caddy": ["run", "--config", "{file}", "--adapter", "caddyfile"],
    "apache2": ["-X", "-f", "{file}"],
}
_MODULES = "/usr/lib/apache2/modules"


class ReverseProxy:
    """One program in front of a server. Made by `running`.

    Attributes:
        port: where it listens.
    """

    def __init__(self, program: str, folder: Path, upstream: int, replace: dict[str, str]) -> None:
        self.program = program
        self.port = free_port()
        self._path = find_program(program)
        self._folder = folder
        config = (DOCS / PROXIES[program]).read_text()
        for old, new in (self._replacements(upstream) | replace).items():
            assert old in config, f"{PROXIES[program]} does not have {old!r}"
            config = config.replace(old, new)
        self._file = folder / PROXIES[program]
        around = _AROUND[program].format(folder=folder, config=config, modules=_MODULES, port=self.port)
        self._file.write_text(around)

    def _replacements(self, upstream: int) -> dict[str, str]:
        pem, key, both = self._folder / "cert.pem", self._folder / "key.pem", self._folder / "both.pem"
        own = {"127.0.0.1:8765": f"127.0.0.1:{upstream}"}
        match self.program:
            case "nginx":
                own |= {"listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl"}
                own |= {"/etc/ssl/files.example.pem": str(pem), "/etc/ssl/files.example.key": str(key)}
            case "haproxy":
                own |= {
                    "bind :443": f"bind 127.0.0.1:{self.port}",
                    "/etc/ssl/files.example.both.pem": str(both),
                }
            case "caddy":
                site = f"https://127.0.0.1:{self.port} {{\n\ttls {pem} {key}"
                own |= {"files.example {": site}
            case "apache2":
                own |= {"*:443": f"127.0.0.1:{self.port}"}
                own |= {"/etc/ssl/files.example.pem": str(pem), "/etc/ssl/files.example.key": str(key)}
        return own

    def start(self) -> None:
        arguments = [each.format(file=self._file, folder=self._folder) for each in _COMMANDS[self.program]]
        with (self._folder / "output.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._path, *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"HOME": str(self._folder), "XDG_DATA_HOME": str(self._folder)},
            )
        try:
            wait_for_port(self.port)
        except BaseException:
            self.stop()
            print((self._folder / "output.log").read_text())  # shown with the failure
            raise

    def reload(self) -> None:
        """Read the configuration again: new processes take new connections, the old ones keep theirs."""
        self._process.send_signal(signal.SIGUSR2 if self.program == "haproxy" else signal.SIGHUP)

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def running(
    program: str, folder: Path, upstream: int, replace: dict[str, str] | None = None
) -> Iterator[ReverseProxy]:
    """Run a proxy in front of the port `upstream`, with `replace` done in its configuration."""
    proxy = ReverseProxy(program, folder, upstream, replace or {})
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
