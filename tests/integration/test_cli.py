"""The command line by itself: help, mistakes, single roles, configuration files."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess

import pytest

from serve import PLANE, free_port, request, wait_until

pytestmark = pytest.mark.timeout(60)


def plane(*words, **more):
    return subprocess.run([str(PLANE), *map(str, words)], capture_output=True, text=True,
                          timeout=30, **more)


COMMANDS = [["serve"], ["controller"], ["drone"], ["proxy"], ["migrate"], ["run-config"],
            ["version"], ["image", "import"], ["image", "list"], ["image", "show"],
            ["image", "remove"], *[["admin", name] for name in (
                "connect", "backends", "logs", "backend-status", "terminate", "status",
                "cluster-state", "drain", "undrain", "put-dummy-dns")]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command):
    result = plane(*command, "--help")
    assert result.returncode == 0 and result.stderr == ""
    assert f"usage: plane {' '.join(command)}" in result.stdout and "--log-level" in result.stdout
    wrong = plane(*command, "--no-such-flag")
    assert wrong.returncode == 2 and "--no-such-flag" in wrong.stderr and "--help" in wrong.stderr


def test_commands_that_do_not_exist_are_named():
    for words in (["nothing"], ["admin", "nothing"], ["image", "nothing"]):
        result = plane(*words)
        assert result.returncode == 2 and "nothing" in result.stderr
    assert plane().returncode == 2
    assert "serve" in plane("--help").stdout


def test_mistakes_in_flags_are_told():
    for words, told in [(["controller"], "--db"), (["controller", "--db"], "--db"),
                        (["controller", "--db", "x", "--port", "70000"], "port"),
                        (["drone", "--controller-url", "http://x"], "--cluster"),
                        (["serve", "extra"], "extra"), (["version", "--help=1"], "--help=1"),
                        (["image", "import", "x"], "missing")]:
        result = plane(*words)
        assert result.returncode == 2 and told in result.stderr, words
    for words, told in [(["serve", "--listen", "nonsense"], "--listen"),
                        (["serve", "--cluster", "a b"], "--cluster"),
                        (["drone", "--controller-url", "http://127.0.0.1:1", "--cluster", "a",
                          "--egress", "maybe"], "--egress"),
                        (["controller", "--db", "mysql:x"], "sqlite"),
                        (["proxy", "--controller-url", "ftp://x", "--cluster", "a",
                          "--http-port", "0"], "ftp")]:
        result = plane(*words)
        assert result.returncode == 1 and told in result.stderr, (words, result.stderr)


def test_version_and_migrate(tmp_path):
    assert plane("version").stdout.startswith("Client version: ")
    path = tmp_path / "store.db"
    assert plane("migrate", "--db", f"sqlite:{path}").returncode == 0
    assert plane("migrate", "--db", f"sqlite:{path}").returncode == 0
    assert path.stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(path) as db:
        assert db.execute("select count(*) from backend").fetchone() == (0,)
    (tmp_path / "text.db").write_text("this is no database, and long enough to be read as one " * 50)
    wrong = plane("migrate", "--db", f"sqlite:{tmp_path}/text.db")
    assert wrong.returncode == 1 and "not a database" in wrong.stderr


def test_a_file_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "store.db"
    assert plane("migrate", "--db", f"sqlite:{path}").returncode == 0
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 999")
    for words in (["migrate"], ["controller", "--port", "0"]):
        newer = plane(*words, "--db", f"sqlite:{path}")
        assert newer.returncode == 1 and "schema version 999" in newer.stderr, newer.stderr
        assert "use a newer plane" in newer.stderr
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (999,)


def test_without_a_controller_the_answer_says_what_to_do():
    result = plane("admin", "--controller", f"http://secret@127.0.0.1:{free_port()}", "status")
    assert result.returncode == 1
    assert "--controller" in result.stderr and "secret" not in result.stderr


@pytest.mark.parametrize("log_format", ["json", "pretty"])
def test_a_role_from_a_file(tmp_path, log_format):
    port = free_port()
    path = tmp_path / "controller.json"
    path.write_text(json.dumps({"Controller": {
        "db_url": f"sqlite:{tmp_path}/c.db", "bind_addr": f"127.0.0.1:{port}", "id": "co-file",
        "controller_url": "http://token@example.test/", "default_cluster": None,
        "cleanup_min_age_days": None, "cleanup_batch_size": None, "forward_auth": None,
        "best_of": 2}}))
    log = open(tmp_path / "log", "w+")
    process = subprocess.Popen([str(PLANE), "run-config", str(path), "--log-format", log_format],
                               stderr=log)

    def answers():
        assert process.poll() is None, (tmp_path / "log").read_text()
        try:
            return request("GET", f"http://127.0.0.1:{port}/pub/health").status == 200
        except OSError:
            return False
    wait_until(answers, 20, "controller")
    status = plane("admin", "status", "--json", env={
        **os.environ, "PLANE_CONTROLLER": f"http://127.0.0.1:{port}"})
    assert json.loads(status.stdout)["status"] == "ok"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    log.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert any("co-file" in line for line in lines)
    if log_format == "json":
        assert all("message" in json.loads(line) for line in lines)


@pytest.mark.parametrize("content, told", [
    ("{", "line"), ("[]", "object"), ('{"Unknown": {}}', "Controller"),
    ('{"Proxy": {"name": 1}}', "name"),
    ('{"Proxy": {"name": "px-1", "controller_url": "http://127.0.0.1:1", "cluster": "a", '
     '"port_config": {"http_port": 0, "https_port": 443}}}', "https_port"),
    ('{"Controller": {"db_url": "sqlite:x"}}', "bind_addr")])
def test_files_that_are_wrong_are_told(tmp_path, content, told):
    path = tmp_path / "role.json"
    path.write_text(content)
    result = plane("run-config", path)
    assert result.returncode == 1 and told in result.stderr and "role.json" in result.stderr


def test_a_file_needs_its_ending(tmp_path):
    assert ".json" in plane("run-config", tmp_path / "role.toml").stderr
