"""The original's programs with ours, for who has them: `make test-original PLANE_ORIGINAL=.../plane`.
What they say is held against the recorded messages."""

import json
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

from peers import Executor, Process, Relay, start_controller, start_nodes  # noqa: E402
from postgres import Postgres  # noqa: E402
from serve import EXAMPLES, PLANE, Serve, free_port  # noqa: E402
from story import CLUSTER, ZONE, Story, put_and_ask_txt, wait_renewal  # noqa: E402
from wire import FIXTURES, fixture, name_of  # noqa: E402

pytestmark = pytest.mark.timeout(300)
ORIGINAL = os.environ["PLANE_ORIGINAL"]


def shape_of(value):
    """Keys in their order, and the kinds of what they hold."""
    if isinstance(value, dict):
        return [(name, shape_of(inner)) for name, inner in value.items()]
    return type(value).__name__


def check_recorded(relay, direction, ours=()):
    """Everything that the original said in this direction has the shape of what was recorded, and
    all that was recorded was said; `ours` are messages that only we cause."""
    for kind in ("drone-socket", "proxy-socket", "dns-socket"):
        said = set()
        for text in relay.seen(kind, direction):
            message = json.loads(text)
            said.add(name_of(message))
            recorded = json.loads(fixture(kind, direction, name_of(message)))
            assert shape_of(message) == shape_of(recorded), text
        known = {path.stem for path in (FIXTURES / kind / direction).iterdir()}
        if relay.seen(kind, direction):
            assert said == known - set(ours)


def test_its_drone_proxy_and_dns_server_live_with_our_controller(tmp_path):
    controller, address = start_controller(
        tmp_path, PLANE, "--db", f"sqlite:{tmp_path}/plane.db")
    relay, executor = Relay(address), Executor(tmp_path / "executor")
    url, proxy_port, dns_port = f"http://a%20token@{relay.address}/", free_port(), free_port()
    nodes = start_nodes(tmp_path, ORIGINAL, url, CLUSTER, ZONE, executor.path, proxy_port, dns_port)
    try:
        story = Story(f"http://{address}", proxy_port)
        story.wait_nodes()
        lives = story.tell()
        executor.tell_metrics(lives)
        put_and_ask_txt(tmp_path, ORIGINAL, url, relay, dns_port)
        wait_renewal(relay)
        assert story.status(lives)["status"] == "ready"
        for _, headers in relay.upgrades:
            assert headers["authorization"] == "Bearer a%20token"
    finally:
        for process in nodes:
            process.stop()
        status = controller.stop()
        executor.stop()
        relay.stop()
    check_recorded(relay, "to-controller", {"release-cert-lease"})  # which it never sends
    assert status == 0 and "skipping a message" not in controller.log(), controller.log()
    for process in nodes[:2]:
        assert "Failed to deserialize" not in process.log(), process.log()


def test_our_drone_and_proxy_live_with_its_controller(tmp_path):
    place, proxy_port = Serve(tmp_path), free_port()  # only its directory: no server is started
    place.import_image("echo", EXAMPLES / "echo.tar")
    with Postgres() as postgres:
        controller, address = start_controller(tmp_path, ORIGINAL, "--db", postgres.url())
        relay = Relay(address)
        url = f"ws://a%20token@{relay.address}"
        nodes = [
            Process(tmp_path, "drone", PLANE, "drone", "--controller-url", url, "--cluster", CLUSTER,
                    "--data-dir", place.data, "--parked", "2", "--end-backends"),
            Process(tmp_path, "proxy", PLANE, "proxy", "--controller-url", url, "--cluster", CLUSTER,
                    "--host", "127.0.0.1", "--http-port", proxy_port)]
        try:
            story = Story(f"http://{address}", proxy_port, ("echo", "there-is-none"))
            story.wait_nodes()
            lives = story.tell()
            wait_renewal(relay)
            assert story.status(lives)["status"] == "ready"
        finally:
            statuses = [process.stop() for process in nodes]
            controller.stop()
            relay.stop()
    check_recorded(relay, "from-controller", {
        # it never refuses a renewal in words, and our proxy gets its certificates elsewhere
        "renew-key-response-null", "cert-lease-response", "set-txt-record-response"})
    assert statuses == [0, 0]
    for process in nodes:
        assert "skipped a message" not in process.log(), process.log()
    assert "Failed to deserialize" not in controller.log(), controller.log()
