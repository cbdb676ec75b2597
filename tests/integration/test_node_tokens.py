"""Tokens of the scope "node" that are good for some nodes only."""

import contextlib
import os

import pytest

from serve import wait_until
from test_controller import VERSION
from test_security import Guarded, bearer, create, plane
from test_sockets import CLUSTER, PATHS, REFUSED
from wire import Peer

pytestmark = pytest.mark.timeout(90)
DRONE, PROXY, DNS = PATHS["dr"], PATHS["px"], PATHS["ns"]


@pytest.fixture
def guarded(tmp_path):
    controller = Guarded(tmp_path)
    yield controller
    assert controller.stop() == 0
    text = controller.log_text()
    assert "ERROR: AddressSanitizer" not in text and "runtime error" not in text, text[-4000:]


def greet(controller, token, path, name, **more):
    peer = Peer.connect(controller.address, path, [("Authorization", f"Bearer {token}")])
    peer.send('{"name":"%s","version":{"version":"%s","git_hash":""}%s}' % (
        name, VERSION["version"], "".join(f',"{key}":{value}' for key, value in more.items())))
    return peer


def is_served(*words, **more):
    with greet(*words, **more) as peer:
        return '"co-' in peer.receive()


def refusal(*words, **more):
    with greet(*words, **more) as peer:
        code, reason = peer.wait_close()
        assert code == REFUSED
        return reason


def test_a_token_is_for_the_nodes_that_it_names(guarded):
    kind = guarded.add("kind", "node", "--node-kind", "proxy")
    assert is_served(guarded, kind, PROXY, "px-a")
    assert "for a proxy, not for a drone" in refusal(guarded, kind, DRONE, "dr-a")
    assert "for a proxy, not for a dns" in refusal(guarded, kind, DNS, "ns-a")
    name = guarded.add("name", "node", "--node-name", "dr-one")
    assert is_served(guarded, name, DRONE, "dr-one")
    assert "its token is for dr-one" in refusal(guarded, name, DRONE, "dr-two")
    assert "its token is for dr-one" in refusal(guarded, name, PROXY, "px-one")
    cluster = guarded.add("cluster", "node", "--cluster", CLUSTER)
    assert is_served(guarded, cluster, DRONE, "dr-one") and is_served(guarded, cluster, PROXY, "px-a")
    assert f"for cluster {CLUSTER}" in refusal(
        guarded, cluster, "/ctrl/c/bank.example.com/proxy-socket", "px-a")
    assert f"for cluster {CLUSTER}" in refusal(guarded, cluster, DNS, "ns-a")
    everything = guarded.add("all", "node", "--node-kind", "drone", "--node-name", "dr-one",
                             "--cluster", CLUSTER)
    assert is_served(guarded, everything, DRONE, "dr-one")
    free = guarded.secrets["node"]
    for path, node in ((DRONE, "dr-x"), (PROXY, "px-x"), (DNS, "ns-x")):
        assert is_served(guarded, free, path, node)


def test_a_token_for_an_address_is_for_drones_there(guarded):
    token = guarded.add("ip", "node", "--node-ip", "10.0.0.21")
    here = '{"ip":"10.0.0.21","first_port":20000,"last_port":21022}'
    assert is_served(guarded, token, DRONE, "dr-a", backends=here)
    assert "for a drone at 10.0.0.21" in refusal(
        guarded, token, DRONE, "dr-a", backends=here.replace("21\"", "22\""))
    assert is_served(guarded, token, DRONE, "dr-a")  # and what it tells must be there


def test_a_connection_ends_when_its_token_is_for_another_node(guarded):
    token = guarded.add("one", "node", "--node-name", "dr-one")
    with greet(guarded, token, DRONE, "dr-one") as peer:
        assert '"co-' in peer.receive()
        text = guarded.tokens.read_text()
        changed = guarded.tokens.with_name("changed")
        changed.touch(0o600)
        changed.write_text(text.replace("node-name:dr-one", "node-name:dr-two"))
        os.rename(changed, guarded.tokens)
        assert peer.wait_close()[0] == REFUSED

    def is_other():
        with contextlib.suppress(EOFError):
            return is_served(guarded, token, DRONE, "dr-two")
    wait_until(is_other, 20, "the other node is served")
    assert guarded.get("/ctrl/status", headers=bearer(guarded.secrets["read"])).status == 200


def test_the_program_writes_and_shows_for_which_nodes(tmp_path):
    path = tmp_path / "tokens"
    create(path, "run-1", "node", "--node-kind", "drone", "--node-name", "dr-run-1", "--cluster",
           CLUSTER, "--node-ip", "10.0.0.21")
    assert path.read_text().rstrip().endswith(
        f" node-kind:drone node-name:dr-run-1 cluster:{CLUSTER} node-ip:10.0.0.21")
    listed = plane("token", "list", "--file", path).stdout
    assert "NODES" in listed and f"drone dr-run-1 {CLUSTER} 10.0.0.21" in listed
    for flags, told in ((["--node-kind", "controller"], "drone, proxy or dns"),
                        (["--node-kind", "proxy", "--node-name", "dr-x"], "not one of a proxy"),
                        (["--node-kind", "dns", "--cluster", CLUSTER], "no cluster"),
                        (["--cluster", "a/b"], "--cluster"), (["--node-name", ""], "empty"),
                        (["--node-ip", "localhost"], "IP address")):
        wrong = plane("token", "create", "--name", "x", "--scope", "node", "--file", path, *flags,
                      check=False)
        assert wrong.returncode == 1 and told in wrong.stderr, wrong.stderr
    for flag in ("--node-kind", "--node-name", "--cluster", "--node-ip"):
        wrong = plane("token", "create", "--name", "x", "--scope", "read,admin", "--file", path, flag,
                      "drone", check=False)
        assert wrong.returncode == 1 and 'scope "node"' in wrong.stderr
    assert path.read_text().count("\n") == 1
