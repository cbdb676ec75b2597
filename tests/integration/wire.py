"""The messages of the typed sockets as files, and WebSockets down to the byte: what the tests that
play the other side of a socket are made of."""

import base64
import hashlib
import json
import os
import pathlib
import re
import socket
import struct

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "wire"
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def kebab(name):
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def name_of(message):
    """The name of the file for a message of this kind."""
    if "version" in message:
        return "handshake"
    (kind, content), = message.items()
    if kind == "BackendEvent":
        state = content["state"]
        details = [state.get("termination") or "no-kind"] if state["status"] == "terminated" else []
        return "-".join([kebab(kind), state["status"], *details])
    if kind == "Action":
        (action, details), = content["action"].items()
        more = details["kind"] if action == "Terminate" else (
            "static" if details["static_token"] else None)
        return "-".join(filter(None, [kebab(kind), kebab(action), more]))
    if kind == "RouteInfoResponse":
        route = content["route_info"]
        return kebab(kind) + ("-null" if not route else "" if route["user"] else "-static")
    if kind == "RenewKeyResponse":
        return kebab(kind) + ("" if content["deadlines"] else "-null")
    if kind == "TxtRecordResponse":
        return kebab(kind) + ("-null" if content["txt_value"] is None else "")
    if kind.startswith("CertManager"):
        return kebab(content if isinstance(content, str) else next(iter(content)))
    return kebab(kind)


def fixture(kind, direction, name):
    """A message of the socket `kind` ("drone-socket", ...), exactly as the original writes it."""
    return (FIXTURES / kind / direction / f"{name}.json").read_text()


def filled(text, **values):
    """The same bytes with other values: each `name=value` replaces what field `name` holds, at
    whatever depth; a field of that name must be there."""
    for name, value in values.items():
        field = re.compile(
            rf'("{name}":)(?:"(?:[^"\\]|\\.)*"|-?[0-9]+|null|true|false)')
        assert field.search(text), f"no {name} in {text}"
        text = field.sub(lambda found: found[1] + json.dumps(value), text)
    return text


def ordered(text):
    """The same message with its keys in order: in this Plane writes what it writes."""
    return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class Peer:
    """One side of a WebSocket over a connected stream; frames as they are."""

    def __init__(self, stream, is_client):
        self.stream, self.is_client, self.unread = stream, is_client, b""
        self.kept = []  # texts that came before one that was expected

    @classmethod
    def connect(cls, address, path, headers=(), tls=None):
        """As the original's nodes: a Host without port, and the same headers in the same order."""
        host, port = address.rsplit(":", 1)
        stream = socket.create_connection((host, int(port)), timeout=20)
        if tls:
            stream = tls.wrap_socket(stream, server_hostname=host)
        peer = cls(stream, True)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: Upgrade",
                 "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}",
                 *(f"{name}: {value}" for name, value in headers)]
        stream.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        peer.head = peer.read_head()
        assert peer.head.startswith("HTTP/1.1 101 "), peer.head
        assert accept_of(key) in peer.head
        return peer

    @classmethod
    def accept(cls, stream):
        """Answers a node's request as the original's controller does; `head` is what it asked."""
        peer = cls(stream, False)
        peer.head = peer.read_head()
        key = re.search(r"(?i)^sec-websocket-key: (.*)\r$", peer.head, re.MULTILINE)[1]
        stream.sendall(("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n"
                        f"upgrade: websocket\r\nsec-websocket-accept: {accept_of(key)}\r\n"
                        "date: Wed, 25 Nov 2026 12:00:00 GMT\r\n\r\n").encode())
        return peer

    def read(self, count):
        while len(self.unread) < count:
            piece = self.stream.recv(65536)
            if not piece:
                raise EOFError(f"closed after {self.unread!r}")
            self.unread += piece
        taken, self.unread = self.unread[:count], self.unread[count:]
        return taken

    def read_head(self):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.read(1)
        return head.decode()

    def header(self, name):
        """Of the request, or None."""
        found = re.search(rf"(?i)^{name}: (.*)\r$", self.head, re.MULTILINE)
        return found and found[1]

    def send_frame(self, opcode, payload, first=0x80, length=None):
        """`length` may be a lie."""
        size = len(payload) if length is None else length
        mask = os.urandom(4) if self.is_client else b""
        bit = 0x80 if self.is_client else 0
        head = (struct.pack(">BB", first | opcode, bit | size) if size < 126 else
                struct.pack(">BBH", first | opcode, bit | 126, size) if size < 65536 else
                struct.pack(">BBQ", first | opcode, bit | 127, size))
        if mask:
            payload = bytes(byte ^ mask[i & 3] for i, byte in enumerate(payload))
        self.stream.sendall(head + mask + payload)

    def send(self, text):
        self.send_frame(TEXT, text.encode())

    def read_frame(self):
        first, second = self.read(2)
        assert first & 0x80 and bool(second & 0x80) != self.is_client, (first, second)
        size = second & 0x7f
        if size > 125:
            size, = struct.unpack(*((">H", self.read(2)) if size == 126 else (">Q", self.read(8))))
        mask = b"" if self.is_client else self.read(4)
        payload = self.read(size)
        if mask:
            payload = bytes(byte ^ mask[i & 3] for i, byte in enumerate(payload))
        return first & 0xf, payload

    def receive(self):
        """The next text; pings are answered, as every library does."""
        while True:
            opcode, payload = self.read_frame()
            if opcode == TEXT:
                return payload.decode()
            if opcode == CLOSE:
                raise EOFError(f"closed: {payload!r}")
            if opcode == PING:
                self.send_frame(PONG, payload)

    def expect(self, kind):
        """The next message of `kind`, as it was sent; others are kept for who expects them."""
        for text in self.kept:
            if name_of(json.loads(text)) == kind:
                self.kept.remove(text)
                return text
        while True:
            text = self.receive()
            if name_of(json.loads(text)) == kind:
                return text
            self.kept.append(text)

    def wait_close(self):
        """Code and reason of the Close frame that comes, after whatever else comes."""
        while True:
            opcode, payload = self.read_frame()
            if opcode == CLOSE:
                code = struct.unpack(">H", payload[:2])[0] if payload else None
                return code, payload[2:].decode()

    def close(self):
        self.stream.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def accept_of(key):
    return base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
