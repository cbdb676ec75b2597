"""Requests that are wrong: each is answered with what is wrong, and leaves nothing behind."""

import http.client
import json
import socket

import pytest

from serve import request

pytestmark = pytest.mark.timeout(100)


def body(**changes):
    executable = {"image": "hostile", **changes.pop("executable", {})}
    config = {"executable": executable, "cluster": "localhost:1", **changes.pop("config", {})}
    return {"key": {"name": "wrong", **changes.pop("key", {})}, "spawn_config": config, **changes}


@pytest.mark.parametrize("status, text, wrong", [
    (400, "JSON", b""),
    (400, "JSON", b"{nope"),
    (400, "JSON", b'{"key": {"name": "k"'),
    (400, "JSON", b'{"a": 1} trailing'),
    (400, "JSON", b"\xff\xfe{}"),
    (400, "JSON", b'{"key":' * 5000),
    (400, "JSON", b"[" * 100000 + b"]" * 100000),
    (422, "object", b"[]"),
    (422, "object", b"null"),
    (422, "name", body(key={"name": 5})),
    (422, "name", body(key={"name": {"a": "b"}})),
    (422, "key", {**body(), "key": "text"}),
    (422, "spawn_config", {**body(), "spawn_config": []}),
    (422, "image", body(executable={"image": 7})),
    (422, "env", body(executable={"env": "A=b"})),
    (422, "env", body(executable={"env": {"A": 1}})),
    (422, "memory", body(executable={"resource_limits": {"memory_limit_bytes": "much"}})),
    (422, "mount", body(executable={"mount": 3})),
    (422, "mount", body(executable={"mount": "../.."})),
    (422, "max_idle_seconds", body(config={"max_idle_seconds": "soon"})),
    (422, "lifetime", body(config={"lifetime_limit_seconds": [1]})),
    (422, "auth", body(auth=5)),
    (422, "user", body(user={"name": "x"})),
    (422, "name", body(key={"name": "k" * 5000})),
    (422, "id", body(config={"id": "b" * 300})),
    (422, "id", body(config={"id": "Upper Case"})),
    (422, "subdomain", body(config={"subdomain": "-x"})),
    (422, "subdomain", body(config={"subdomain": "a.b"})),
    (422, "subdomain", body(config={"subdomain": "s" * 64})),
    (422, "cluster", body(config={"cluster": "not a cluster"})),
], ids=lambda value: str(value)[:40])
def test_a_wrong_connect_is_told(plane, status, text, wrong):
    answer = request("POST", f"{plane.api}/ctrl/connect", wrong)
    message = answer.body.decode()
    assert answer.status == status, message
    assert text.lower() in message.lower(), message
    assert set(json.loads(message)) >= {"id", "kind", "message"}


def test_a_huge_body_is_refused_before_it_is_read(plane):
    host, port = plane.listen.split(":")
    with socket.create_connection((host, int(port)), 20) as wire:
        wire.sendall(b"POST /ctrl/connect HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json"
                     b"\r\ncontent-length: 109951162777600\r\n\r\n")
        assert b" 413 " in wire.recv(4096).split(b"\r\n")[0]


def test_a_huge_body_of_unknown_length_is_cut(plane):
    host, port = plane.listen.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    with pytest.raises((http.client.HTTPException, OSError)) as cut:
        connection.request("POST", "/ctrl/connect", (b"x" * 65536 for _ in range(4096)),
                           {"content-type": "application/json"}, encode_chunked=True)
        raise http.client.HTTPException(connection.getresponse().status)
    assert str(cut.value) == "413" or isinstance(cut.value, OSError)
    connection.close()


@pytest.mark.parametrize("method, path", [
    ("GET", "/pub/b/{}/status"), ("GET", "/pub/b/{}/status-stream"),
    ("POST", "/ctrl/b/{}/soft-terminate"), ("POST", "/ctrl/b/{}/hard-terminate"),
    ("GET", "/ctrl/b/{}/logs")])
@pytest.mark.parametrize("name", ["nobody", "n" * 4000, "..%2f..%2fetc", "%00", "'; drop table"])
def test_an_unknown_backend_is_told(plane, method, path, name):
    answer = request(method, plane.api + path.format(name).replace(" ", "%20"))
    assert answer.status in (400, 404), answer.body
