"""Records the fixtures: plays the story with the original's programs only, and keeps the first message
of each kind, byte for byte. usage: record.py PROGRAM DIRECTORY (tests/fixtures/wire)"""

import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

from peers import Executor, Postgres, Process, Relay, wait_healthy  # noqa: E402
from serve import free_port, wait_until  # noqa: E402
from wire import name_of  # noqa: E402
from story import CLUSTER, ZONE, Story, dns_answers  # noqa: E402


def main(program, target):
    with tempfile.TemporaryDirectory(prefix="plane-record-") as directory:
        directory = pathlib.Path(directory)
        directory.chmod(0o755)
        postgres = Postgres(directory)
        address, proxy_port, dns_port = f"127.0.0.1:{free_port()}", free_port(), free_port()
        controller = Process(directory, "controller", program, "controller", "--db", postgres.url,
                             "--host", "127.0.0.1", "--port", address.split(":")[1])
        wait_healthy(address, controller)
        relay = Relay(address)
        executor = Executor(directory / "executor")
        url = f"http://bearer%20token@{relay.address}/"
        nodes = [
            Process(directory, "drone", program, "drone", "--controller-url", url, "--cluster",
                    CLUSTER, "--executor-socket", directory / "executor", "--pool", ""),
            Process(directory, "proxy", program, "proxy", "--controller-url", url, "--cluster",
                    CLUSTER, "--http-port", proxy_port),
            Process(directory, "dns", program, "dns", "--controller-url", url, "--zone", ZONE,
                    "--port", dns_port)]
        try:
            story = Story(f"http://{address}", proxy_port, executor)
            story.wait_drone()
            lives = story.lives_and_ends()
            executor.tell_metrics(lives["backend_id"])
            admin = Process(directory, "admin", program, "admin", "--controller", url,
                            "put-dummy-dns", "--cluster", CLUSTER)
            assert admin.process.wait(30) == 0, admin.log()
            value = [json.loads(text) for text in relay.seen("proxy-socket", "to-controller")
                     if "SetTxtRecord" in text][0]
            dns_answers(dns_port, value["CertManagerRequest"]["SetTxtRecord"]["txt_value"])
            wait_until(lambda: any("RenewKeyResponse" in text for text in relay.seen(
                "drone-socket", "from-controller")), 60, "a renewal")
        finally:
            for process in [*nodes, controller]:
                process.stop()
            executor.stop()
            relay.stop()
            postgres.stop()
        for kind, direction, text in reversed(relay.frames):  # the first of a kind is written last
            path = target / kind / direction / f"{name_of(json.loads(text))}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
