"""Leases of whole drones: the controller against drones that are played by the test."""

import asyncio
import contextlib
import time

import pytest

from postgres import Postgres
from test_controller import CLUSTER, Controller, Drone, node, run

pytestmark = pytest.mark.timeout(90)
LEASE_MS = 2000
EXTENSIONS = ["drone-lease", "inventory", "metrics-on-request"]


@pytest.fixture(scope="module")
def postgres():
    with Postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def controller(tmp_path, request):
    is_postgres = request.param == "postgres"
    db = request.getfixturevalue("postgres").new_database() if is_postgres else None
    started = Controller(tmp_path, "--drone-lease-ms", str(LEASE_MS), db=db)
    yield started
    assert started.stop() == 0, (tmp_path / "controller.log").read_text()[-4000:]
    text = (tmp_path / "controller.log").read_text()
    assert "ERROR: AddressSanitizer" not in text and "runtime error" not in text, text[-4000:]


class Holder(Drone):
    """A drone with a lease of its own; `epoch` is what it believes to hold."""

    def __init__(self, ws, name, journal):
        super().__init__(ws, name)
        self.journal, self.epoch, self.last_epoch, self.task = journal, None, 0, None
        self.answers = 0

    async def ask(self, local_time=1_000_000, **more):
        await self.send({"RenewLease": {
            "epoch": self.epoch, "last_epoch": self.last_epoch, "journal": self.journal,
            "local_time": local_time, **more}})
        answer = await self.expect("LeaseResponse")
        self.answers += 1
        assert answer.pop("local_time") == local_time
        if answer["deadlines"]:
            self.epoch = answer["epoch"]
            self.last_epoch = max(self.last_epoch, self.epoch)
        return answer

    async def take(self):
        """Asks until it gets a new lease."""
        self.epoch = None
        while not (await self.ask())["deadlines"]:
            await asyncio.sleep(0.1)

    async def hold(self):
        while (await self.ask())["deadlines"]:
            await asyncio.sleep(LEASE_MS / 5000)


@contextlib.asynccontextmanager
async def holder(controller, name="dr-one", journal="jo-one"):
    path = f"/ctrl/c/{CLUSTER}/drone-socket"
    async with node(controller, path, name, EXTENSIONS) as peer:
        yield Holder(peer.ws, name, journal)


@contextlib.asynccontextmanager
async def holding(drone):
    task = asyncio.create_task(drone.hold())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until_spawned_again(controller, key, first):
    """Connects until the key is given to another backend; how long that took, and the answer."""
    start = time.monotonic()
    while True:
        answer = await controller.aconnect(key)
        if answer.status == 200 and answer.json()["backend_id"] != first:
            return time.monotonic() - start, answer.json()
        await asyncio.sleep(0.05)


def test_a_lease_covers_all_orders_and_comes_before_them(controller):
    async def story():
        async with holder(controller) as drone:
            assert (await controller.aconnect()).status == 500  # no drone that has a lease
            answer = await drone.ask(2_000_000)
            assert answer == {"epoch": answer["epoch"], "deadlines": {
                "renew_at": 2_000_400, "soft_terminate_at": 2_001_200,
                "hard_terminate_at": 2_001_600}}
            made = (await controller.aconnect()).json()
            assert made["drone"] == "dr-one"
            action = await drone.action(ack=False)
            assert action["action"]["Spawn"]["lease_epoch"] == drone.epoch
            again = await drone.ask(3_000_000)
            assert again["epoch"] == answer["epoch"]
            assert again["deadlines"]["hard_terminate_at"] == 3_001_600
        async with holder(controller) as drone:
            # connected anew: the order was not acknowledged, and comes once the lease is told
            await drone.silent(0.3)
            drone.epoch = drone.last_epoch = answer["epoch"]
            await drone.ask()
            assert (await drone.action())["action_id"] == action["action_id"]

    run(story())


