"""The controller on PostgreSQL: what callers get while it is away, and what is refused at the start."""
import asyncio
import contextlib
import os
import re
import subprocess
import threading
import time

import pytest

from postgres import Postgres, Standby, free_port, until
from test_controller import BUILD, CLUSTER, Controller, drone, error_of, run

PLANE = BUILD / "plane"
AWAY = (503, "DatabaseError", "The database is not reachable at the moment. Try again.")
# a call's time limit is 5 s, to connect and once more to be answered; the rest is for a busy machine
BOUND_SECONDS = 20

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def server():
    with Postgres() as started:
        yield started


@contextlib.contextmanager
def controller_on(db, directory, *flags):
    directory.mkdir(exist_ok=True)
    started = Controller(directory, *flags, db=db)
    try:
        yield started
    finally:
        assert started.stop() == 0, (directory / "controller.log").read_text()[-4000:]


def answers(controller, expected):
    started = time.monotonic()
    answer = controller.connect("k")
    assert time.monotonic() - started < BOUND_SECONDS
    assert error_of(answer) == expected


@pytest.mark.fault
def test_calls_are_refused_while_the_database_is_stopped_and_work_again_after(server, tmp_path):
    async def story():
        with controller_on(server.url(), tmp_path) as controller:
            async with drone(controller) as dr:
                first = (await controller.aconnect("k")).json()
                await dr.action()
                server.stop()
                answers(controller, AWAY)
                assert error_of(controller.get(f"/pub/b/{first['backend_id']}/status")) == AWAY
                assert error_of(controller.get("/pub/health")) == AWAY
                server.start()
                again = until(lambda: (answer := controller.connect("k")).status == 200 and answer.json())
                assert again["backend_id"] == first["backend_id"] and again["spawned"] is False
                assert server.execute("SELECT count(*) FROM backend") == [(1,)]
                # it may be another database: drones come again, to say what they run
                await asyncio.wait_for(dr.ws.wait_closed(), 30)
            async with drone(controller) as dr:
                await dr.bring_up(first["backend_id"])
                assert controller.get(f"/pub/b/{first['backend_id']}/status").json()["status"] == "ready"

    run(story())


@pytest.mark.fault
def test_calls_to_a_database_that_does_not_answer_end_in_time(server, tmp_path):
    async def story():
        with controller_on(server.url(), tmp_path) as controller:
            async with drone(controller) as dr:
                first = (await controller.aconnect("k")).json()
                await dr.action()
                server.pause()
                try:
                    answers(controller, AWAY)
                    answers(controller, AWAY)
                finally:
                    server.resume()
                again = until(lambda: (answer := controller.connect("k")).status == 200 and answer.json())
                assert again["backend_id"] == first["backend_id"]

    run(story())


