"""Responses of HTTP as servers and proxies send them: in pieces, in chunks, without a length, and broken."""

import fcntl
import resource
import socket
import threading

import pytest

from pagewire import Client, Error


class Script:
    """Sends the same bytes, piece by piece, after each request, and keeps the requests."""

    def __init__(self, *pieces, close=False):
        self.pieces = pieces
        self.close = close
        self.requests = []
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.client = Client(f"http://127.0.0.1:{self.listener.getsockname()[1]}", timeout=5)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while request := connection.recv(1 << 16):
            self.requests.append(request)
            for piece in self.pieces:
                connection.sendall(piece)
            if self.close:
                break
        connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client._pool.close()
        self.listener.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        [HEAD + b"Content-Length: 2\r\n\r\n42"],
        [HEAD[:9], HEAD[9:] + b"CONTENT-LENGTH:2\r\n\r", b"\n", b"4", b"2"],
        [HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n4\r\n", b"1;name=value\r\n2\r", b"\n0\r\nx: y\r\n\r\n"],
        [b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", HEAD + b"content-length: 2\r\n\r\n42"],
    ],
)
def test_a_response_in_any_pieces_is_read_and_its_connection_is_used_again(pieces):
    with Script(*pieces) as server:
        assert [server.client.call("x") for _ in range(3)] == [42, 42, 42]
        assert server.connections == 1
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /api/v1/calls HTTP/1.1\r\nHost: 127.0.0.1:")
        assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")


@pytest.fixture
def many_descriptors():
    """Lets this process have more than 1024 descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    except ValueError:
        pytest.skip("this user may not have so many descriptors")
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_connection_with_a_large_descriptor_is_used_again(many_descriptors):
    with Script(HEAD + b"Content-Length: 2\r\n\r\n42") as server:
        server.client.call("x")
        (connection,) = server.client._pool._idle
        with connection.sock as small:
            connection.sock = socket.socket(fileno=fcntl.fcntl(small.fileno(), fcntl.F_DUPFD_CLOEXEC, 1500))
        assert server.client.call("x") == 42
        assert server.connections == 1


@pytest.mark.parametrize("head", [HEAD, HEAD + b"Connection: Close\r\nContent-Length: 2\r\n", b"HTTP/1.0 200 OK\r\n"])
def test_a_connection_that_ends_with_its_response_is_not_used_again(head):
    with Script(head + b"\r\n42", close=True) as server:
        assert [server.client.call("x") for _ in range(2)] == [42, 42]
        assert server.connections == 2


def test_a_response_without_a_body_has_no_value():
    with Script(b"HTTP/1.1 204 No Content\r\n\r\n") as server:
        assert [server.client.call("x") for _ in range(2)] == [None, None]
        assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"220 mail.example ESMTP\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 9\r\n\r\n42",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000,
    ],
)
def test_what_is_no_response_is_an_uncertain_end_of_a_request_that_changes_something(answer):
    with Script(answer, close=True) as server:
        with pytest.raises(Error) as raised:
            server.client.call("x")
        assert raised.value.code == "uncertain"
        with pytest.raises(Error) as raised:
            server.client.stats()
        assert raised.value.code == "unavailable"


def test_a_path_or_a_key_that_could_change_the_request_is_refused():
    with pytest.raises(ValueError, match="Authorization"):
        Client("http://127.0.0.1:1", "key\r\nHost: other")
    with Script(HEAD + b"Content-Length: 2\r\n\r\n42") as server:
        with pytest.raises(Error) as raised:
            server.client.state.of("user x\r\n", "ada").get("a")
        assert raised.value.code == "malformed"
        assert server.requests == []