def test_a_silent_drones_keys_are_free_after_the_lease_and_its_return_changes_nothing(controller):
    async def story():
        async with holder(controller) as lost, holder(controller, "dr-two", "jo-two") as other:
            await lost.ask()
            made = (await controller.aconnect()).json()
            await lost.action()
            await lost.bring_up(made["backend_id"])
            untaken = (await controller.aconnect("untaken")).json()
            await lost.action(ack=False)
            await lost.ask()
            await other.ask()
            async with holding(other):
                took, second = await until_spawned_again(
                    controller, "k", made["backend_id"])
                assert second["drone"] == "dr-two" and second["spawned"]
                assert took > LEASE_MS / 1000 - 0.1  # never earlier; the last request was before
                for backend in (made, untaken):
                    status = await controller.aget(f"/pub/b/{backend['backend_id']}/status")
                    assert status.json()["status"] == "terminated"
                    assert status.json()["termination_reason"] == "lost"
                # it is back
                broken = lost.epoch
                assert await lost.ask() == {"epoch": broken, "deadlines": None}
                await lost.event(made["backend_id"], {"status": "ready", "address": "1.1.1.1:1"})
                status = await controller.aget(f"/pub/b/{made['backend_id']}/status")
                assert status.json()["status"] == "terminated"
                assert (await controller.aconnect()).json()["backend_id"] == second["backend_id"]
                await lost.take()
                assert lost.epoch > broken
                with pytest.raises(asyncio.TimeoutError):  # the order that it did not take
                    await lost.action(timeout=0.5)

    run(story())


def test_a_drone_that_renews_keeps_its_keys_over_its_own_and_the_controllers_restarts(controller):
    async def story():
        async with holder(controller) as drone:
            await drone.ask()
            made = (await controller.aconnect()).json()
            epoch = drone.epoch
            controller.restart()
        restarted = time.monotonic()
        # nobody renews for almost as long as it takes after the restart
        while time.monotonic() < restarted + LEASE_MS / 1000 * 0.7:
            assert (await controller.aconnect()).json()["backend_id"] == made["backend_id"]
            await asyncio.sleep(0.1)
        async with holder(controller) as drone:
            drone.epoch = drone.last_epoch = epoch
            assert (await drone.ask())["epoch"] == epoch
            async with holding(drone):
                await asyncio.sleep(LEASE_MS / 1000 * 1.5)
            assert (await controller.aconnect()).json()["backend_id"] == made["backend_id"]
            took, second = await until_spawned_again_or_none(controller, made["backend_id"])
            assert took > LEASE_MS / 1000 * 0.5 and second is None

    run(story())


async def is_kept_for(controller, made, since, seconds):
    """The key is given to another drone, and not before; the time is that of the last request."""
    async with holder(controller, "dr-two", "jo-two") as other:
        await other.take()
        async with holding(other):
            _, second = await until_spawned_again(controller, "k", made["backend_id"])
            assert time.monotonic() - since > seconds and second["drone"] == "dr-two"


def test_a_controller_with_shorter_leases_waits_for_what_another_one_has_granted(controller):
    long_ms = 3 * LEASE_MS

    async def story():
        loop = asyncio.get_running_loop()
        controller.flags[1] = str(long_ms)
        await loop.run_in_executor(None, controller.restart)
        async with holder(controller) as lost:
            since = time.monotonic()
            await lost.ask()
            made = (await controller.aconnect()).json()
            await lost.action()
        controller.flags[1] = str(LEASE_MS)
        await loop.run_in_executor(None, controller.restart)
        await is_kept_for(controller, made, since, long_ms / 1000)

    run(story())


def test_what_a_drone_may_still_run_by_an_earlier_answer_counts(controller):
    hard_ms = 2 * LEASE_MS

    async def story():
        async with holder(controller) as lost:
            await lost.ask()
            made = (await controller.aconnect()).json()
            await lost.action()
            since = time.monotonic()
            await lost.ask(hard_in_ms=hard_ms)
            await is_kept_for(controller, made, since, (hard_ms + LEASE_MS / 5) / 1000)

    run(story())


