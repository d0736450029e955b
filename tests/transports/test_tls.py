from __future__ import annotations

import datetime
import socket
import ssl
from contextlib import suppress

import anyio
import pytest
from kit.tls import client_context

from wsstream.transports import tls
from wsstream.transports.base import receive_some, send_all
from wsstream.transports.tls import TLSTransport, default_client_context

pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]


async def receive_exactly(transport, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        data = await receive_some(transport, 65536)
        assert data
        received += data
    return bytes(received)


async def send_the_rest(transport) -> None:
    while transport.unsent:
        await transport.wait_writable()


# The handshake


async def test_a_send_of_several_buffers_arrives_and_both_ends_speak_the_same_version(tls_pair):
    client, server = tls_pair
    for source, sink in ((client, server), (server, client)):
        for data in (b"a", b"b" * 1000, bytes(range(256)) * 400):
            assert source.send([data[:10], memoryview(data)[10:]]) == len(data)
            assert await receive_exactly(sink, len(data)) == data
    assert client.extra("ssl_object").version() == server.extra("ssl_object").version()


def test_the_default_context_checks_names_offers_http_1_1_and_refuses_renegotiation():
    context = default_client_context()
    assert context is default_client_context()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.options & ssl.OP_NO_RENEGOTIATION


async def test_alpn_is_negotiated(authority, shake_hands):
    context = client_context(authority)
    context.set_alpn_protocols(["http/1.1"])
    client, server = await shake_hands(client_context=context)
    assert client.extra("ssl_object").selected_alpn_protocol() == "http/1.1"
    client.close()
    server.close()


async def fail_handshake(connect_sockets, server_context, client_context, server_hostname="localhost"):
    """Shake hands in vain: the client's error, the server's error."""
    errors = {}

    async def serve() -> None:
        try:
            await TLSTransport.server(b, server_context)
        except OSError as exc:
            errors["server"] = exc

    a, b = connect_sockets("tcp4")
    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        try:
            await TLSTransport.client(a, client_context, server_hostname)
        except OSError as exc:
            errors["client"] = exc
    return errors["client"], errors["server"]


async def test_a_certificate_for_another_name_is_refused(
    connect_sockets, server_context, client_context, no_new_files
):
    with no_new_files():
        error, server_error = await fail_handshake(
            connect_sockets, server_context, client_context, "other.example"
        )
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert error.verify_code == 62  # X509_V_ERR_HOSTNAME_MISMATCH
    assert isinstance(server_error, ssl.SSLError)


async def test_an_expired_certificate_is_refused(connect_sockets, authority, client_context, no_new_files):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    authority.issue_cert("localhost", not_before=past, not_after=past).configure_cert(context)
    with no_new_files():
        error, _ = await fail_handshake(connect_sockets, context, client_context)
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert error.verify_code == 10  # X509_V_ERR_CERT_HAS_EXPIRED


async def test_an_unknown_authority_is_refused(connect_sockets, server_context, no_new_files):
    default_client_context()  # opens its files once
    with no_new_files():
        error, _ = await fail_handshake(connect_sockets, server_context, default_client_context())
    assert isinstance(error, ssl.SSLCertVerificationError)


async def test_a_missing_host_name_is_an_error_of_the_caller(connect_sockets, client_context, no_new_files):
    with no_new_files():
        a, b = connect_sockets("tcp4")
        with pytest.raises(ValueError, match="server_hostname"):
            await TLSTransport.client(a, client_context, None)
        b.close()


async def test_a_peer_that_does_not_speak_tls_fails_the_handshake(
    connect_sockets, client_context, no_new_files
):
    with no_new_files():
        a, b = connect_sockets("tcp4")
        b.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(ssl.SSLError):
            await TLSTransport.client(a, client_context, "localhost")
        b.close()


async def test_a_peer_that_hangs_up_fails_the_handshake(connect_sockets, server_context, reset, no_new_files):
    with no_new_files():
        a, b = connect_sockets("tcp4")
        a.close()
        with pytest.raises(ssl.SSLEOFError):
            await TLSTransport.server(b, server_context)
        a, b = connect_sockets("tcp4")
        reset(a)
        with pytest.raises(OSError, match="not connected"):
            await TLSTransport.server(b, server_context)


async def test_a_cancelled_handshake_closes_the_socket(connect_sockets, client_context, no_new_files):
    with no_new_files():
        a, b = connect_sockets("tcp4")
        async with anyio.create_task_group() as group:
            group.start_soon(TLSTransport.client, a, client_context, "localhost")
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        b.settimeout(5)
        hello = b.recv(65536)
        assert hello[0] == 22  # a handshake record came, and then the end
        assert b.recv(1) == b""
        b.close()


async def test_a_handshake_larger_than_the_kernels_buffer_waits_for_the_peer_to_read(
    connect_sockets, authority, client_context
):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    names = [f"host-{i}.example" for i in range(2000)]
    authority.issue_cert(*names, "localhost").configure_cert(context)
    ends = []

    async def serve() -> None:
        ends.append(await TLSTransport.server(b, context))

    a, b = connect_sockets("unix")
    b.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        ends.append(await TLSTransport.client(a, client_context, "localhost"))
    for end in ends:
        end.close()


# Reading


async def test_one_read_takes_more_than_a_record(tls_pair):
    client, server = tls_pair
    data = bytes(range(250)) * 200
    assert client.send([data]) == len(data)  # 50 kB, the kernel holds it
    buffer = bytearray(65536)
    with memoryview(buffer) as view:
        await server.wait_readable()
        assert server.recv_into(view) == len(data)
    assert buffer[: len(data)] == data


async def test_the_rest_of_a_record_is_readable_though_the_socket_is_not(tls_pair):
    client, server = tls_pair
    client.send([b"x" * 16384])
    with memoryview(bytearray(1000)) as view:
        received = 0
        while received < 16384:
            with anyio.fail_after(10):
                await server.wait_readable()
            received += server.recv_into(view)
        assert server.recv_into(view) is None


async def test_nothing_arrived_is_none_and_part_of_a_record_is_nothing(tls_pair):
    client, server = tls_pair
    view = memoryview(bytearray(100))
    assert server.recv_into(view) is None
    socket.socket.send(client.extra("socket"), b"\x17\x03\x03")  # a record header, cut off
    await server.wait_readable()
    assert server.recv_into(view) is None


async def test_close_notify_ends_the_stream_behind_the_data(tls_pair):
    client, server = tls_pair
    client.send([b"last"])
    client.close()
    with memoryview(bytearray(100)) as view:
        await server.wait_readable()
        assert server.recv_into(view) == 4
        with anyio.fail_after(10):
            await server.wait_readable()
        assert server.recv_into(view) == 0
        assert server.recv_into(view) == 0


async def test_an_end_that_was_read_with_the_data_is_readable_though_the_socket_is_not(tls_pair):
    client, server = tls_pair
    client.send([b"last"])
    with pytest.raises(ssl.SSLWantReadError):
        client.extra("ssl_object").unwrap()  # close_notify, and no FIN
    with memoryview(bytearray(100)) as view:
        await server.wait_readable()
        assert server.recv_into(view) == 4
        with anyio.fail_after(10):
            await server.wait_readable()
        assert server.recv_into(view) == 0


async def test_a_stream_cut_off_without_close_notify_ends_too(tls_pair):
    client, server = tls_pair
    client.send([b"last"])
    client.extra("socket").close()
    assert await receive_some(server, 100) == b"last"
    assert await receive_some(server, 100) == b""
    assert await receive_some(server, 100) == b""


async def test_a_reset_connection_breaks_or_ends(tls_pair, reset):
    client, server = tls_pair
    reset(client.extra("socket"))
    await server.wait_readable()
    with suppress(anyio.BrokenResourceError):
        assert server.recv_into(memoryview(bytearray(10))) == 0  # CPython up to 3.12.2
    with pytest.raises(anyio.BrokenResourceError) as raised:
        server.send([b"x"])
    assert isinstance(raised.value.__cause__, OSError)
    server.send_eof()  # says nothing


async def test_a_forged_record_breaks_the_connection_behind_the_data_before_it(tls_pair):
    client, server = tls_pair
    client.send([b"good"])
    socket.socket.send(client.extra("socket"), b"\x17\x03\x03\x00\x20" + bytes(32))
    with memoryview(bytearray(100)) as view:
        await server.wait_readable()
        assert server.recv_into(view) == 4
        for _ in range(2):
            with anyio.fail_after(10):
                await server.wait_readable()
            with pytest.raises(anyio.BrokenResourceError) as raised:
                server.recv_into(view)
            assert isinstance(raised.value.__cause__, ssl.SSLError)


# Writing


async def test_a_peer_that_does_not_read_stops_the_sender_and_no_byte_is_lost(tls_pair, fill):
    client, server = tls_pair
    sent = fill(client, bytes(range(251)) * 123)
    assert 0 < client.unsent <= 16384
    assert client.send([b"refused"]) == 0
    more = bytes(range(249)) * 300
    async with anyio.create_task_group() as group:
        group.start_soon(send_all, client, more)
        await anyio.wait_all_tasks_blocked()
        assert client.unsent
        assert await receive_exactly(server, len(sent) + len(more)) == sent + more
    assert client.unsent == 0


async def test_unsent_bytes_leave_in_wait_writable(tls_pair, fill):
    client, server = tls_pair
    sent = fill(client, b"0123456789" * 5000)
    async with anyio.create_task_group() as group:
        group.start_soon(send_the_rest, client)
        assert await receive_exactly(server, len(sent)) == sent
    assert client.unsent == 0
    assert client.send([b"more"]) == 4


async def test_a_cancelled_wait_writable_keeps_the_record(tls_pair, fill):
    client, server = tls_pair
    sent = fill(client, b"0123456789" * 5000)
    unsent = client.unsent
    async with anyio.create_task_group() as group:
        group.start_soon(client.wait_writable)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert client.unsent == unsent
    async with anyio.create_task_group() as group:
        group.start_soon(send_the_rest, client)
        assert await receive_exactly(server, len(sent)) == sent


async def test_one_send_takes_a_bounded_number_of_records(tls_pair, monkeypatch):
    monkeypatch.setattr(tls, "MAX_RECORDS", 2)
    client, server = tls_pair
    assert client.send([bytes(10), bytes(50_000)]) == 2 * 16384
    assert await receive_exactly(server, 2 * 16384) == bytes(2 * 16384)


async def test_small_buffers_share_a_record(tls_pair):
    client, server = tls_pair
    client.send([b"ab"] * 5000)
    await server.wait_readable()
    assert server.extra("ssl_object").recv(16384) == b"ab" * 5000  # a read of OpenSSL gives one record


class Watching(ssl.SSLSocket):
    """Notes at each record whether the kernel holds packets back that are not full."""

    corked: list[int]

    def send(self, *args):
        self.corked.append(self.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))
        return super().send(*args)


