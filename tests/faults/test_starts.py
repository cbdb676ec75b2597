"""Starts of `plane serve` that cannot be, and starts after bad ends."""

import hashlib
import os
import socket
import subprocess

import pytest

import inventory
from faults import FaultyServe
from serve import request, wait_until

pytestmark = pytest.mark.timeout(100)


def fails(serve):
    """What a start that fails says."""
    result = subprocess.run(serve.command(), capture_output=True, text=True, timeout=60,
                            stdin=subprocess.DEVNULL, check=False)
    assert result.returncode != 0, result.stderr
    return result.stderr


def test_a_second_serve_on_the_same_data_directory_is_refused_and_harms_nothing(plane):
    before = plane.run("before")
    assert str(plane.process.pid) in fails(plane)
    plane.serves(before)
    assert plane.run("before")["backend_id"] == before["backend_id"]


def taken_port(address):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    host, port = address.split(":")
    listener.bind((host, int(port)))
    listener.listen()
    return listener


@pytest.mark.parametrize("which", ["listen", "proxy"])
def test_a_port_in_use_is_named_and_nothing_is_left(tmp_path, which):
    serve = FaultyServe(tmp_path)
    with taken_port(getattr(serve, which)):
        said = fails(serve)
    assert getattr(serve, which) in said and "in use" in said
    assert serve.leftovers() == []


def test_a_start_that_fails_ends_no_backend_of_the_run_before(tmp_path):
    serve = FaultyServe(tmp_path)
    serve.start()
    before = serve.run("before")
    serve.process.kill()
    serve.process.wait()
    wait_until(lambda: not connects(serve.proxy), 30, "the proxy gone")
    with taken_port(serve.proxy):
        assert "in use" in fails(serve)
        assert serve.pids_of(before["backend_id"])
    serve.start()
    assert serve.run("before")["backend_id"] == before["backend_id"]
    serve.serves(before)
    serve.stop()
    assert serve.leftovers() == []


def connects(address):
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
    except OSError:
        return False
    return True


def test_a_read_only_data_directory_is_named(tmp_path):
    serve = FaultyServe(tmp_path)
    serve.data.mkdir()
    subprocess.run(["mount", "--bind", serve.data, serve.data], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", serve.data], check=True)
        said = fails(serve)
    finally:
        subprocess.run(["umount", "-l", serve.data], check=True)
    assert str(serve.data) in said and "Read-only" in said
    assert serve.leftovers() == []


def test_a_file_in_the_place_of_the_data_directory_is_named(tmp_path):
    serve = FaultyServe(tmp_path)
    serve.data.write_text("")
    assert str(serve.data) in fails(serve)


@pytest.mark.parametrize("database", ["controller/controller.db", "drone/drone.db"])
def test_a_damaged_database_is_named(tmp_path, database):
    serve = FaultyServe(tmp_path)
    serve.start()
    serve.stop()
    path = serve.data / database
    owner = path.stat()
    path.write_bytes(b"this is no database" * 1000)
    os.chown(path, owner.st_uid, owner.st_gid)
    said = fails(serve)
    path.unlink()
    assert os.path.basename(database) in said and "not a database" in said
    assert serve.leftovers() == []


def test_a_claim_of_user_ids_that_cannot_be_read_is_somebodys(tmp_path):
    """Of the places that the name of a directory can prefer, one that is free now is taken."""
    inventory.CLAIMS.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in range(200):
        directory = tmp_path / str(name)
        real = os.path.realpath(directory / "data" / "drone").encode()
        preferred = inventory.CLAIMS / str(hashlib.sha256(real).digest()[0] % 24)
        if not preferred.exists():
            break
    directory.mkdir()
    preferred.write_text("x" * 20000)  # longer than any path
    serve = FaultyServe(directory)
    try:
        serve.start()
        assert serve.leaks.claims and serve.leaks.claims != [int(preferred.name)]
        assert preferred.stat().st_size == 20000
        serve.serves(serve.run("key"))
    finally:
        serve.stop()
        preferred.unlink()
    assert serve.leftovers() == []


def test_orders_of_a_stopped_server_are_carried_out_by_the_next(plane):
    """A soft end that was ordered while no drone was there."""
    before = plane.run("before")
    plane.process.kill()
    plane.process.wait()
    wait_until(lambda: not connects(plane.listen), 30, "the controller gone")
    plane.start()
    assert plane.end(before["backend_id"], "soft").status == 200
    plane.wait_status(before["backend_id"], "terminated")
    assert request("GET", before["url"]).status == 410
