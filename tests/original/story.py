"""One life of a small cluster, told to a controller, with a drone, a proxy and a DNS server that may be
the original's or ours: every message of the three sockets is said once at least."""

from peers import ask_txt
from serve import request, wait_until

CLUSTER = "plane.test"
ZONE = "zone.test"


class Story:
    def __init__(self, api, proxy_port, executor):
        self.api, self.proxy_port, self.executor = api, proxy_port, executor

    def connect(self, key, image="image", **more):
        config = {"cluster": CLUSTER, "executable": {"image": image, "env": {"B": "2", "A": "1"}}}
        config.update(more.pop("config", {}))
        answer = request("POST", f"{self.api}/ctrl/connect", {
            "key": {"name": key, "namespace": "space", "tag": "tag"}, "spawn_config": config, **more})
        assert answer.status == 200, answer.body
        return answer.json()

    def status(self, backend):
        return request("GET", f"{self.api}/pub/b/{backend}/status").json()

    def wait_status(self, backend, status):
        wait_until(lambda: self.status(backend)["status"] == status, 30, f"{backend} is {status}")

    def get(self, path, host=CLUSTER):
        return request("GET", f"http://127.0.0.1:{self.proxy_port}{path}", headers={"host": host})

    def wait_drone(self):
        def is_there():
            answer = request("GET", f"{self.api}/ctrl/c/{CLUSTER}/state")
            return answer.status == 200 and any(d["ready"] for d in answer.json()["drones"])
        wait_until(is_there, 30, "a drone is there")
        wait_until(lambda: self.get("/ready").status == 200, 30, "a proxy is there")

    def lives_and_ends(self):
        """Returns a backend that lives on."""
        made = self.connect("one", user="alice", auth={"b": 2, "a": 1})
        backend = made["backend_id"]
        answer = self.get(f"/{made['token']}/some/path")
        assert answer.status == 200 and answer.json()["path"] == "/some/path", answer.body
        again = self.connect("one")
        assert again["backend_id"] == backend and not again["spawned"]
        assert self.get("/no-such-token/").status == 410
        static = self.connect("two", config={"use_static_token": True, "subdomain": "sub"})
        answer = self.get(f"/{static['token']}/", host=f"sub.{CLUSTER}")
        assert answer.status == 200, answer.status
        self.end(backend, "soft")
        wait_until(lambda: self.get(f"/{made['token']}/").status == 410, 30, "its link is gone")
        self.end(static["backend_id"], "hard")
        failed = self.connect("three", image="missing")
        self.wait_status(failed["backend_id"], "terminated")
        entry = self.status(failed["backend_id"])
        assert "termination_kind" not in entry and entry["exit_error"] is False
        lives = self.connect("four")
        self.wait_status(lives["backend_id"], "ready")
        return lives

    def end(self, backend, kind):
        answer = request("POST", f"{self.api}/ctrl/b/{backend}/{kind}-terminate")
        assert answer.status == 200 and answer.json() is None
        self.wait_status(backend, "terminated")
        entry = self.status(backend)
        assert entry["termination_kind"] == kind and entry["termination_reason"] == "external"
        assert entry["exit_error"] is (kind == "hard")


def dns_answers(port, value):
    assert wait_until(lambda: ask_txt(port, f"{CLUSTER}.{ZONE}"), 20, "an answer") == value
    assert ask_txt(port, f"other.test.{ZONE}") is None
