"""A `plane serve` with the hostile backend, for the fault tests and the soak."""

import os
import pathlib

from serve import BUILD, Serve, request, wait_until

HOSTILE = BUILD / "tests" / "faults" / "hostile.tar"


class FaultyServe(Serve):
    def __init__(self, directory, extra=()):
        mount_base = pathlib.Path(directory) / "keys"
        mount_base.mkdir(exist_ok=True)
        super().__init__(directory, ["--mount-base", str(mount_base), *extra])
        self.mount_base = mount_base

    hostile = HOSTILE

    def start(self):
        if not (self.data / "images" / "index").exists():
            # root in its sandbox: it writes into the directory of its key
            self.import_image("hostile", HOSTILE, "--user", "root")
        return super().start()

    def ask(self, key, hostile="", timeout=30, **spawn):
        """POST /ctrl/connect for a backend of the key, as it comes: an Answer."""
        executable = {"image": spawn.pop("image", "hostile"), "mount": True,
                      "env": {"HOSTILE": hostile}, "resource_limits": spawn.pop("limits", {})}
        body = {"key": {"name": key}, "spawn_config": {
            "executable": executable, "cluster": self.cluster, **spawn}}
        return request("POST", f"{self.api}/ctrl/connect", body, timeout=timeout)

    def run(self, key, hostile="", wait="ready", **spawn):
        """Connects and waits for the state; the connect's answer."""
        answer = self.ask(key, hostile, **spawn)
        assert answer.status == 200, answer.body
        connection = answer.json()
        if wait:
            self.wait_status(connection["backend_id"], wait)
        return connection

    def end(self, backend, how="hard"):
        return request("POST", f"{self.api}/ctrl/b/{backend}/{how}-terminate")

    def end_all(self):
        wait_until(self.is_ready, 40, "the roles back")
        self.leaks.look()
        for backend in self.leaks.store:
            assert self.end(backend).status == 200
        for backend in list(self.leaks.store):
            self.wait_status(backend, "terminated")

    def serves(self, connection):
        """The backend that the connection names answers, and no other."""
        answer = request("GET", connection["url"])
        assert (answer.status, answer.body.decode()) == (200, connection["backend_id"])

    def pids_of(self, backend):
        """Processes of the backend: inside its sandbox, without its shim."""
        self.leaks.look()
        return [process.pid for index, name in self.leaks.records.items() if name == backend
                for process in self.leaks.inside[index]]


def kill(pid, number=9):
    """Kills a process of this test's; one that is gone already is fine."""
    if pid:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