@pytest.mark.skipif(not hasattr(socket, "TCP_CORK"), reason="only Linux has TCP_CORK")
async def test_several_records_share_packets_and_a_single_one_leaves_at_once(client_context, shake_hands):
    client_context.sslsocket_class = Watching
    client, server = await shake_hands(client_context=client_context)
    sock = client.extra("socket")
    for data, corked in ((bytes(20_000), [1, 1]), (bytes(16_384), [0])):
        sock.corked = []
        assert client.send([data]) == len(data)
        assert sock.corked == corked
        assert not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK)
        assert await receive_exactly(server, len(data)) == data
    client.close()
    server.close()


async def test_a_context_that_asks_for_tls_in_the_kernel_works(client_context, shake_hands):
    client_context.options |= 8  # SSL_OP_ENABLE_KTLS: a name for it came with Python 3.12
    client, server = await shake_hands(client_context=client_context)
    data = bytes(range(250)) * 400
    for source, sink in ((client, server), (server, client)):
        async with anyio.create_task_group() as group:
            group.start_soon(send_all, source, data)
            assert await receive_exactly(sink, len(data)) == data
    client.close()
    assert await receive_some(server, 100) == b""
    server.close()


# When a read has to write and a write has to read


class Contrary(ssl.SSLSocket):
    """Asks for the other direction, as OpenSSL does around a key update or a renegotiation, or fails."""

    read_wants_write = False
    write_wants_read = False
    read_error: OSError | None = None

    def read(self, *args):
        if self.read_error is not None:
            raise self.read_error
        if self.read_wants_write:
            raise ssl.SSLWantWriteError
        return super().read(*args)

    def send(self, *args):
        if self.write_wants_read:
            raise ssl.SSLWantReadError
        return super().send(*args)