@contextlib.contextmanager
def spawning(controller):
    """Connects new keys in four threads; what was answered grows meanwhile: backends by key."""
    answered, is_over, failures = {}, threading.Event(), []

    def spawn(thread):
        number = 0
        while not is_over.is_set():
            key = f"k{thread}-{number}"
            answer = controller.connect(key)
            if answer.status == 200:
                answered[key] = answer.json()["backend_id"]
                number += 1
            elif error_of(answer) != AWAY:
                failures.append(answer.body)
                return

    threads = [threading.Thread(target=spawn, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield answered
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert not failures


def check_whole(server, answered):
    """Each key of a backend, each backend of a state and an order: whatever was answered is there."""
    stored = dict(server.execute("SELECT key_name, id FROM backend"))
    assert {key: stored.get(key) for key in answered} == answered
    for table in ("backend_key", "backend_state", "action"):
        assert server.execute(f"SELECT count(*) FROM backend b WHERE NOT EXISTS "
                              f"(SELECT 1 FROM {table} t WHERE t.backend = b.id)") == [(0,)]


@pytest.mark.fault
def test_a_crash_of_the_database_amid_spawns_leaves_nothing_half_done(server, tmp_path):
    async def story():
        with controller_on(server.url(), tmp_path) as controller:
            async with drone(controller):
                with spawning(controller) as answered:
                    for _ in range(3):
                        goal = len(answered) + 20
                        until(lambda: len(answered) >= goal)
                        server.restart("immediate")
                    goal = len(answered) + 20
                    until(lambda: len(answered) >= goal)
                check_whole(server, answered)

    run(story())


def counter(controller, name):
    return int(re.search(rf"^{name} (\d+)$", controller.get("/metrics").body.decode(), re.M)[1])


def test_a_held_key_takes_one_round_trip_and_a_new_one_two(server, tmp_path):
    """The controller has work of its own, now and then in the middle of a connect: the least counts."""
    async def story():
        with controller_on(server.url(), tmp_path) as controller:
            async def round_trips(key):
                before = counter(controller, "plane_store_round_trips_total")
                assert (await controller.aconnect(key)).status == 200
                return counter(controller, "plane_store_round_trips_total") - before

            async with drone(controller) as dr:
                assert min([await round_trips(f"k{number}") for number in range(8)]) == 2
                for _ in range(8):
                    await dr.action()
                assert min([await round_trips("k0") for _ in range(8)]) == 1

    run(story())


def test_several_controllers_share_a_store(server, tmp_path):
    async def story():
        with controller_on(server.url(), tmp_path / "a") as one, controller_on(server.url(), tmp_path / "b") as two:
            async with drone(one) as dr:
                first = (await two.aconnect("k")).json()
                again = (await one.aconnect("k")).json()
                assert first["spawned"] and again["backend_id"] == first["backend_id"]
                await dr.bring_up(first["backend_id"])
                assert two.get(f"/pub/b/{first['backend_id']}/status").json()["status"] == "ready"
                controllers = two.get(f"/ctrl/c/{CLUSTER}/state").json()["drones"]
                assert len(controllers) == 1

    run(story())


# two hours late
LATE = ["env", "DONT_FAKE_MONOTONIC=1", "FAKETIME=-2h",
        "LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"]


@pytest.mark.fault
def test_fencing_tokens_grow_over_a_failover_to_a_standby_that_lacks_the_last_ones(server, tmp_path):
    async def story():
        with Standby(server, prefix=LATE) as standby, controller_on(standby.urls(), tmp_path) as controller:
            async with drone(controller):
                first = (await controller.aconnect("first")).json()
                standby.wait_caught_up()
                standby.stop_receiving()
                for number in range(40):  # a sequence is replicated 32 numbers ahead
                    assert (await controller.aconnect(f"lost-{number}")).status == 200
                last = server.execute("SELECT max(fencing_token) FROM backend_key")[0][0]
                server.kill()
                answers(controller, AWAY)
                standby.promote()
                until(lambda: controller.connect(None).status == 200)
                assert standby.execute("SELECT max(fencing_token) FROM backend_key")[0][0] > last
                assert (await controller.aconnect("first")).json()["backend_id"] == first["backend_id"]
                log = (tmp_path / "controller.log").read_text()
                assert "replicate asynchronously" in log and "failed over or restored (timeline 2, before 1)" in log

    run(story())


@pytest.mark.fault
def test_a_failover_to_a_synchronous_standby_forgets_nothing(server, tmp_path):
    async def story():
        with Standby(server) as standby:
            server.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            server.execute("SELECT pg_reload_conf()")
            until(lambda: server.execute("SELECT sync_state FROM pg_stat_replication") == [("sync",)])
            with controller_on(standby.urls(), tmp_path, "--synchronous-standbys", "yes") as controller:
                async with drone(controller):
                    with spawning(controller) as answered:
                        until(lambda: len(answered) >= 20)
                        server.kill()
                        before = dict(answered)
                        standby.promote()
                        until(lambda: len(answered) >= len(before) + 20)
                    check_whole(standby, answered)
                    tokens = dict(standby.execute("SELECT name, fencing_token FROM backend_key"))
                    jump = max(tokens[key] for key in before) + 500_000_000
                    assert sum(token > jump for token in tokens.values()) >= 20
                    assert "asynchronously" not in (tmp_path / "controller.log").read_text()

    run(story())


@contextlib.contextmanager
def bouncer(server):
    """PgBouncer in session mode in front of the server; gives the URL."""
    port, config, log = free_port(), server.directory / "pgbouncer.ini", server.directory / "pgbouncer.log"
    config.write_text(f"[databases]\n* = host=127.0.0.1 port={server.port} user=postgres\n[pgbouncer]\n"
                      f"pool_mode=session\nlisten_addr=127.0.0.1\nlisten_port={port}\nunix_socket_dir=\n"
                      f"auth_type=any\ndefault_pool_size=40\n")
    words = ["pgbouncer", str(config)]
    if os.geteuid() == 0:
        words = ["runuser", "-u", "postgres", "--", *words]
    with log.open("w") as stream:
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=stream, cwd="/")
    try:
        until(lambda: "process up" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield f"postgres://postgres@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait(timeout=20)


def test_it_works_through_pgbouncer_in_session_mode(server, tmp_path):
    async def story():
        with bouncer(server) as url, controller_on(url, tmp_path) as controller:
            async with drone(controller) as dr:
                first = (await controller.aconnect("k")).json()
                await dr.bring_up(first["backend_id"])
                again = (await controller.aconnect("k")).json()
                assert again["backend_id"] == first["backend_id"] and again["status"] == "ready"

    run(story())


def migrate(url):
    return subprocess.run([PLANE, "migrate", "--db", url], capture_output=True, text=True, timeout=60, check=False)


def controller_role(url):
    """For what it says when it cannot start."""
    return subprocess.run([PLANE, "controller", "--db", url, "--port", "0"], capture_output=True, text=True,
                          timeout=60, check=False)


GRANTS = ("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}",
          "GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO {}")


def role(server, name, *grants):
    server.execute(f"CREATE ROLE {name} LOGIN")
    for grant in grants:
        server.execute(grant.format(name))


@pytest.mark.fault
def test_what_cannot_be_used_is_told_at_the_start(server):
    assert migrate(server.url()).returncode == 0
    assert migrate(server.url()).returncode == 0
    newer = server.new_database()
    assert migrate(newer).returncode == 0
    server.execute("UPDATE meta SET value = 7 WHERE name = 'schema_version'", database="plane_1")
    role(server, "poor")
    role(server, "reading", GRANTS[0].replace(", INSERT, UPDATE, DELETE", ""))
    server.execute("CREATE DATABASE other")
    server.execute("CREATE TABLE meta (name text, value bigint)", database="other")
    server.execute("CREATE DATABASE empty")
    for url, told in [(newer, "schema version 7, this plane knows 1: use a newer plane"),
                      (server.url("other"), "not plane's"),
                      (server.url("empty", "poor"), "permission denied for schema public"),
                      (server.url(user="poor"), "permission denied for table meta"),
                      (server.url(user="reading"), "permission denied for sequence fencing_token"),
                      (server.url("missing"), '"missing" does not exist'),
                      (server.url(user="nobody"), '"nobody" does not exist'),
                      (f"postgres://postgres@127.0.0.1:{free_port()}/x", "refused"),
                      ("postgres://x@127.0.0.1/x?no_such=1", "no_such")]:
        for start in (migrate, controller_role):
            result = start(url)
            assert result.returncode == 1 and told in result.stderr, (start, url, result.stderr)
    assert server.execute("SELECT value FROM meta WHERE name = 'schema_version'", database="plane_1") == [(7,)]


@pytest.mark.fault
def test_rights_that_are_taken_away_are_told_and_what_failed_goes_on_with_them(server, tmp_path):
    assert migrate(server.url()).returncode == 0
    role(server, "serving", *GRANTS)

    def told(what):
        until(lambda: what in (tmp_path / "controller.log").read_text())

    async def story():
        with controller_on(server.url(user="serving"), tmp_path) as controller:
            async with drone(controller) as dr:
                first = (await controller.aconnect("k")).json()
                await dr.action()
                server.execute("REVOKE INSERT ON backend, backend_state FROM serving")
                assert error_of(await controller.aconnect("other")) == (500, "Other", "Internal error.")
                told("permission denied for table backend")
                assert (await controller.aconnect("k")).json()["backend_id"] == first["backend_id"]
                for table in ("backend", "backend_key", "action"):  # nothing half done
                    assert server.execute(f"SELECT count(*) FROM {table}") == [(1,)]
                # what the drone says is not acknowledged before it is stored, and not lost
                event = asyncio.ensure_future(dr.event(first["backend_id"], {"status": "loading"}))
                await asyncio.get_running_loop().run_in_executor(
                    None, told, "backend events of dr-one: database: permission denied for table backend_state")
                assert not event.done()
                server.execute("GRANT INSERT ON backend, backend_state TO serving")
                await asyncio.wait_for(event, 30)
                assert (await controller.aconnect("k")).json()["status"] == "loading"
                assert (await controller.aconnect("other")).json()["spawned"] is True

    run(story())


def test_a_user_who_may_not_change_the_schema_can_serve(server, tmp_path):
    assert migrate(server.url()).returncode == 0
    role(server, "serving", *GRANTS)

    async def story():
        with controller_on(server.url(user="serving"), tmp_path) as controller:
            async with drone(controller) as dr:
                first = (await controller.aconnect("k")).json()
                await dr.bring_up(first["backend_id"])
                assert (await controller.aconnect("k")).json()["status"] == "ready"

    run(story())
