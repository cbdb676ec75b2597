"""A database that was failed over to a standby that was behind: what it has forgotten ends before its key is
given to anybody else. The controller against drones that are played by the test; real ones in test_failover.py."""

import asyncio
import contextlib
import time

import pytest

from postgres import Postgres, Standby, until
from test_controller import Controller, drone, error_of, run
from test_leases import LEASE_MS, holder, holding

pytestmark = [pytest.mark.timeout(120), pytest.mark.fault]
RECOVERING = "DatabaseRecovering"


@pytest.fixture
def server():
    with Postgres() as started:
        yield started


@pytest.fixture
def standby(server):
    with Standby(server) as started:
        yield started


@contextlib.contextmanager
def controller_on(standby, directory, *flags):
    directory.mkdir(exist_ok=True)
    started = Controller(directory, "--drone-lease-ms", str(LEASE_MS), *flags, db=standby.urls())
    try:
        yield started
    finally:
        assert started.stop() == 0, (directory / "controller.log").read_text()[-4000:]


def fail_over(server, standby):
    server.kill()
    standby.promote()


def answered(controller, key):
    """The first answer that is not of a database that is away."""
    def asked():
        answer = controller.connect(key)
        return answer if answer.status != 503 or error_of(answer)[1] != "DatabaseError" else None
    return until(asked)


async def in_thread(function, *words):
    return await asyncio.get_running_loop().run_in_executor(None, function, *words)


def check_refused(answer):
    status, kind, message = error_of(answer)
    assert (status, kind) == (503, RECOVERING) and "may have forgotten" in message
    assert 1 <= int(answer.headers["Retry-After"]) <= LEASE_MS / 1000 + 1


async def noticed(controller):
    """The controller has closed its drones' connections, after it has seen the other server."""
    log = controller.directory / "controller.log"
    await in_thread(until, lambda: "drones say again what they run" in log.read_text())


async def start(dr, controller, key):
    made = (await controller.aconnect(key)).json()
    await dr.action()
    await dr.bring_up(made["backend_id"])
    return made["backend_id"]


async def forgetting(server, standby, controller):
    """A drone that runs `kept`, and `lost`, which the new primary does not know; they, and its epoch."""
    async with holder(controller) as dr:
        await dr.ask()
        kept = await start(dr, controller, "kept")
        await in_thread(standby.wait_caught_up)
        await in_thread(standby.stop_receiving)
        lost = await start(dr, controller, "lost")
        await in_thread(fail_over, server, standby)
        return kept, lost, dr.epoch


def test_a_key_whose_backend_was_forgotten_waits_for_its_end(server, standby, tmp_path):
    async def story():
        with controller_on(standby, tmp_path) as controller:
            kept, lost, epoch = await forgetting(server, standby, controller)
            check_refused(await in_thread(answered, controller, "lost"))
            assert (await controller.aconnect("kept")).json()["backend_id"] == kept
            await noticed(controller)
            async with holder(controller) as dr:
                dr.epoch = dr.last_epoch = epoch
                assert (await dr.ask())["epoch"] == epoch
                # a connect without a key goes on as always
                free = (await controller.aconnect(None)).json()["backend_id"]
                await dr.action()
                await dr.send({"Inventory": {"backends": {kept: epoch, free: epoch}, "has_more": True}})
                await dr.send({"Inventory": {"backends": {lost: epoch}}})
                assert await dr.expect("EndBackends") == {"backends": [lost]}
                async with holding(dr):
                    # it holds its lease and has not said that they have ended
                    began = time.monotonic()
                    while time.monotonic() < began + 2 * LEASE_MS / 1000:
                        check_refused(await controller.aconnect("lost"))
                        await asyncio.sleep(0.1)
                    assert (await controller.aconnect("kept")).json()["backend_id"] == kept
                    assert "have not said what they run" in (tmp_path / "controller.log").read_text()
                    await dr.send({"Inventory": {"backends": {kept: epoch, free: epoch}}})
                    again = await in_thread(until, lambda: (a := controller.connect("lost")).status == 200 and a.json())
                    assert again["spawned"] and again["backend_id"] != lost
                    assert standby.execute("SELECT count(*) FROM meta WHERE name LIKE 'recovering%%'") == [(0,)]

    run(story())


