"""Where a drone may have proxies sent: played drones on machines of their own (network namespaces),
and on the controller's."""

import contextlib
import os

import pytest

from hosts import Hosts
from machine import enter, own_namespace
from serve import wait_until
from test_controller import Controller, VERSION
from test_sockets import Node, REFUSED, log_of, node

pytestmark = [pytest.mark.timeout(90), pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
ANY = ["--insecure-no-auth", "yes"]


@contextlib.contextmanager
def inside(host):
    """What this thread opens and starts is on the machine."""
    before = own_namespace()
    try:
        enter(host.fd)
        yield
    finally:
        enter(before)
        os.close(before)


class Place:
    def __init__(self, directory, hosts):
        self.hosts = hosts
        with inside(hosts.control):
            self.controller = Controller(directory, *ANY, listen=f"{hosts.control.address}:0")

    def spawn(self):
        with inside(self.hosts.control):
            return self.controller.connect(key=None).json()["backend_id"]

    def status(self, backend):
        with inside(self.hosts.control):
            return self.controller.get(f"/pub/b/{backend}/status").json()["status"]

    def open(self, host, name, backends=None):
        with inside(host):
            return Node(self.controller, name, handshake=said(name, backends))

    def serve(self, host, name, backends=None):
        made = self.open(host, name, backends)
        made.controller_kind = name[:2]
        assert made.hear("name").startswith("co-")
        made.say({"Heartbeat": {"local_time": 1_000_000}})
        made.is_served()
        return made


def said(name, backends):
    return {"version": VERSION, "name": name, **({"backends": backends} if backends else {})}


def at(ip, first=20000, last=21022):
    return {"ip": ip, "first_port": first, "last_port": last}


def refusal(made):
    with made:
        code, reason = made.peer.wait_close()
        assert code == REFUSED
        return reason


@pytest.fixture
def place(tmp_path):
    with Hosts("control", "drone", "other") as hosts:
        made = Place(tmp_path, hosts)
        yield made
        assert made.controller.stop() == 0
    text = log_of(made.controller)
    assert "ERROR: AddressSanitizer" not in text and "runtime error" not in text, text[-4000:]


def tell(place, made, backend, address):
    """Says that it is ready there; is it heard?"""
    made.events += 1
    made.say({"BackendEvent": {"event_id": made.events, "backend_id": backend, "timestamp": 1,
                               "state": {"status": "ready", "address": address}}})
    made.is_served()
    return place.status(backend) == "ready"


def test_an_original_drone_tells_addresses_of_its_own_machine_only(place):
    own, other = place.hosts.drone.address, place.hosts.other.address
    with place.serve(place.hosts.drone, "dr-x") as made:
        backend = place.spawn()
        for address in ("127.0.0.1:80", "[::1]:80", "169.254.169.254:80", "0.0.0.0:80", "[fe80::1]:80",
                        "[::ffff:127.0.0.1]:80"):
            assert not tell(place, made, backend, address), address
        assert tell(place, made, backend, f"{own}:32768")
        second = place.spawn()
        assert not tell(place, made, second, f"{other}:32768")
        assert tell(place, made, second, f"{own}:32769")
    assert "it is not the drone's address" in log_of(place.controller)


def test_what_another_drone_has_registered_is_its_own(place):
    own, other = place.hosts.drone.address, place.hosts.other.address
    with place.serve(place.hosts.other, "dr-theirs", at(other)):
        with place.serve(place.hosts.drone, "dr-x") as original:
            backend = place.spawn()
            while drone_of(place, backend) != "dr-x":  # one of the two is drawn
                backend = place.spawn()
            assert not tell(place, original, backend, f"{other}:20000")
        assert "dr-theirs has registered there" in log_of(place.controller)
        # nor can it be registered, as long as that one is connected
        taken = refusal(place.open(place.hosts.drone, "dr-x", at(other)))
        assert "dr-theirs has registered there" in taken
        assert "dr-theirs" in refusal(place.open(place.hosts.drone, "dr-x", at(other, 21022, 30000)))
        place.serve(place.hosts.drone, "dr-x", at(other, 21023, 30000)).peer.close()
        place.serve(place.hosts.drone, "dr-x", at(own)).peer.close()
        # which comes again as it likes
        place.serve(place.hosts.other, "dr-theirs", at(other)).peer.close()

    def is_free():
        with place.open(place.hosts.drone, "dr-y", at(other)) as made:
            with contextlib.suppress(EOFError):
                return made.hear("name").startswith("co-")
    wait_until(is_free, 20, "the address of a drone that has gone")


def drone_of(place, backend):
    with inside(place.hosts.control):
        backends = place.controller.get("/ctrl/backends?alive=true").json()["backends"]
    return next(entry["drone"] for entry in backends if entry["backend_id"] == backend)


def test_a_registered_drone_keeps_to_what_it_registered(place):
    own = place.hosts.drone.address
    with place.serve(place.hosts.drone, "dr-x", at(own)) as made:
        backend = place.spawn()
        for address in (f"{own}:22", f"{own}:21023", f"{place.hosts.other.address}:20000",
                        "127.0.0.1:20000"):
            assert not tell(place, made, backend, address), address
        assert tell(place, made, backend, f"{own}:21022")


def test_addresses_that_cannot_be_a_machine_s_are_refused(place):
    for ip, told in (("169.254.169.254", "no address of a machine"), ("0.0.0.0", "no address"),
                     ("127.0.0.1", "--ip"), ("host.example", "no IP address")):
        assert told in refusal(place.open(place.hosts.drone, "dr-x", at(ip))), ip
    assert "start the drone with --ip" in refusal(
        place.open(place.hosts.drone, "dr-x", {"ip": None}))
    assert "last_port" in refusal(place.open(place.hosts.drone, "dr-x", at("10.1.2.3", 5, 4)))
    # on the controller's machine, by whatever address
    with place.serve(place.hosts.control, "dr-here", {"ip": None}) as made:
        assert tell(place, made, place.spawn(), "10.88.16.2:8080")


def test_on_loopback_the_original_s_default_goes_on(tmp_path):
    controller = Controller(tmp_path)
    with node(controller, "dr-x") as made:
        for address in ("127.0.0.1:32768", "[::1]:80", "10.88.16.3:80"):
            backend = controller.connect(key=None).json()["backend_id"]
            made.event(backend, {"status": "ready", "address": address})
            assert controller.get(f"/pub/b/{backend}/status").json()["status"] == "ready"
    assert controller.stop() == 0
