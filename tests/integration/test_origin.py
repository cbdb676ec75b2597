"""What a page that a browser shows on the operator's machine can have the browser ask of a
controller there: nothing. The headers are those that browsers send."""

import asyncio

import pytest
import websockets

from test_controller import CLUSTER, Controller, auth_server, connect_body
from test_security import ROUTES, Guarded, bearer, fill

pytestmark = pytest.mark.timeout(60)
EVIL = "https://evil.example"


@pytest.fixture
def controller(tmp_path):
    started = Controller(tmp_path, "--allow-host", "plane,other.internal")
    yield started
    assert started.stop() == 0


def refusal(answer):
    assert answer.status == 403 and answer.json()["kind"] == "Other", answer.body
    return answer.json()["message"]


@pytest.mark.parametrize("headers", [
    {"origin": EVIL}, {"origin": "null"}, {"origin": EVIL, "sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}])
def test_a_page_of_another_origin_reaches_no_route_of_a_loopback_controller(controller, headers):
    simple = {"content-type": "text/plain", **headers}  # no preflight
    for method, pattern, scope in ROUTES:
        answer = controller.request(method, fill(pattern), b"a=b" if method == "POST" else None,
                                    headers=simple)
        if scope == "public":
            assert answer.status != 403, pattern
        else:
            assert "another origin" in refusal(answer), pattern
    assert controller.get("/ctrl/status").status == 200


@pytest.mark.parametrize("path", [f"/ctrl/c/{CLUSTER}/drone-socket",
                                  f"/ctrl/c/{CLUSTER}/proxy-socket", "/ctrl/dns-socket"])
def test_a_page_cannot_be_a_node(controller, path):
    async def attempt(**origin):
        async with websockets.connect(f"ws://{controller.address}{path}", **origin):
            return 101
    with pytest.raises(websockets.InvalidStatusCode) as refused:
        asyncio.run(attempt(origin=EVIL))
    assert refused.value.status_code == 403
    assert asyncio.run(attempt()) == 101
    assert asyncio.run(attempt(origin=f"http://{controller.address}")) == 101


def test_a_name_that_leads_to_loopback_is_not_the_controllers_own(controller):
    port = controller.address.rsplit(":", 1)[1]
    rebound = f"rebound.example:{port}"
    answer = controller.post("/ctrl/connect", connect_body("k"), headers={
        "host": rebound, "origin": f"http://{rebound}", "sec-fetch-site": "same-origin"})
    assert "Host" in refusal(answer) and "--allow-host" in refusal(answer)
    for path in ("/ctrl/status", "/metrics", "/ctrl/none"):
        assert "--allow-host" in refusal(controller.get(path, headers={"host": rebound}))
    assert controller.get("/pub/health", headers={"host": rebound}).status == 200
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", "[::1]", "plane", f"other.internal:{port}"):
        assert controller.get("/ctrl/status", headers={"host": host}).status == 200


def test_where_something_else_guards_names_are_not_looked_at(tmp_path):
    open_to_all = Controller(tmp_path, "--insecure-no-auth", "yes", listen="127.0.0.1:0")
    assert open_to_all.get("/ctrl/status", headers={"host": "any.example"}).status == 200
    refusal(open_to_all.get("/ctrl/status", headers={"host": "any.example", "origin": EVIL}))
    assert open_to_all.stop() == 0
    guarded = Guarded(tmp_path)
    token = bearer(guarded.secrets["read"])
    assert guarded.get("/ctrl/status", headers={"host": "any.example", **token}).status == 200
    # no page can have the browser send this
    assert guarded.get("/ctrl/status", headers={"origin": EVIL, **token}).status == 200
    assert guarded.get("/ctrl/status", headers={"origin": EVIL}).status == 401
    assert guarded.stop() == 0


def test_cookies_for_forward_auth_do_not_speak_for_a_page(tmp_path):
    seen = []
    with auth_server(seen) as url:
        guarded = Controller(tmp_path, "--forward-auth", url)
        page = {"origin": EVIL, "cookie": "session=good"}
        assert "another origin" in refusal(guarded.get("/ctrl/status", headers=page))
        assert seen == []  # it was not asked
        answer = guarded.get("/ctrl/status", headers={"origin": EVIL, **bearer("good")})
        assert answer.status == 200 and len(seen) == 1
        assert guarded.stop() == 0
