"""The disk: backends that fill it, and one that is full for other reasons. The data directory is on
a small file system of the test's own."""

import contextlib
import os
import subprocess

import pytest

from faults import FaultyServe, kill
from serve import request, wait_until

pytestmark = pytest.mark.timeout(110)
MIB = 1 << 20
DISK_MIB = 192


@pytest.fixture
def plane(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "plane-test", tmp_path],
                   check=True)
    serve = FaultyServe(tmp_path)
    try:
        serve.start()
        serve.leaks.take_baseline()
        yield serve
        with contextlib.suppress(FileNotFoundError):
            (tmp_path / "filler").unlink()
        serve.end_all()
        serve.leaks.wait_clean()
    finally:
        serve.stop()
        left = serve.leftovers()
        subprocess.run(["umount", "-l", tmp_path], check=True)
    assert left == []


def free_mib(plane):
    room = os.statvfs(plane.data)
    return room.f_bavail * room.f_frsize // MIB


@pytest.mark.parametrize("how", ["nameless=0", "nameless=1"])
def test_a_backend_that_fills_the_disk_is_ended_and_nobody_else(plane, how):
    """Also when it hides what it holds in files without a name."""
    modest, hog = plane.run("modest"), plane.run("hog")
    assert request("GET", modest["url"] + "fill?mb=1").body == b"1 done\n"
    before = free_mib(plane)
    with pytest.raises(OSError):  # it is killed before it can answer, or answers 502
        answer = request("GET", hog["url"] + "fill?" + how, timeout=60)
        raise OSError(answer.status)
    entry = plane.wait_status(hog["backend_id"], "terminated", 60)
    assert "disk was nearly full" in entry["message"] and entry["signal"] == 9
    wait_until(lambda: free_mib(plane) >= before - 2, 20, "the room back")
    plane.serves(modest)
    plane.serves(plane.run("next"))
    plane.leaks.wait_clean()


def test_logs_of_ended_backends_go_before_a_backend_does(plane):
    for number in range(4):
        talker = plane.run(f"talker-{number}", "print")
        plane.end(talker["backend_id"])
        plane.wait_status(talker["backend_id"], "terminated")
    keeper = plane.run("keeper")
    logs = plane.data / "drone" / "logs"
    before = sum(log.stat().st_size for log in logs.iterdir())
    assert before > 40 * MIB
    with filled(plane, leave_mib=4):
        wait_until(lambda: sum(log.stat().st_size for log in logs.iterdir()) < before, 20,
                   "old logs removed")
        plane.serves(keeper)


class filled:
    """Somebody else takes the room."""

    def __init__(self, plane, leave_mib=0):
        self.plane, self.leave = plane, leave_mib
        self.path = plane.data.parent / "filler"

    def __enter__(self):
        filler = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.posix_fallocate(filler, 0, (free_mib(self.plane) - self.leave) * MIB)
        with contextlib.suppress(OSError):
            while not self.leave:
                os.write(filler, b"x" * 4096)
        os.close(filler)

    def __exit__(self, *_):
        self.path.unlink()


def test_a_full_data_directory_stops_starts_only(plane):
    before = plane.run("before")
    plane.serves(before)
    answers = []
    with filled(plane):
        plane.serves(before)  # known links go on
        for number in range(3):
            answers.append((f"during-{number}", plane.ask(f"during-{number}")))
        plane.serves(before)
        assert plane.status(before["backend_id"])["status"] == "ready"  # and it is not blamed
    for key, answer in answers:
        assert answer.status in (200, 500), answer.body
        if answer.status == 500:
            assert "database or disk is full" in plane.log_text()
    plane.leaks.wait_clean()
    assert plane.run("before")["backend_id"] == before["backend_id"]
    for key, _ in answers:
        plane.serves(plane.run(key))


@pytest.mark.parametrize("role", ["controller", "drone"])
def test_a_role_killed_while_the_data_directory_is_full_comes_back(plane, role):
    before = plane.run("before")
    plane.serves(before)  # from now on the proxy knows the link
    with filled(plane):
        old = plane.child(role)
        kill(old)
        wait_until(lambda: plane.child(role) not in (None, old), 30, f"a new {role}")
        plane.serves(before)
    wait_until(plane.is_ready, 60, "the roles back")
    plane.leaks.wait_clean()
    assert plane.run("before")["backend_id"] == before["backend_id"]
    plane.serves(before)


def test_a_backend_that_ends_while_the_data_directory_is_full_is_told_later(plane):
    before = plane.run("before")
    with filled(plane):
        with pytest.raises(OSError):
            raise OSError(request("GET", before["url"] + "exit?code=7").status)
        wait_until(lambda: not plane.pids_of(before["backend_id"]), 20, "its end")
    entry = plane.wait_status(before["backend_id"], "terminated", 20)
    assert entry["exit_code"] == 7
    plane.leaks.wait_clean()
