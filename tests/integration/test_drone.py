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
        assert "drone-lease" in handshake["extensions"]
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
                if "RenewLease" in message:
                    await self.on_lease(message["RenewLease"])
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

    async def order(self, backend, renew_ms):
        await self.send({"Action": {
            "action_id": f"ak-{backend}", "backend_id": backend, "drone_id": 1,
            "action": {"Spawn": {
                "executable": {"image": "echo"}, "static_token": None,
                "key": {"key": {"name": backend, "namespace": "", "tag": ""}, "token": 1,
                        "deadlines": self.deadlines(renew_ms)}} | self.more()}}})

    def more(self):
        return {}

    async def spawn(self, backend, renew_ms):
        await self.order(backend, renew_ms)
        await self.wait(lambda: self.status(backend) == "ready")


async def with_drone(controller, story, *flags):
    with tempfile.TemporaryDirectory(prefix="plane-drone-") as directory:
        place = Serve(directory)  # only its directory: no server is started
        place.import_image("echo", EXAMPLES / "echo.tar")
        controller.log = place.log_text
        async with websockets.serve(controller.serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with open(place.log_path, "wb") as log:
                drone = subprocess.Popen(
                    [PLANE, "drone", "--controller-url", f"http://127.0.0.1:{port}", "--cluster",
                     CLUSTER, "--data-dir", str(place.data), "--parked", "2", "--end-backends",
                     *flags],
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


def after(local_time, milliseconds):
    """Deadlines of a drone's lease that was asked for at `local_time`."""
    return {"renew_at": local_time + milliseconds // 5,
            "soft_terminate_at": local_time + milliseconds * 3 // 5,
            "hard_terminate_at": local_time + milliseconds * 4 // 5}


class LeaseController(FakeController):
    """Grants leases of whole drones as long as it is told to."""

    def __init__(self, milliseconds):
        super().__init__(["drone-lease", "metrics-on-request"])
        self.milliseconds, self.epoch, self.grants = milliseconds, 1, True

    async def on_lease(self, request):
        self.local_time = request["local_time"]
        if request["epoch"] not in (None, self.epoch):
            await self.send({"LeaseResponse": {
                "epoch": request["epoch"], "local_time": request["local_time"],
                "deadlines": None}})
        elif self.grants:
            await self.send({"LeaseResponse": {
                "epoch": self.epoch, "local_time": request["local_time"],
                "deadlines": after(request["local_time"], self.milliseconds)}})

    def more(self):
        return {"lease_epoch": self.epoch}


def test_one_lease_for_all_is_the_heartbeat_too():
    async def scenario():
        controller = LeaseController(2000)

        async def story():
            first = controller.of("RenewLease")[0]
            assert first["epoch"] is None and first["last_epoch"] == 0 and first["journal"]
            await controller.spawn("first", 0)
            await controller.spawn("second", 0)
            seen = len(controller.of("RenewLease"))
            await controller.wait(lambda: len(controller.of("RenewLease")) > seen + 4)
            asked = controller.of("RenewLease")
            assert [ask["epoch"] for ask in asked[1:]] == [1] * (len(asked) - 1)
            assert {ask["journal"] for ask in asked} == {first["journal"]}
            times = [ask["local_time"] for ask in asked]
            assert all(later - earlier >= 400 for earlier, later in zip(times, times[1:]))
            for kind in ("RenewKey", "Heartbeat", "BackendMetrics"):
                assert not controller.of(kind)
            assert {controller.status("first"), controller.status("second")} == {"ready"}

        await with_drone(controller, story)

    asyncio.run(scenario())


class SlowController(LeaseController):
    """Answers each request for a lease on the connection that it came on, after so long."""

    def __init__(self, milliseconds, seconds):
        super().__init__(milliseconds)
        self.seconds, self.wires, self.tasks = seconds, set(), set()

    async def on_lease(self, request):
        self.local_time = request["local_time"]
        self.wires.add(self.wire)
        self.tasks.add(asyncio.create_task(self.answer(self.wire, {
            "epoch": self.epoch, "local_time": request["local_time"],
            "deadlines": after(request["local_time"], self.milliseconds)})))

    async def answer(self, wire, content):
        await asyncio.sleep(self.seconds)
        with contextlib.suppress(websockets.ConnectionClosed):
            await wire.send(json.dumps({"LeaseResponse": content}))


ODD_ORDERS = [
    "{not json", "null", "[]", "5", {"Unknown": {}}, {"Action": {}}, {"AckEvent": {"event_id": "x"}},
    {"Action": {"action_id": "ak-odd", "backend_id": "odd", "drone_id": 1, "action": {"Unknown": {}}}},
    {"Action": {"action_id": "ak-odd", "backend_id": "odd", "drone_id": 1, "action": {"Spawn": {}}}},
    {"Action": {"action_id": "ak-odd", "backend_id": "odd", "drone_id": 1, "action": {
        "Terminate": {"kind": "odd"}}}},
    {"LeaseResponse": {}}, {"LeaseResponse": {"epoch": 1, "local_time": 1, "deadlines": {}}},
    {"RenewKeyResponse": {"deadlines": None}}, {"RouteInfoResponse": {"token": "t", "route_info": None}}]


def test_orders_that_it_does_not_understand_are_told_and_skipped():
    async def scenario():
        controller = LeaseController(60_000)

        async def story():
            wire = controller.wire
            for odd in ODD_ORDERS:
                await wire.send(odd if isinstance(odd, str) else json.dumps(odd))
            await controller.spawn("good", 0)
            assert controller.wire is wire
            assert controller.log().count("skipped a message of the controller: ") == len(ODD_ORDERS)
            await controller.wait(lambda: controller.of("AckAction"))
            assert {ack["action_id"] for ack in controller.of("AckAction")} == {"ak-good"}

        await with_drone(controller, story)

    asyncio.run(scenario())


def test_an_order_that_comes_again_is_acknowledged_again_and_carried_out_once():
    """As when the acknowledgement was lost, or two controllers sent it."""
    async def scenario():
        controller = LeaseController(60_000)

        async def story():
            for _ in range(3):
                await controller.order("only", 0)
            await controller.wait(lambda: controller.status("only") == "ready")
            await controller.order("only", 0)  # when it is long done
            await controller.wait(lambda: len(controller.of("AckAction")) == 4)
            assert {ack["action_id"] for ack in controller.of("AckAction")} == {"ak-only"}
            for _ in range(2):
                await controller.send({"Action": {
                    "action_id": "ak-end", "backend_id": "only", "drone_id": 1,
                    "action": {"Terminate": {"kind": "hard", "reason": "external"}}}})
            await controller.wait(lambda: controller.status("only") == "terminated")
            await controller.order("only", 0)  # when it is over
            await controller.wait(lambda: len(controller.of("AckAction")) == 7)
            await controller.spawn("other", 0)  # what would come of the orders has come
            states = [event["state"]["status"] for event in controller.of("BackendEvent")
                      if event["backend_id"] == "only"]
            assert states == ["loading", "starting", "waiting", "ready", "hard-terminating", "terminated"]

        await with_drone(controller, story)

    asyncio.run(scenario())


def test_answers_that_take_longer_than_the_interval_keep_the_lease():
    """As on a slow network: the drone must not give up each connection before its answer comes."""
    async def scenario():
        controller = SlowController(5000, 1.3)  # it is to be renewed every second

        async def story():
            await controller.wait(lambda: controller.of("RenewLease")[-1]["epoch"] == 1)
            await controller.spawn("only", 0)
            count, asked = len(controller.wires), len(controller.of("RenewLease"))
            await controller.wait(lambda: len(controller.of("RenewLease")) > asked + 8)
            assert controller.status("only") == "ready"
            assert len(controller.wires) == count

        await with_drone(controller, story)

    asyncio.run(scenario())


def test_without_renewal_all_backends_of_the_lease_end():
    async def scenario():
        controller = LeaseController(3000)

        async def story():
            await controller.spawn("first", 0)
            await controller.spawn("second", 0)
            controller.grants = False
            for backend in ("first", "second"):
                await controller.wait(lambda b=backend: controller.status(b) == "terminated")
                last = [event["state"] for event in controller.of("BackendEvent")
                        if event["backend_id"] == backend][-1]
                assert last["reason"] == "keyexpired"
            # it asks on with its epoch, which nobody has broken, and may start others again
            controller.grants = True
            seen = len(controller.of("RenewLease"))
            await controller.wait(lambda: len(controller.of("RenewLease")) > seen)
            await controller.spawn("third", 0)
            assert {ask["epoch"] for ask in controller.of("RenewLease")[1:]} == {1}

        await with_drone(controller, story)

    asyncio.run(scenario())


def test_a_broken_lease_ends_its_backends_at_once_and_voids_its_orders():
    async def scenario():
        controller = LeaseController(60_000)

        async def story():
            await controller.spawn("first", 0)
            controller.epoch = 3
            # the next request is far: the drone asks on each new connection
            await controller.wire.close()
            await controller.wait(lambda: controller.status("first") == "terminated", 20)
            await controller.wait(lambda: controller.of("RenewLease")[-1]["epoch"] is None)
            assert controller.of("RenewLease")[-1]["last_epoch"] == 1
            await controller.spawn("second", 0)
            controller.epoch = 1
            await controller.order("late", 0)
            await controller.wait(lambda: controller.status("late") == "terminated")
            states = [event["state"]["status"] for event in controller.of("BackendEvent")
                      if event["backend_id"] == "late"]
            assert "starting" not in states
            # one that is not known yet is not taken: it comes again once it is
            controller.epoch = 9
            await controller.order("early", 0)
            controller.epoch = 3
            await controller.spawn("third", 0)
            assert controller.status("early") is None
            assert "ak-early" not in [ack["action_id"] for ack in controller.of("AckAction")]

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
            assert not controller.of("RenewLease")

        await with_drone(controller, story)

    asyncio.run(scenario())
