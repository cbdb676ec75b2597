"""What a backend cannot do: each attempt to get out of its sandbox ends in a refusal."""

import http.server
import re
import tempfile
import threading

import pytest

from serve import BUILD, EXAMPLES, Serve, request, wait_until

pytestmark = pytest.mark.timeout(100)
IMAGE = BUILD / "tests" / "integration" / "escapes.tar"


@pytest.fixture(scope="module")
def plane():
    with tempfile.TemporaryDirectory(prefix="plane-sandbox-") as directory:
        serve = Serve(directory)
        serve.import_image("escapes", IMAGE)
        serve.import_image("escapes-root", IMAGE, "--user", "root")
        serve.import_image("echo", EXAMPLES / "echo.tar")
        serve.start()
        yield serve
        serve.stop()
        assert serve.leftovers() == []


def address_of(plane, backend):
    """A backend's own address, as the log of the drone tells when it adopts it."""
    plane.kill_child("drone")
    pattern = re.compile(rf"{backend}: adopted: ready at (\S+)")
    found = wait_until(lambda: pattern.search(plane.log_text()), 20, "adoption")
    wait_until(plane.is_ready, 20, "drone back")
    return found.group(1)


@pytest.fixture(scope="module")
def targets(plane):
    """Addresses that a backend must not reach, each with somebody listening there."""
    other = plane.connect("other")
    address = address_of(plane, other["backend_id"])
    gateway = address.rsplit(".", 1)[0] + ".1"
    listener = http.server.ThreadingHTTPServer(("0.0.0.0", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    yield {"TRY_HOST": f"{gateway}:{listener.server_port}",
           "TRY_CONTROLLER": f"{gateway}:{plane.listen.split(':')[1]}",
           "TRY_OTHER": address, "TRY_METADATA": "169.254.169.254:80"}
    listener.shutdown()


@pytest.mark.parametrize("image", ["escapes", "escapes-root"])
def test_every_attempt_is_refused(plane, targets, image):
    connection = plane.connect(image=image, env=targets)
    answer = request("GET", connection["url"], timeout=60).json()
    assert len(answer) > 60
    allowed = [name for name, result in answer.items() if not result.startswith("refused")]
    assert allowed == [], answer
    assert plane.status(connection["backend_id"])["status"] == "ready"


@pytest.mark.parametrize("image", ["escapes", "escapes-root"])
def test_privileges_are_at_most_dockers(plane, image):
    connection = plane.connect(image=image)
    text = request("GET", connection["url"] + "status").body.decode()
    status = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    docker_default = 0x00000000a80425fb
    assert int(status["NoNewPrivs"]) == 1 and int(status["Seccomp"]) == 2
    for kind in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"):
        assert int(status[kind], 16) & ~docker_default == 0, (kind, status[kind])
    assert int(status["CapInh"], 16) == 0
