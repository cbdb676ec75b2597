"""`plane store copy`: a stopped `plane serve` goes on as single roles on PostgreSQL, and back; a copy that
is interrupted leaves nothing; what cannot be copied is refused."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess

import pytest

from postgres import Postgres
from roles import Role
from serve import EXAMPLES, PLANE, Serve, request, wait_until
from test_controller import Controller, drone, run

TABLES = ["controller", "node", "drone", "backend", "backend_key", "backend_state", "action", "token",
          "revocation", "certificate"]
# what a lease of `plane serve` is, so that the next controller does not give it up any earlier
LEASE = ["--lease-seconds", "60"]

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def server():
    with Postgres() as started:
        yield started


def database_of(url):
    return url.rsplit("/", 1)[1]


def copy_words(source, target, *flags):
    return [str(PLANE), "store", "copy", "--from", source, "--to", target, *flags]


def copy(source, target, *flags):
    return subprocess.run(copy_words(source, target, *flags), capture_output=True, text=True, timeout=120,
                          check=False)


def copied(source, target):
    result = copy(source, target, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


class Here:
    """This machine, for a Role."""

    fd = 0

    @staticmethod
    def command(*words):
        return [str(word) for word in words]


@contextlib.contextmanager
def roles_on(db, serve, directory):
    """Controller, drone and proxy of the same data directory and addresses as `serve`, by themselves."""
    port = serve.listen.rsplit(":", 1)[1]
    proxy_host, proxy_port = serve.proxy.rsplit(":", 1)
    started = []

    def start(name, *words):
        started.append(Role(Here, directory, name, [name, *words]).start())

    try:
        start("controller", "--db", db, "--port", port, "--default-cluster", serve.cluster, *LEASE)
        start("drone", "--controller-url", serve.api, "--cluster", serve.cluster, "--data-dir", serve.data)
        start("proxy", "--controller-url", serve.api, "--cluster", serve.cluster, "--host", proxy_host,
              "--http-port", proxy_port)
        yield started
    finally:
        for role in reversed(started):
            assert role.stop() == 0, role.log_text()[-4000:]


def seen(connection):
    """What the backend behind a link says of a request to it."""
    answer = request("GET", connection["url"] + "x")
    assert answer.status == 200, answer.body
    body = answer.json()
    headers = {name.lower(): value for name, value in body["headers"].items()}
    assert headers["x-verified-secret"] == connection["secret_token"]
    assert headers["x-verified-backend"] == connection["backend_id"]
    return body


def fencing_token(connection):
    return int(seen(connection)["env"]["SESSION_BACKEND_FENCING_TOKEN"])


def check_goes_on(serve, links, shims):
    """Nothing was started again or lost: the same processes behind the same links and keys."""
    for key, link in links.items():
        wait_until(lambda link=link: request("GET", link["url"]).status == 200, 30, f"the link to {key}")
        again = serve.connect(key)
        assert again["backend_id"] == link["backend_id"] and not again["spawned"]
        assert fencing_token(again) == fencing_token(link)
        assert serve.shim_of(link["backend_id"]) == shims[key]
        assert serve.status(link["backend_id"])["status"] == "ready"


def lease(server, database):
    return server.execute("SELECT lease_epoch, lease_renewals, is_lease_granted FROM drone", database=database)[0]


@pytest.mark.fault
@pytest.mark.skipif(not (EXAMPLES / "echo.tar").exists(), reason="no examples built")
def test_a_single_machine_goes_on_on_postgresql_and_back(server, tmp_path):
    serve = Serve(tmp_path)
    serve.import_image("echo", EXAMPLES / "echo.tar")
    serve.start()
    try:
        links = {key: serve.connect(key, user="ada", auth={"role": "editor"}) for key in ("one", "two")}
        gone = serve.connect("gone")
        serve.plane("admin", "terminate", gone["backend_id"])
        serve.wait_status(gone["backend_id"], "terminated")
        shims = {key: serve.shim_of(link["backend_id"]) for key, link in links.items()}
        tokens = [fencing_token(link) for link in links.values()]
        states = {link["backend_id"]: serve.status(link["backend_id"]) for link in links.values()}
        assert serve.stop(signal.SIGTERM) == 0

        file, db = f"sqlite:{serve.data}/controller/controller.db", server.new_database()
        answer = copied(file, db)
        assert answer["tables"]["backend"] == 3 and answer["tables"]["backend_key"] == 2
        assert answer["fencing_token"] >= max(tokens)
        before = lease(server, database_of(db))
        with roles_on(db, serve, tmp_path):
            check_goes_on(serve, links, shims)
            for backend, state in states.items():  # its time is as long ago as before
                assert serve.status(backend) == {**state, "time": state["time"] + answer["time_shift_ms"]}
            assert serve.status(gone["backend_id"])["status"] == "terminated"
            epoch, renewals, is_granted = wait_until(
                lambda: (row := lease(server, database_of(db)))[1] > before[1] + 1 and row, 60, "renewals")
            assert epoch == before[0] and renewals > before[1] and is_granted and before[2]
            links["three"] = serve.connect("three")
            tokens.append(fencing_token(links["three"]))
            assert tokens[-1] > max(tokens[:-1])
            shims["three"] = serve.shim_of(links["three"]["backend_id"])

        path = serve.data / "controller" / "controller.db"
        path.rename(tmp_path / "before.db")
        answer = copied(db, file)
        assert answer["tables"]["backend"] == 4 and answer["tables"]["backend_key"] == 3
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
        serve.start()
        check_goes_on(serve, links, shims)
        assert fencing_token(serve.connect("four")) > max(tokens)
    finally:
        serve.stop()
    assert serve.leftovers() == []


# ---- interrupted ----

MANY = 25000


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """The URL of a store in SQLite with many rows."""
    path = tmp_path_factory.mktemp("filled") / "plane.db"
    subprocess.run([PLANE, "migrate", "--db", f"sqlite:{path}"], check=True)
    with contextlib.closing(sqlite3.connect(path)) as db:
        numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MANY}) "
        db.executescript(f"""
            INSERT INTO node (id, kind, cluster, name, connection_id, version, git_hash, ip)
              VALUES (7, 'Drone', 'c:1', 'dr-a', 1, '', '', '');
            INSERT INTO drone (id, pool, is_ready, is_draining) VALUES (7, '', 1, 0);
            {numbers} INSERT INTO backend (id, cluster, drone_id, key_namespace, key_name, key_tag, status, state,
              state_at, created_at, last_keepalive_at) SELECT 'b' || i, 'c:1', 7, '', 'k' || i, '', 50, '{{}}', 1, 1, 1
              FROM n;
            {numbers} INSERT INTO token SELECT 'k' || i, 's' || i, 'b' || i, NULL, '{{}}', 1 FROM n;
            {numbers} INSERT INTO backend_state (backend, state, created_at) SELECT 'b' || i, '{{}}', 1 FROM n;
            {numbers} INSERT INTO revocation SELECT i, 'b' || i, 'ada', 1 FROM n;""")
    return f"sqlite:{path}"


def rows_in_postgres(server, url):
    connection = server.connect(database_of(url))
    with contextlib.closing(connection), connection.cursor() as cursor:
        counts = {}
        for table in TABLES:
            cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (table,))
            if cursor.fetchone()[0]:
                cursor.execute(f"SELECT count(*) FROM {table}")
                counts[table] = cursor.fetchone()[0]
        return counts


def rows_in_sqlite(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        names = {name for name, in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES if table in names}


def interrupt_at_many_points(words, count_rows, expected):
    """Kills copies after more and more of their time, until one gets to its end: none has left a row."""
    step, delay, kills = 0.02, 0.0, 0
    while True:
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=delay)
        process.kill()
        told = process.communicate()[1]
        if process.returncode == 0:
            assert count_rows() == expected
            return kills
        assert process.returncode == -signal.SIGKILL, told
        rows = count_rows()
        if rows == expected:  # it was killed behind the end of its transaction
            return kills
        assert not any(rows.values()), rows
        kills += 1
        delay += step * (1 + kills // 10)


def expected_rows():
    return {**{table: 0 for table in TABLES}, "node": 1, "drone": 1, "backend": MANY, "token": MANY,
            "backend_state": MANY, "revocation": MANY}


@pytest.mark.fault
def test_a_copy_to_postgresql_that_is_killed_at_any_point_leaves_nothing(server, filled):
    url = server.new_database()
    kills = interrupt_at_many_points(copy_words(filled, url), lambda: rows_in_postgres(server, url), expected_rows())
    assert kills >= 5


@pytest.mark.fault
def test_a_copy_to_sqlite_that_is_killed_at_any_point_leaves_nothing(server, filled, tmp_path):
    url, path = server.new_database(), tmp_path / "copy.db"
    copied(filled, url)
    kills = interrupt_at_many_points(copy_words(url, f"sqlite:{path}"), lambda: rows_in_sqlite(path), expected_rows())
    assert kills >= 5


@pytest.mark.fault
def test_a_database_that_goes_away_amid_a_copy_has_nothing_of_it(server, filled):
    url = server.new_database()
    assert subprocess.run([PLANE, "migrate", "--db", url], check=False).returncode == 0
    process = subprocess.Popen(copy_words(filled, url), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    copying = "SELECT count(*) FROM pg_stat_progress_copy WHERE tuples_processed > 0"
    wait_until(lambda: process.poll() is not None or server.execute(copying)[0][0], 60, "rows on their way")
    server.restart("immediate")
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and "target" in told, told
    assert not any(rows_in_postgres(server, url).values())
    assert copied(filled, url)["rows"] == 4 * MANY + 2


# ---- refused ----


@pytest.mark.fault
def test_a_store_that_a_controller_uses_is_refused(server, tmp_path):
    async def story():
        url, file = server.new_database(), f"sqlite:{tmp_path}/plane.db"
        controller = Controller(tmp_path, db=file)
        async with drone(controller) as dr:
            first = (await controller.aconnect("k")).json()
            await dr.bring_up(first["backend_id"])
            answer = copy(file, url)
            assert answer.returncode == 1
            assert "in use: stop the controller" in answer.stderr and answer.stderr.startswith("error: source"), answer
        assert controller.stop() == 0
        assert copied(file, url)["tables"]["backend_key"] == 1

        other = server.new_database()
        controller = Controller(tmp_path, db=url)
        answer = copy(url, other)
        assert answer.returncode == 1 and "stop all controllers first" in answer.stderr, answer.stderr
        answer = copy(file, url)
        assert answer.returncode == 1 and answer.stderr.startswith("error: target"), answer.stderr
        assert controller.get(f"/pub/b/{first['backend_id']}/status").json()["status"] == "ready"
        assert controller.stop() == 0
        answer = copy(file, url)
        assert answer.returncode == 1 and "must be an empty database" in answer.stderr
        assert copied(url, other)["tables"]["backend_key"] == 1

    run(story())


def test_it_says_what_was_copied(server, tmp_path):
    file = f"sqlite:{tmp_path}/plane.db"
    controller = Controller(tmp_path, db=file)
    assert controller.stop() == 0
    answer = copy(file, server.new_database())
    assert answer.returncode == 0 and answer.stderr == ""
    lines = answer.stdout.splitlines()
    assert [line.split()[0] for line in lines[:12]] == ["TABLE", *TABLES, "all"]
    assert lines[1].split() == ["controller", "1"]
    assert lines[12].startswith("Fencing tokens go on above ")
    answer = copied(file, server.new_database())
    assert answer["rows"] == 1 and answer["tables"] == {**dict.fromkeys(TABLES, 0), "controller": 1}
    assert abs(answer["time_shift_ms"]) < 60000  # the clocks of one machine


@pytest.mark.parametrize("words, told", [
    ([], "--from"),
    (["--from", "sqlite:/nowhere/x.db"], "--to"),
    (["--from", "sqlite:/nowhere/x.db", "--to", "postgres://127.0.0.1:1/x"], "error: source: open the database /nowhere"),
    (["--from", "mysql://x", "--to", "sqlite:/nowhere/x.db"], "error: source: no known kind"),
])
def test_mistakes_are_told(words, told):
    result = subprocess.run([PLANE, "store", "copy", *words], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode != 0 and told in result.stderr, result.stderr


def test_a_user_with_the_rights_of_a_controller_can_copy(server, tmp_path):
    url = server.new_database()
    assert subprocess.run([PLANE, "migrate", "--db", url], check=False).returncode == 0
    database = database_of(url)
    for sql in ["CREATE ROLE copying LOGIN",
                "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO copying",
                "GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO copying"]:
        server.execute(sql, database=database)
    controller = Controller(tmp_path, db=f"sqlite:{tmp_path}/plane.db")
    assert controller.stop() == 0
    assert copied(f"sqlite:{tmp_path}/plane.db", server.url(database, "copying"))["rows"] == 1
    assert copied(server.url(database, "copying"), f"sqlite:{tmp_path}/back.db")["rows"] == 1
