"""Backends that cannot start, and backends that mean harm."""

import pytest

from serve import request

pytestmark = pytest.mark.timeout(110)
PIDS_MAX = 1024  # in one sandbox, with what is Plane's


def ended(plane, connection):
    return plane.wait_status(connection["backend_id"], "terminated", 60)


def test_an_image_that_does_not_exist_is_named(plane):
    entry = ended(plane, plane.run("k", image="nosuch", wait=None))
    assert "nosuch" in entry["message"]


def test_a_command_that_does_not_exist_is_named(plane):
    plane.import_image("nocommand", plane.hostile, "--entrypoint", "/no/such/program")
    entry = ended(plane, plane.run("k", image="nocommand", wait=None))
    assert "/no/such/program" in entry["message"]


def test_a_backend_that_exits_at_once_tells_its_code(plane):
    entry = ended(plane, plane.run("k", "exit", wait=None))
    assert entry["exit_code"] == 3 and entry["exit_error"] is True


def test_a_backend_that_crashes_at_once_tells_its_signal(plane):
    assert ended(plane, plane.run("k", "crash", wait=None))["signal"] in (6, 11)


@pytest.mark.parametrize("hostile", ["silent", "wrong-port"])
@pytest.mark.parametrize("how", ["soft", "hard"])
def test_a_backend_that_does_not_answer_waits_and_can_be_ended(plane, hostile, how):
    connection = plane.run("k", hostile, wait="waiting")
    backend = connection["backend_id"]
    assert plane.run("k", wait=None)["backend_id"] == backend  # nobody gets another
    assert plane.status(backend)["status"] == "waiting"
    assert plane.end(backend, how).status == 200
    assert ended(plane, connection)["termination_kind"] == how
    assert request("GET", connection["url"]).status == 410


def test_a_backend_that_forks_without_bound_stays_in_its_bounds(plane):
    other, forker = plane.run("other"), plane.run("forker")
    count, reason = request("GET", forker["url"] + "fork", timeout=60).body.split(b" ", 1)
    assert PIDS_MAX / 2 < int(count) < PIDS_MAX and b"temporarily unavailable" in reason
    plane.serves(other)
    plane.serves(plane.run("third"))
    assert len(plane.pids_of(forker["backend_id"])) > PIDS_MAX / 2
    assert plane.end(forker["backend_id"]).status == 200
    ended(plane, forker)
    assert plane.pids_of(forker["backend_id"]) == []


@pytest.mark.long
def test_a_backend_that_ignores_sigterm_is_killed_after_the_grace(plane):
    connection = plane.run("deaf", "deaf")
    backend = connection["backend_id"]
    assert plane.end(backend, "soft").status == 200
    plane.wait_status(backend, "terminating")
    again = plane.status(backend)
    assert again["status"] == "terminating" and plane.pids_of(backend)
    entry = plane.wait_status(backend, "terminated", 60)
    assert entry["termination_kind"] == "soft" and entry["signal"] == 9
    assert plane.run("deaf")["backend_id"] != backend


def test_a_hard_end_does_not_wait_for_the_grace_of_a_soft_one(plane):
    connection = plane.run("deaf", "deaf")
    assert plane.end(connection["backend_id"], "soft").status == 200
    plane.wait_status(connection["backend_id"], "terminating")
    assert plane.end(connection["backend_id"], "hard").status == 200
    assert plane.wait_status(connection["backend_id"], "terminated", 20)["signal"] == 9


@pytest.mark.long
def test_gigabytes_of_output_stay_within_the_log(plane):
    talker, other = plane.run("talker"), plane.run("other")
    answer = request("GET", talker["url"] + "print?mb=2048", timeout=100)
    assert answer.status == 200
    plane.serves(other)
    logs = list((plane.data / "drone" / "logs").glob(talker["backend_id"] + "*"))
    assert len(logs) == 2 and sum(log.stat().st_size for log in logs) < 21 << 20
    plane.serves(talker)


def test_a_log_that_is_read_while_it_floods_stays_readable(plane):
    talker = plane.run("talker", "print")
    lines = plane.plane("admin", "logs", "--tail", "3", talker["backend_id"]).stdout.splitlines()
    assert lines == ["x" * 127] * 3
