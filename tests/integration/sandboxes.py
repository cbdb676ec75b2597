"""Sandboxes to try to get out of: the image with the programs that try and look, instances that run
it, and the addresses they must not reach."""

import contextlib
import pathlib
import tempfile

from archives import docker_archive, member, tar, write
from machine import INSIDE, LINK_LOCAL, LINK_LOCAL_HOST, OUTSIDE, can_reach
from serve import BUILD, Serve, request

PROGRAMS = BUILD / "tests" / "integration"
PASSWD = b"root:x:0:0:root:/:/bin/false\napp:x:1000:1000:app:/:/bin/false\n"
TRACE_TCP_PORT, TRACE_UDP_PORT = 8081, 8082  # of a neighbour, as in escapes.h
CAP_NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000").decode()  # capabilities(7)


def capable(name, program):
    entry, content = member(name, program, mode=0o755)
    entry.pax_headers = {"SCHILY.xattr.security.capability": CAP_NET_RAW}
    return entry, content


def make_image(entrypoint="/escapes", script=None):
    """An archive as `docker save` makes it, named sandbox:latest: the programs, and copies of them
    whose files promise root or a capability to who runs them."""
    escapes, facts = (PROGRAMS / "escapes").read_bytes(), (PROGRAMS / "facts").read_bytes()
    extra = [member("script", script, mode=0o755)] if script else []
    layer = tar(
        member("etc/passwd", PASSWD), member("etc/group", b"root:x:0:\napp:x:1000:\n"),
        member("tmp", kind=b"5", mode=0o1777), member("escapes", escapes, mode=0o755),
        member("set-user-id", escapes, mode=0o4755), capable("capable", escapes),
        member("facts", facts, mode=0o755), member("facts-set-user-id", facts, mode=0o4755),
        capable("facts-capable", facts), *extra)
    return docker_archive([layer], {"Entrypoint": [entrypoint], "User": "1000:1000",
                                    "WorkingDir": "/"}, tags=["sandbox:latest"])


@contextlib.contextmanager
def instance():
    with tempfile.TemporaryDirectory(prefix="plane-sandbox-") as name:
        directory = pathlib.Path(name)
        data = directory / "mounts"
        data.mkdir()
        serve = Serve(directory, ["--mount-base", str(data)])
        serve.mounts = data
        image = write(directory, "escapes.tar", make_image())
        serve.import_image("escapes", image)
        serve.import_image("escapes-root", image, "--user", "root")
        serve.start()
        yield serve
        serve.stop()
        serve.leaks.wait_clean()


def get(connection, path=""):
    return request("GET", connection["url"] + path, timeout=60).body.decode()


def start_neighbour(plane):
    """A backend that listens on every way, and left things in its namespaces."""
    connection = plane.connect(image="escapes-root", env={"LEAVE": "1"})
    connection["address"] = get(connection, "address")
    return connection


def targets(machine, plane, own):
    """What a backend must not reach, where `own` is another's address; the machine itself reaches
    all that listens."""
    gateway = f"{own.rsplit('.', 1)[0]}.1"
    listening = machine.serve()
    with machine.on_the_outside():
        outside = machine.serve()
    reachable = {"TRY_HOST": f"{gateway}:{listening}", "TRY_HOST_OTHER": f"{INSIDE}:{listening}",
                 "TRY_NEIGHBOUR": f"{own}:{TRACE_TCP_PORT}", "TRY_OUTSIDE": f"{OUTSIDE}:{outside}",
                 "TRY_METADATA": f"{LINK_LOCAL}:{outside}",
                 "TRY_METADATA_HOST": f"{LINK_LOCAL_HOST}:{listening}"}
    for name, target in reachable.items():
        address, port = target.split(":")
        assert can_reach(address, int(port)), (name, target)
    broadcast = f"{own.rsplit('.', 2)[0]}.{int(own.split('.')[2]) | 15}.255"  # of a /20
    return {**reachable, "TRY_OUTSIDE_UDP": f"{OUTSIDE}:{outside}",
            "TRY_CONTROLLER": f"{gateway}:{plane.listen.split(':')[1]}",
            "TRY_PROXY": f"{gateway}:{plane.proxy.split(':')[1]}",
            "TRY_NEIGHBOUR_UDP": f"{own}:{TRACE_UDP_PORT}",
            "TRY_BROADCAST": f"{broadcast}:{TRACE_UDP_PORT}", "TRY_PATH": str(plane.data)}
