"""Records the fixtures: tells the story to the original's programs only, and keeps the first message of
each kind, byte for byte. usage: record.py PROGRAM DIRECTORY (tests/fixtures/wire)"""

import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

from peers import Executor, Relay, start_controller, start_nodes  # noqa: E402
from postgres import Postgres  # noqa: E402
from serve import free_port  # noqa: E402
from story import CLUSTER, ZONE, Story, put_and_ask_txt, wait_renewal  # noqa: E402
from wire import name_of  # noqa: E402


def record(directory, program, postgres):
    """All frames that the original's processes sent each other."""
    controller, address = start_controller(directory, program, "--db", postgres.url())
    relay, executor = Relay(address), Executor(directory / "executor")
    url, proxy_port, dns_port = f"http://token@{relay.address}/", free_port(), free_port()
    nodes = start_nodes(directory, program, url, CLUSTER, ZONE, executor.path, proxy_port, dns_port)
    try:
        story = Story(f"http://{address}", proxy_port)
        story.wait_nodes()
        executor.tell_metrics(story.tell())
        put_and_ask_txt(directory, program, url, relay, dns_port)
        wait_renewal(relay)
    finally:
        for process in [*nodes, controller]:
            process.stop()
        executor.stop()
        relay.stop()
    return relay.frames


def main(program, target):
    with tempfile.TemporaryDirectory(prefix="plane-record-") as directory, Postgres() as postgres:
        frames = record(pathlib.Path(directory), program, postgres)
    for kind, direction, text in reversed(frames):  # the first of a kind is written last
        path = target / kind / direction / f"{name_of(json.loads(text))}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