def test_a_drone_that_is_gone_is_waited_for_as_long_as_its_lease_lasts(server, standby, tmp_path):
    async def story():
        with controller_on(standby, tmp_path) as controller:
            kept, lost, _ = await forgetting(server, standby, controller)
            promoted = time.monotonic()
            await noticed(controller)
            async with holder(controller, "dr-two", "jo-two") as other:
                await other.take()
                await other.send({"Inventory": {"backends": {}}})
                async with holding(other):
                    for key, backend in (("lost", lost), ("kept", kept)):
                        again = await in_thread(
                            until, lambda: (a := controller.connect(key)).status == 200 and
                            a.json()["backend_id"] != backend and a.json())
                        assert again["drone"] == "dr-two" and time.monotonic() - promoted > LEASE_MS / 1000

    run(story())


def test_a_controller_that_starts_after_the_failover_sees_that_there_was_one(server, standby, tmp_path):
    async def story():
        with controller_on(standby, tmp_path / "first") as controller:
            _, lost, _ = await forgetting(server, standby, controller)
            controller.process.kill()
            controller.process.wait()
            controller.start(controller.address)
            check_refused(await in_thread(answered, controller, "lost"))
            with controller_on(standby, tmp_path / "second") as second:
                check_refused(await second.aconnect("lost"))
                since = "SELECT value FROM meta WHERE name = 'recovering_since'"
                assert len(standby.execute(since)) == 1
                await in_thread(standby.restart)  # the same server: what it holds back it holds back still
                check_refused(await in_thread(answered, second, "lost"))
                assert lost

    run(story())


def test_synchronous_standbys_make_nobody_wait(server, standby, tmp_path):
    async def story():
        server.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        server.execute("SELECT pg_reload_conf()")
        until(lambda: server.execute("SELECT sync_state FROM pg_stat_replication") == [("sync",)])
        with controller_on(standby, tmp_path, "--synchronous-standbys", "yes") as controller:
            async with holder(controller) as dr:
                await dr.ask()
                kept = await start(dr, controller, "kept")
                await in_thread(fail_over, server, standby)
                assert (await in_thread(answered, controller, "kept")).json()["backend_id"] == kept
                epoch = dr.epoch
            await noticed(controller)
            async with holder(controller) as dr:
                dr.epoch = dr.last_epoch = epoch
                await dr.ask()
                assert (await controller.aconnect("new")).status == 200
                assert "failed over or restored" in (tmp_path / "controller.log").read_text()

    run(story())


def test_original_drones_are_waited_for_as_long_as_their_keys_last(server, standby, tmp_path):
    key_lease_ms = 3 * LEASE_MS

    async def story():
        with controller_on(standby, tmp_path, "--lease-ms", str(key_lease_ms)) as controller:
            async with drone(controller) as original:
                await start(original, controller, "kept")
                await in_thread(standby.wait_caught_up)
                await in_thread(standby.stop_receiving)
                lost = await start(original, controller, "lost")
                await in_thread(fail_over, server, standby)
            promoted = time.monotonic()
            assert error_of(await in_thread(answered, controller, "lost"))[1] == RECOVERING
            await noticed(controller)
            async with drone(controller) as original:
                await original.send({"RenewKey": {"backend": lost, "local_time": 2_000_000}})
                assert (await original.expect("RenewKeyResponse"))["deadlines"] is None
                again = await in_thread(until, lambda: (a := controller.connect("lost")).status == 200 and a.json())
                assert again["backend_id"] != lost and time.monotonic() - promoted > key_lease_ms / 1000

    run(story())