@pytest.fixture
async def contrary_pair(client_context, shake_hands):
    client_context.sslsocket_class = Contrary
    client, server = await shake_hands(client_context=client_context)
    yield client, server
    client.close()
    server.close()


@pytest.mark.parametrize(
    ("error", "cause"),
    [(ConnectionResetError(104, "reset"), ConnectionResetError), (TimeoutError(), TimeoutError)],
)
async def test_a_system_error_is_the_cause_of_the_broken_connection(contrary_pair, error, cause):
    client, _ = contrary_pair
    client.extra("ssl_object").read_error = error
    with pytest.raises(anyio.BrokenResourceError) as raised:
        client.recv_into(memoryview(bytearray(10)))
    assert type(raised.value.__cause__) is cause


async def test_a_zero_return_is_the_end_of_the_stream(contrary_pair):
    client, _ = contrary_pair
    client.extra("ssl_object").read_error = ssl.SSLZeroReturnError()
    assert client.recv_into(memoryview(bytearray(10))) == 0


async def call(function, ended: list, name: str) -> None:
    try:
        await function()
    except anyio.ClosedResourceError:
        name = f"{name} closed"
    ended.append(name)


@pytest.fixture
async def read_wants_write(contrary_pair, fill):
    """A full client whose read wants to write; what was sent, and the server."""
    client, server = contrary_pair
    sent = fill(client, b"0123456789" * 5000)
    client.extra("ssl_object").read_wants_write = True
    assert client.recv_into(memoryview(bytearray(10))) is None
    client.extra("ssl_object").read_wants_write = False
    return client, server, sent


