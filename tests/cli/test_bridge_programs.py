"""ssh, rsync and git through ``wsstream bridge``: they need every byte, and the end of each direction."""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kit.programs import find_program, free_port, wait_for_port

ListenWith = Callable[..., str]

pytestmark = [pytest.mark.slow, pytest.mark.time_limit(180)]

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])
SIZE = 20 << 20  # bytes


@pytest.fixture
def serve_with(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Run a server with the port that is returned in place of ``PORT``."""
    processes = []

    def start(*command: str) -> int:
        port = free_port()
        arguments = [each.replace("PORT", str(port)) for each in command]
        with (tmp_path / "server.log").open("wb") as log:
            processes.append(subprocess.Popen(arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
        wait_for_port(port)
        return port

    yield start
    for process in processes:
        process.terminate()
        process.wait(10)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "large").write_bytes(os.urandom(SIZE))
    (folder / "small").write_text("small")
    return folder


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    def run(*command: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[bytes]:
        variables = environment | {"HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"} | options.pop("env", {})
        done = subprocess.run(
            command, env=variables, capture_output=True, timeout=120, check=False, **options
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture(params=["asyncio", "trio"])
def ssh(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    serve_with: Callable[..., int],
    listen_with: ListenWith,
    program: list[str],
) -> list[str]:
    """An ssh that reaches a server of its own, with keys of its own, through a bridge as its ProxyCommand."""
    find_program("ssh")
    sshd = find_program("sshd")
    for name in ("host", "user"):
        subprocess.run(
            [find_program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)],
            check=True,
        )
    (tmp_path / "authorized").write_bytes((tmp_path / "user.pub").read_bytes())
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # a server that runs as root wants it
    (tmp_path / "config").write_text(
        f"HostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/authorized\nPidFile none\nUsePAM no\n"
        "StrictModes no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    port = serve_with(
        sshd, "-D", "-e", "-f", str(tmp_path / "config"), "-o", "ListenAddress=127.0.0.1", "-p", "PORT"
    )
    backend = ["--backend", request.param]
    url = listen_with("bridge", "ws-listen:0", f"tcp:127.0.0.1:{port}", *backend)
    proxy = shlex.join([*program, "bridge", "stdio", url, *backend])
    options = [
        f"ProxyCommand={proxy}",
        f"IdentityFile={tmp_path}/user",
        "IdentitiesOnly=yes",
        "StrictHostKeyChecking=no",
        f"UserKnownHostsFile={tmp_path}/known",
        "LogLevel=ERROR",
    ]
    user = ["-l", getpass.getuser()]
    return ["ssh", "-F", "none", *(part for option in options for part in ("-o", option)), *user]


def test_ssh_carries_bytes_both_ways_and_the_exit_status(run: Any, ssh: list[str], data: Path) -> None:
    payload = (data / "large").read_bytes()
    assert run(*ssh, "host", "cat", input=payload).stdout == payload
    assert run(*ssh, "host", f"cat {data}/large", stdin=subprocess.DEVNULL).stdout == payload
    assert run(*ssh, "host", "exit 3", check=False).returncode == 3


def test_rsync_over_ssh(run: Any, ssh: list[str], data: Path, tmp_path: Path) -> None:
    arguments = [find_program("rsync"), "-a", "-e", shlex.join(ssh)]
    run(*arguments, f"{data}/", f"host:{tmp_path}/up/")
    run(*arguments, f"host:{tmp_path}/up/", f"{tmp_path}/down/")
    run("diff", "-r", str(data), str(tmp_path / "down"))


def test_git_over_ssh(run: Any, ssh: list[str], data: Path, tmp_path: Path) -> None:
    make_repository(run, data)
    run(
        "git",
        "clone",
        "-q",
        f"ssh://host{data}",
        str(tmp_path / "clone"),
        env={"GIT_SSH_COMMAND": shlex.join(ssh)},
    )
    assert (tmp_path / "clone" / "large").read_bytes() == (data / "large").read_bytes()


@backends
def test_an_rsync_daemon(
    run: Any,
    serve_with: Callable[..., int],
    listen_with: ListenWith,
    program: list[str],
    data: Path,
    tmp_path: Path,
    backend: str,
) -> None:
    owner = f"uid = {os.getuid()}\ngid = {os.getgid()}\n" if os.getuid() == 0 else ""
    (tmp_path / "rsyncd").write_text(f"use chroot = no\n{owner}[data]\npath = {data}\nread only = no\n")
    port = serve_with(
        find_program("rsync"),
        "--daemon",
        "--no-detach",
        "--config",
        f"{tmp_path}/rsyncd",
        "--address",
        "127.0.0.1",
        "--port",
        "PORT",
    )
    url = listen_with("bridge", "ws-listen:0", f"tcp:127.0.0.1:{port}", "--backend", backend)
    (tmp_path / "more").write_bytes(os.urandom(SIZE))
    through = {"RSYNC_CONNECT_PROG": shlex.join([*program, "bridge", "stdio", url, "--backend", backend])}
    run("rsync", "-a", "rsync://host/data/", f"{tmp_path}/down/", env=through)
    run("rsync", "-a", f"{tmp_path}/more", "rsync://host/data/", env=through)
    entrance = listen_with("bridge", "tcp-listen:0", url, "--backend", backend)
    run("rsync", "-a", f"rsync://{entrance}/data/", f"{tmp_path}/down/")
    run("diff", "-r", str(data), str(tmp_path / "down"))


@backends
def test_a_git_daemon(
    run: Any,
    serve_with: Callable[..., int],
    listen_with: ListenWith,
    data: Path,
    tmp_path: Path,
    backend: str,
) -> None:
    make_repository(run, data)
    (data / ".git" / "git-daemon-export-ok").touch()
    port = serve_with(
        find_program("git-daemon"),
        "--port=PORT",
        "--listen=127.0.0.1",
        f"--base-path={tmp_path}",
        "--reuseaddr",
    )
    url = listen_with("bridge", "ws-listen:0", f"tcp:127.0.0.1:{port}", "--backend", backend)
    entrance = listen_with("bridge", "tcp-listen:0", url, "--backend", backend)
    run("git", "clone", "-q", f"git://{entrance}/data", str(tmp_path / "clone"))
    assert (tmp_path / "clone" / "large").read_bytes() == (data / "large").read_bytes()


def make_repository(run: Any, folder: Path) -> None:
    git = ["git", "-C", str(folder), "-c", "user.name=A", "-c", "user.email=a@b.example"]
    run(*git, "init", "-q")
    run(*git, "add", ".")
    run(*git, "commit", "-q", "-m", "data")