async def until_spawned_again_or_none(controller, first):
    """As above, but there is no other drone: until the key is held by nobody."""
    start = time.monotonic()
    while True:
        answer = await controller.aconnect()
        if answer.status != 200:
            assert answer.json()["kind"] == "NoDroneAvailable"
            return time.monotonic() - start, None
        if answer.json()["backend_id"] != first:
            return time.monotonic() - start, answer.json()
        await asyncio.sleep(0.05)


def test_a_second_process_of_the_same_name_waits_for_the_lease_of_the_first(controller):
    async def story():
        async with holder(controller) as first:
            await first.ask()
            made = (await controller.aconnect()).json()
            await first.action()
            async with holder(controller, journal="jo-two") as second:
                # the newer connection wins
                await asyncio.wait_for(first.ws.wait_closed(), 10)
                assert await second.ask() == {"epoch": None, "deadlines": None}
                second.epoch = first.epoch
                assert await second.ask() == {"epoch": first.epoch, "deadlines": None}
                start = time.monotonic()
                await second.take()
                assert time.monotonic() - start > LEASE_MS / 1000 * 0.8
                assert second.epoch > first.epoch
                status = await controller.aget(f"/pub/b/{made['backend_id']}/status")
                assert status.json()["status"] == "terminated"
        assert "has connected again: its older connection is closed" in (
            controller.directory / "controller.log").read_text()

    run(story())


def test_a_drone_is_told_to_end_what_the_store_does_not_know_as_its_own(controller):
    async def story():
        async with holder(controller) as one, holder(controller, "dr-two", "jo-two") as two:
            await one.ask()
            known = (await controller.aconnect("known")).json()["backend_id"]
            await one.action()
            await two.ask()
            # under an epoch that is not that of its order; of another drone; of nobody
            await two.send({"Inventory": {"backends": {known: two.epoch, "ba-nobody": None}}})
            assert sorted((await two.expect("EndBackends"))["backends"]) == sorted([known, "ba-nobody"])
            await one.send({"Inventory": {"backends": {known: one.epoch}}})
            for bad in ([], {"backends": {known: 0}}, {"backends": {"ba one": 1}}, {"backends": None},
                        {"backends": {f"ba-{number}": 1 for number in range(1001)}}):
                await one.send({"Inventory": bad})
            await one.silent(0.5)
            await one.send({"Inventory": {"backends": {known: one.epoch + 1}}})
            assert await one.expect("EndBackends") == {"backends": [known]}

    run(story())


def test_drones_connect_anew_when_the_database_is_another_one(tmp_path):
    async def story(server, controller):
        async with holder(controller) as drone:
            await drone.ask()
            await asyncio.get_running_loop().run_in_executor(None, server.restart)
            await asyncio.wait_for(drone.ws.wait_closed(), 30)
        async with holder(controller) as drone:
            await drone.silent(LEASE_MS / 1000)  # once: it is the same one from now on

    with Postgres() as server:
        controller = Controller(tmp_path, "--drone-lease-ms", str(LEASE_MS), db=server.new_database())
        run(story(server, controller))
        assert controller.stop() == 0


SWEEPERS = 8  # more than a controller has threads for the work of nodes


async def due_backend_on_each(controller, drones):
    """Backends whose time is up at once, until each drone has one."""
    without = {drone.name for drone in drones}
    for number in range(100):
        if not without:
            return
        made = (await controller.aconnect(f"due-{number}", lifetime_limit_seconds=1)).json()
        drone = next(drone for drone in drones if drone.name == made["drone"])
        await drone.action()
        await drone.bring_up(made["backend_id"])
        await drone.ask()
        without.discard(drone.name)
    raise AssertionError(f"100 backends, and none on {without}")