async def test_a_read_that_wants_to_write_waits_beside_the_writer(read_wants_write):
    client, server, sent = read_wants_write
    ended: list[str] = []
    async with anyio.create_task_group() as group:
        group.start_soon(call, client.wait_writable, ended, "writer")
        group.start_soon(call, client.wait_readable, ended, "reader")
        await anyio.wait_all_tasks_blocked()
        assert ended == []
        await receive_exactly(server, len(sent) - client.unsent)
    assert sorted(ended) == ["reader", "writer"]
    server.send([b"data"])
    assert await receive_some(client, 100) == b"data"


async def test_a_read_that_wants_to_write_needs_no_writer(read_wants_write):
    client, server, sent = read_wants_write
    async with anyio.create_task_group() as group:
        group.start_soon(client.wait_readable)
        await anyio.wait_all_tasks_blocked()
        await receive_exactly(server, len(sent) - client.unsent)


async def test_a_cancelled_writer_hands_the_waiting_over(read_wants_write):
    client, server, sent = read_wants_write
    ended: list[str] = []
    async with anyio.create_task_group() as group:
        async with anyio.create_task_group() as writer:
            writer.start_soon(client.wait_writable)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(call, client.wait_readable, ended, "reader")
            await anyio.wait_all_tasks_blocked()
            writer.cancel_scope.cancel()
        await anyio.wait_all_tasks_blocked()
        assert ended == ["reader"]  # which tries again, and waits itself if need be
        group.start_soon(call, client.wait_readable, ended, "again")
        await anyio.wait_all_tasks_blocked()
        assert ended == ["reader"]
        await receive_exactly(server, len(sent) - client.unsent)
    assert ended == ["reader", "again"]


