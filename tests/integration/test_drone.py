"""The drone against a controller that is played by the test."""

import asyncio
import contextlib
import json
import signal
import subprocess
import tempfile

import pytest
import websockets

from serve import EXAMPLES, PLANE, Serve

pytestmark = pytest.mark.timeout(90)
CLUSTER = "localhost:9090"
VERSION = {"version": "0.5.5", "git_hash": "abca8022"}


class FakeController:
    """Takes one drone's connection; keeps what it says, acknowledges what it reports."""

    def __init__(self, extensions):
        self.extensions, self.messages, self.news = extensions, [], asyncio.Condition()
        self.wire, self.local_time = None, None

    async def serve(self, wire):
        handshake = json.loads(await wire.recv())
        assert "renew-keys" in handshake["extensions"]
        answer = {"version": VERSION, "name": "co-test"}
        if self.extensions:
            answer["extensions"] = self.extensions
        await wire.send(json.dumps(answer))
        self.wire = wire
        with contextlib.suppress(websockets.ConnectionClosed):
            async for text in wire:
                message = json.loads(text)
                if "BackendEvent" in message:
                    await self.send({"AckEvent": {
                        "event_id": message["BackendEvent"]["event_id"]}})
                if "Heartbeat" in message:
                    self.local_time = message["Heartbeat"]["local_time"]
                async with self.news:
                    self.messages.append(message)
                    self.news.notify_all()

    async def send(self, message):
        await self.wire.send(json.dumps(message))

    def of(self, kind):
        return [message[kind] for message in self.messages if kind in message]

    async def wait(self, condition, seconds=30):
        async with self.news:
            await asyncio.wait_for(self.news.wait_for(condition), seconds)

    def status(self, backend):
        states = [event["state"]["status"] for event in self.of("BackendEvent")
                  if event["backend_id"] == backend]
        return states[-1] if states else None

    def deadlines(self, renew_ms):
        """Of a lease that is to be renewed `renew_ms` after the last heartbeat."""
        return {"renew_at": self.local_time + renew_ms,
                "soft_terminate_at": self.local_time + 600_000,
                "hard_terminate_at": self.local_time + 610_000}

    async def spawn(self, backend, renew_ms):
        await self.send({"Action": {
            "action_id": f"ak-{backend}", "backend_id": backend, "drone_id": 1,
            "action": {"Spawn": {
                "executable": {"image": "echo"}, "static_token": None,
                "key": {"key": {"name": backend, "namespace": "", "tag": ""}, "token": 1,
                        "deadlines": self.deadlines(renew_ms)}}}}})
        await self.wait(lambda: self.status(backend) == "ready")


async def with_drone(controller, story):
    with tempfile.TemporaryDirectory(prefix="plane-drone-") as directory:
        place = Serve(directory)  # only its directory: no server is started
        place.import_image("echo", EXAMPLES / "echo.tar")
        async with websockets.serve(controller.serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with open(place.log_path, "wb") as log:
                drone = subprocess.Popen(
                    [PLANE, "drone", "--controller-url", f"http://127.0.0.1:{port}", "--cluster",
                     CLUSTER, "--data-dir", str(place.data), "--parked", "2", "--end-backends"],
                    stdout=log, stderr=log)
            try:
                await controller.wait(lambda: controller.local_time is not None)
                await story()
            except BaseException:
                print(place.log_text())
                raise
            finally:
                drone.send_signal(signal.SIGINT)
                await asyncio.get_running_loop().run_in_executor(None, drone.wait, 40)
        assert drone.returncode == 0, place.log_text()
        assert "ERROR: AddressSanitizer" not in place.log_text(), place.log_text()


def test_leases_are_renewed_together_where_the_controller_knows_how():
    async def scenario():
        controller = FakeController(["renew-keys", "no-metrics"])

        async def story():
            await controller.spawn("first", 12_000)
            await controller.spawn("second", 18_000)  # its time comes soon after
            await controller.spawn("third", 300_000)
            await controller.wait(lambda: controller.of("RenewKeys"))
            asked = controller.of("RenewKeys")[0]
            assert sorted(asked["backends"]) == ["first", "second"]
            assert asked["local_time"] >= controller.local_time
            # first is granted: only second is asked for again, and it alone
            await controller.send({"RenewKeysResponse": {
                "renewed": ["first"], "refused": ["second"],
                "deadlines": controller.deadlines(300_000)}})
            await controller.wait(lambda: len(controller.of("RenewKeys")) > 1)
            assert controller.of("RenewKeys")[1]["backends"] == ["second"]
            assert not controller.of("RenewKey") and not controller.of("BackendMetrics")

        await with_drone(controller, story)

    asyncio.run(scenario())


def test_a_controller_without_extensions_is_asked_for_each_lease_and_gets_metrics():
    async def scenario():
        controller = FakeController(None)

        async def story():
            await controller.spawn("first", 5_000)
            await controller.spawn("second", 9_000)
            await controller.wait(lambda: len(controller.of("RenewKey")) > 1)
            assert sorted(ask["backend"] for ask in controller.of("RenewKey")[:2]) == [
                "first", "second"]
            await controller.wait(lambda: controller.of("BackendMetrics"))
            assert controller.of("BackendMetrics")[0]["backend_id"] in ("first", "second")
            assert not controller.of("RenewKeys")

        await with_drone(controller, story)

    asyncio.run(scenario())