def waiting_sessions(connection):
    """Those that wait for a lock: which statement of which session."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pid, query_start FROM pg_stat_activity "
                       "WHERE wait_event_type = 'Lock' AND application_name = 'plane'")
        return set(cursor.fetchall())


def test_renewals_do_not_wait_for_sweeps(tmp_path, postgres):
    """Each drone has backends to be swept, and no order can be stored: renewals go on meanwhile."""
    async def story(controller):
        async with contextlib.AsyncExitStack() as stack:
            drones = [await stack.enter_async_context(
                holder(controller, f"dr-{number}", f"jo-{number}")) for number in range(SWEEPERS)]
            for drone in drones:
                await drone.ask()
            await due_backend_on_each(controller, drones)
            locks, looks = controller.database(), controller.database()
            looks.autocommit = True
            for drone in drones:
                await stack.enter_async_context(holding(drone))
            with contextlib.closing(locks), contextlib.closing(looks):
                with locks.cursor() as cursor:
                    cursor.execute("LOCK TABLE action IN EXCLUSIVE MODE")
                while len(waiting := waiting_sessions(looks)) < 4:
                    await asyncio.sleep(0.05)
                before = {drone.name: drone.answers for drone in drones}
                while any(drone.answers < before[drone.name] + 2 for drone in drones):
                    await asyncio.sleep(0.05)
                assert waiting & waiting_sessions(looks)

    controller = Controller(tmp_path, "--drone-lease-ms", str(10 * LEASE_MS), "--tick-ms", "300",
                            db=postgres.new_database())
    run(story(controller))
    assert controller.stop() == 0


FAILING = 30  # more than are ordered in one go


def test_orders_of_a_sweep_that_fail_wait_for_the_next_tick(tmp_path, postgres):
    """Each costs a transaction and a line in the log: they are not tried without end."""
    tick_ms = 300

    async def story(controller):
        log = tmp_path / "controller.log"
        async with holder(controller) as drone:
            await drone.ask()
            for number in range(FAILING):
                made = (await controller.aconnect(f"due-{number}", lifetime_limit_seconds=2)).json()
                await drone.action()
                await drone.bring_up(made["backend_id"])
            with contextlib.closing(controller.database()) as database, database.cursor() as cursor:
                cursor.execute("CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                               "RAISE EXCEPTION 'planted'; END $$; CREATE TRIGGER fail BEFORE INSERT "
                               "ON action FOR EACH ROW EXECUTE FUNCTION fail()")
                database.commit()

            def failures():
                return log.read_text().count("planted")
            while failures() < FAILING:
                await asyncio.sleep(0.05)
            began, before = time.monotonic(), failures()
            while failures() < before + 5 * FAILING:
                await asyncio.sleep(0.05)
            assert time.monotonic() - began > 3 * tick_ms / 1000

    controller = Controller(tmp_path, "--drone-lease-ms", str(10 * LEASE_MS), "--tick-ms",
                            str(tick_ms), db=postgres.new_database())
    run(story(controller))
    assert controller.stop() == 0


def test_what_is_no_request_for_a_lease_is_skipped(controller):
    async def story():
        async with holder(controller) as drone:
            good = {"epoch": None, "last_epoch": 0, "journal": "jo-one", "local_time": 1}
            for bad in ({"hard_in_ms": -1}, {"hard_in_ms": "1"}, {"epoch": 0}, {"epoch": "1"}, {"epoch": -1}, {"last_epoch": -1},
                        {"last_epoch": None}, {"journal": None}, {"journal": 5},
                        {"journal": "x" * 256}, {"local_time": None}):
                await drone.send({"RenewLease": good | bad})
            await drone.send({"RenewLease": []})
            assert (await drone.ask())["deadlines"]
            await drone.silent(0.3)
        async with node(controller, f"/ctrl/c/{CLUSTER}/drone-socket", "dr-two", ["logs"]) as old:
            await old.send({"RenewLease": good})  # not in its handshake
            await old.silent(0.5)

    run(story())
