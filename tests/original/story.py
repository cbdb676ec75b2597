"""One life of a small cluster, told to a controller with a drone and a proxy that may be the
original's or ours: all that the three sockets know is said."""

import json

from peers import Process, ask_txt
from serve import request, wait_until

CLUSTER = "plane.test"
ZONE = "zone.test"


class Story:
    """`images` are one that there is and one that there is not."""

    def __init__(self, api, proxy_port, images=("image", "missing")):
        self.api, self.proxy_port, self.images = api, proxy_port, images

    def connect(self, key, image=None, config=None, **more):
        answer = request("POST", f"{self.api}/ctrl/connect", {
            "key": {"name": key, "namespace": "space", "tag": "tag"},
            "spawn_config": {"cluster": CLUSTER, "executable": {
                "image": image or self.images[0], "env": {"B": "2", "A": "1"}}, **(config or {})},
            **more})
        assert answer.status == 200, answer.body
        return answer.json()

    def status(self, backend):
        return request("GET", f"{self.api}/pub/b/{backend}/status").json()

    def wait_status(self, backend, status):
        wait_until(lambda: self.status(backend)["status"] == status, 60, f"{backend} is {status}")

    def get(self, path, host=CLUSTER):
        return request("GET", f"http://127.0.0.1:{self.proxy_port}{path}", headers={"host": host})

    def wait_nodes(self):
        def is_connected():
            state = request("GET", f"{self.api}/ctrl/c/{CLUSTER}/state")
            return state.status == 200 and any(d["ready"] for d in state.json()["drones"])

        def is_ready():
            try:
                return self.get("/ready").status == 200
            except OSError:
                return False
        wait_until(is_connected, 60, "a drone is there")
        wait_until(is_ready, 60, "a proxy is there")

    def tell(self):
        """Returns a backend that lives on."""
        made = self.connect("one", user="alice", auth={"b": 2, "a": 1})
        backend = made["backend_id"]
        answer = self.get(f"/{made['token']}/some/path")  # held until the backend is ready
        assert answer.status == 200 and answer.json()["path"] == "/some/path", answer.body
        again = self.connect("one")
        assert again["backend_id"] == backend and not again["spawned"]
        assert self.get("/no-such-token-anywhere/").status == 410
        static = self.connect("two", config={"use_static_token": True, "subdomain": "sub"})
        assert self.get(f"/{static['token']}/", host=f"sub.{CLUSTER}").status == 200
        self.end(backend, "soft")
        wait_until(lambda: self.get(f"/{made['token']}/").status == 410, 30, "its link is gone")
        self.end(static["backend_id"], "hard")
        failed = self.connect("three", image=self.images[1])
        self.wait_status(failed["backend_id"], "terminated")
        entry = self.status(failed["backend_id"])
        assert "termination_kind" not in entry and entry["exit_error"] is False
        lives = self.connect("four")
        self.wait_status(lives["backend_id"], "ready")
        return lives["backend_id"]

    def end(self, backend, kind):
        answer = request("POST", f"{self.api}/ctrl/b/{backend}/{kind}-terminate")
        assert answer.status == 200 and answer.json() is None
        self.wait_status(backend, "terminated")
        entry = self.status(backend)
        assert entry["termination_kind"] == kind and entry["termination_reason"] == "external"


def put_and_ask_txt(directory, program, url, relay, dns_port):
    """The original's admin command speaks as a proxy that wants a certificate."""
    admin = Process(directory, "admin", program, "admin", "--controller", url, "put-dummy-dns",
                    "--cluster", CLUSTER)
    assert admin.process.wait(30) == 0, admin.log()
    value = [json.loads(text) for text in relay.seen("proxy-socket", "to-controller")
             if "SetTxtRecord" in text][0]["CertManagerRequest"]["SetTxtRecord"]["txt_value"]
    assert ask_txt(dns_port, f"{CLUSTER}.{ZONE}") == value
    assert ask_txt(dns_port, f"other.test.{ZONE}") is None


def wait_renewal(relay):
    wait_until(lambda: any("RenewKeyResponse" in text for text in relay.seen(
        "drone-socket", "from-controller")), 60, "a renewal")
