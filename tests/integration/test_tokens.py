"""What a client on the network, and one with a link that is not its own, can do."""

import http.client
import pathlib
import tempfile

import pytest

from serve import EXAMPLES, Serve, request

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def plane():
    with tempfile.TemporaryDirectory(prefix="plane-tokens-") as directory:
        serve = Serve(directory)
        serve.import_image("echo", EXAMPLES / "echo.tar")
        serve.start()
        yield serve
        serve.stop()
        serve.leaks.wait_clean()


def ask(plane, path, method="GET", headers=None):
    """A path as it stands, which urllib would not send."""
    connection = http.client.HTTPConnection(plane.proxy, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("host", plane.cluster)
    for name, value in (headers or {}).items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read().decode(errors="replace")
    connection.close()
    return answer, body


def test_a_token_opens_one_backend_whatever_the_path(plane):
    mine, other = plane.connect("mine", user="me"), plane.connect("other", user="me")
    assert ask(plane, f"/{mine['token']}/")[0].getheader("x-plane-backend-id") == mine["backend_id"]
    for path in ("/..", f"/../{other['token']}/", f"/%2e%2e/{other['token']}/",
                 f"//{other['token']}/", f"/..;/{other['token']}", f"/?/{other['token']}/",
                 "/../ctrl/backends", f"/\\{other['token']}/"):
        answer, _ = ask(plane, f"/{mine['token']}{path}")
        assert answer.getheader("x-plane-backend-id") in (mine["backend_id"], None), path
        assert answer.getheader("x-plane-backend-id") or answer.status >= 400, path


def test_the_proxy_is_no_way_to_the_controller(plane):
    backend = plane.connect("kept")
    for method, path in (("GET", "/ctrl/backends"), ("GET", "/pub/health"), ("GET", "/metrics"),
                         ("POST", f"/ctrl/b/{backend['backend_id']}/hard-terminate"),
                         ("GET", f"http://{plane.listen}/ctrl/backends"),
                         ("GET", f"/{backend['token']}/../../ctrl/backends")):
        answer, body = ask(plane, path, method)
        is_backends = answer.getheader("x-plane-backend-id") == backend["backend_id"]
        assert is_backends or answer.status in (400, 403, 405, 410), (path, answer.status)
        assert "next_cursor" not in body
    assert plane.status(backend["backend_id"])["status"] == "ready"


def test_unknown_and_ended_links_look_the_same(plane):
    ended = plane.connect("ended")
    request("POST", f"{plane.api}/ctrl/b/{ended['backend_id']}/hard-terminate")
    plane.wait_status(ended["backend_id"], "terminated")
    token = ended["token"]
    guess = ("A" if token[0] != "A" else "B") + token[1:]
    answers = []
    for wrong in (token, guess, token[:-1], token + "A", token.swapcase()):
        answer, body = ask(plane, f"/{wrong}/")
        answers.append((answer.status, body, sorted(name.lower() for name in answer.headers)))
    assert [answer[0] for answer in answers] == [410] * 5
    assert all(answer == answers[0] for answer in answers)


def test_who_a_client_is_cannot_be_claimed(plane):
    link = plane.connect("claimed", user="bob")
    for spelling in ("x-verified-username", "X-Verified-Username", "x_verified_username"):
        answer, body = ask(plane, f"/{link['token']}/", headers={spelling: "alice"})
        assert answer.status == 200 and "bob" in body
        assert "alice" not in body, spelling


def test_tokens_and_secrets_are_not_in_logs_or_process_lists(plane):
    link = plane.connect("secret", user="bob")
    assert ask(plane, f"/{link['token']}/")[0].status == 200
    commands = b"".join(path.read_bytes() for path in pathlib.Path("/proc").glob("[0-9]*/cmdline")
                        if path.exists())
    for secret in (link["token"], link["secret_token"]):
        assert secret not in plane.log_text()
        assert secret.encode() not in commands