async def test_a_write_that_wants_to_read_waits_for_the_next_read(contrary_pair):
    client, server = contrary_pair
    client.extra("ssl_object").write_wants_read = True
    assert client.send([b"data"]) == 4
    assert client.unsent == 4
    ended: list[str] = []
    async with anyio.create_task_group() as group:
        group.start_soon(call, client.wait_writable, ended, "writer")
        await anyio.wait_all_tasks_blocked()
        server.send([b"x"])
        await client.wait_readable()
        client.extra("ssl_object").write_wants_read = False
        await anyio.wait_all_tasks_blocked()
        assert ended == []  # though the socket is writable all the time
        assert client.recv_into(memoryview(bytearray(10))) == 1
    assert ended == ["writer"]
    assert client.unsent == 0
    assert await receive_some(server, 100) == b"data"


async def test_close_ends_a_write_that_wants_to_read(contrary_pair):
    client, _ = contrary_pair
    client.extra("ssl_object").write_wants_read = True
    client.send([b"data"])
    ended: list[str] = []
    async with anyio.create_task_group() as group:
        group.start_soon(call, client.wait_writable, ended, "writer")
        await anyio.wait_all_tasks_blocked()
        client.close()
    assert ended == ["writer closed"]


async def test_close_ends_both_tasks_that_wait_for_writable(read_wants_write):
    client, _, _ = read_wants_write
    ended: list[str] = []
    async with anyio.create_task_group() as group:
        group.start_soon(call, client.wait_writable, ended, "writer")
        group.start_soon(call, client.wait_readable, ended, "reader")
        await anyio.wait_all_tasks_blocked()
        client.close()
    assert sorted(ended) == ["reader closed", "writer closed"]


# Closing


async def test_close_says_close_notify(tls_pair):
    client, server = tls_pair
    server.extra("ssl_object").suppress_ragged_eofs = False
    client.close()
    assert await receive_some(server, 100) == b""


async def test_close_with_a_record_unsent_does_not_pass_for_the_end(tls_pair, fill):
    client, server = tls_pair
    server.extra("ssl_object").suppress_ragged_eofs = False
    sent = fill(client, bytes(16384))
    unsent = client.unsent
    client.close()
    received = 0
    with pytest.raises(anyio.BrokenResourceError):
        while True:
            received += len(await receive_some(server, 65536))
    assert received <= len(sent) - unsent


async def test_the_peers_data_is_received_after_send_eof(tls_pair):
    client, server = tls_pair
    client.send_eof()
    assert await receive_some(server, 100) == b""
    server.send([b"late"])
    assert await receive_some(client, 100) == b"late"
    server.send_eof()
    assert await receive_some(client, 100) == b""


async def test_send_eof_ends_the_direction_of_the_socket_too(tls_pair):
    client, server = tls_pair
    client.send_eof()
    assert await receive_some(server, 100) == b""
    assert socket.socket.recv(server.extra("socket"), 1) == b""


async def test_send_eof_with_unread_data_of_the_peer_ends_the_stream(tls_pair):
    client, server = tls_pair
    server.send([b"unread"])
    await client.wait_readable()
    client.send_eof()
    with anyio.fail_after(10):
        assert await receive_some(client, 100) == b""
    assert await receive_some(server, 100) == b""


async def test_what_comes_after_both_ends_said_close_notify_is_not_taken_for_data(tls_pair):
    client, server = tls_pair
    server.extra("ssl_object").settimeout(5)
    client.send_eof()
    assert await receive_some(server, 100) == b""
    server.extra("ssl_object").unwrap().sendall(b"plain text")
    await client.wait_readable()
    client.send_eof()
    assert await receive_some(client, 100) == b""


async def test_extra_tells_the_addresses_and_the_tls_socket(tls_pair):
    client, server = tls_pair
    assert isinstance(client.extra("ssl_object"), ssl.SSLSocket)
    assert client.extra("socket") is client.extra("ssl_object")
    assert client.extra("peername") == server.extra("sockname")
    assert server.extra("peername") == client.extra("sockname")
    assert client.extra("color") is None
    assert not client.extra("socket").getblocking()
