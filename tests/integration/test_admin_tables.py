"""The tables of `plane admin`: what they show, page by page, once and with --watch."""

import contextlib
import http.server
import json
import os
import re
import signal
import subprocess
import tempfile
import termios
import threading
import urllib.parse

import pytest

from serve import EXAMPLES, PLANE, Serve, request, wait_until
from terminal import ENTER, LEAVE, Terminal

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def plane():
    with tempfile.TemporaryDirectory(prefix="plane-tables-") as directory:
        serve = Serve(directory)
        serve.import_image("echo", EXAMPLES / "echo.tar")
        serve.start()
        yield serve
        serve.stop()


def admin(plane, *words):
    return plane.plane("admin", *words).stdout


def columns(text):
    """The rows of a table as dictionaries by heading, cut where the headings begin or end."""
    head, *rows = text.splitlines()
    cells = [list(re.finditer(r"\S+(?: \S+)*", line)) for line in (head, *rows)]
    assert all(len(row) == len(cells[0]) for row in cells), text
    for row in cells:
        for title, cell in zip(cells[0], row):
            assert cell.start() == title.start() or cell.end() == title.end(), text
    names = [cell.group() for cell in cells[0]]
    return [dict(zip(names, (cell.group() for cell in row))) for row in cells[1:]]


def get(plane, path):
    return request("GET", f"{plane.api}{path}")


def connect_key(plane, name, namespace="", tag=""):
    answer = request("POST", f"{plane.api}/ctrl/connect", {
        "key": {"name": name, "namespace": namespace, "tag": tag},
        "spawn_config": {"executable": {"image": "echo"}, "cluster": plane.cluster}}).json()
    plane.wait_status(answer["backend_id"], "ready")
    return answer["backend_id"]


def test_drones_and_proxies_are_tables_and_json(plane):
    plane.connect("counted")
    drone, = columns(admin(plane, "drones"))
    told, = (json.loads(line) for line in admin(plane, "drones", "--json").splitlines())
    assert drone["DRONE"] == told["node"]["name"]["Drone"]
    assert drone["CLUSTER"] == told["cluster"] == plane.cluster
    assert drone["STATE"] == "ready" and told["healthy"] is True and told["pool"] == ""
    alive = [json.loads(line) for line in admin(plane, "backends", "--alive", "--json").splitlines()]
    assert int(drone["BACKENDS"]) == told["backend_count"] == len(alive) > 0
    one = get(plane, f"/ctrl/c/{plane.cluster}/d/{drone['DRONE']}").json()
    for node in (one["node"], told["node"]):
        del node["controller_heartbeat_age"]  # a second may have passed
    assert one["node"] == told["node"]
    assert get(plane, f"/ctrl/c/{plane.cluster}/d/dr-nobody").status == 404
    assert get(plane, "/ctrl/drones?all=perhaps").status == 400
    proxy, = columns(admin(plane, "proxies"))
    assert proxy["PROXY"].startswith("px-") and proxy["ADDRESS"] == "127.0.0.1"
    assert proxy["CONTROLLER"] == drone["CONTROLLER"]
    for filters in (["--cluster", "elsewhere:1"], ["--pool", "nowhere"]):
        assert len(admin(plane, "drones", *filters).splitlines()) == 1
    assert len(columns(admin(plane, "drones", "--pool", ""))) == 1
    drones, proxies = admin(plane, "cluster-state", plane.cluster).split("\n\n")
    assert columns(drones)[0]["DRONE"] == drone["DRONE"]
    assert columns(proxies)[0]["PROXY"] == proxy["PROXY"]


def test_keys_are_listed_with_their_leases(plane):
    first = connect_key(plane, "a key & more", "space one", "t 1")
    second = connect_key(plane, "ключ", "space one")
    rows = columns(admin(plane, "keys", "--namespace", "space one"))
    assert [row["BACKEND"] for row in rows] == [first, second]
    assert [row["KEY"] for row in rows] == ["a key & more", "ключ"]
    assert rows[0]["TAG"] == "t 1" and rows[1]["TAG"] == "-"
    assert all(row["STATUS"] == "ready" and row["LEASE"] != "over" for row in rows)
    assert int(rows[0]["FENCING TOKEN"]) < int(rows[1]["FENCING TOKEN"])
    by_name = json.loads(admin(plane, "keys", "--key", "ключ", "--json"))
    assert by_name["backend_id"] == second and by_name["live"] is True
    assert by_name["key"] == {"name": "ключ", "namespace": "space one", "tag": ""}
    admin(plane, "terminate", second)
    assert columns(admin(plane, "keys", "--namespace", "space one"))[0]["BACKEND"] == first
    assert len(admin(plane, "keys", "--key", "ключ").splitlines()) == 1  # an ended one holds none


def test_pages_of_keys_and_backends_have_each_entry_once(plane):
    made = {connect_key(plane, f'page "{i}"', namespace) for i in range(2)
            for namespace in ("", "paged")}
    for path, field in (("/ctrl/keys?cluster=" + plane.cluster, "keys"),
                        ("/ctrl/backends?alive=true", "backends")):
        whole = get(plane, f"{path}&limit=1000").json()
        assert whole["next_cursor"] is None
        paged, cursor = [], ""
        while cursor is not None:
            page = get(plane, f"{path}&limit=1&cursor={urllib.parse.quote(cursor)}").json()
            assert len(page[field]) <= 1
            paged += page[field]
            cursor = page["next_cursor"]
        assert [e["backend_id"] for e in paged] == [e["backend_id"] for e in whole[field]]
        assert made <= {e["backend_id"] for e in paged}
    for wrong in ("nonsense", "[1]", "[1,2]", '{"a":1}'):
        assert get(plane, f"/ctrl/keys?cursor={urllib.parse.quote(wrong)}").status == 400
    assert get(plane, "/ctrl/keys?limit=0").status == 400


def test_backends_of_a_drone_and_those_alive(plane):
    drone = columns(admin(plane, "drones"))[0]["DRONE"]
    ended = connect_key(plane, "short")
    alive = connect_key(plane, "long")
    admin(plane, "terminate", ended)
    here = {row["BACKEND"] for row in columns(admin(plane, "backends", "--drone", drone))}
    assert {ended, alive} <= here
    living = {row["BACKEND"] for row in columns(admin(plane, "backends", "--alive"))}
    assert alive in living and ended not in living
    assert len(admin(plane, "backends", "--drone", "dr-other").splitlines()) == 1
    limited = admin(plane, "backends", "--limit", "1").splitlines()
    assert len(limited) == 3 and limited[-1] == "... and more"
    assert len(admin(plane, "backends", "--limit", "1", "--json").splitlines()) == 1


# ---- --watch ----

def watching(plane, *words, **terminal):
    return Terminal([str(PLANE), "admin", "--controller", plane.api, *words, "--watch"], **terminal)


def test_a_watched_table_changes_in_place_and_ctrl_c_leaves_the_terminal_as_it_was(plane):
    with watching(plane, "backends", "--alive", "--interval", "1", columns=200) as terminal:
        terminal.wait_for_line("BACKEND")
        assert terminal.output.startswith(ENTER)
        backend = connect_key(plane, "seen later")
        terminal.wait_for_line(backend)
        admin(plane, "terminate", backend)
        terminal.wait_for(lambda: not any(backend in line for line in terminal.frame()))
        terminal.press("\x03")
        assert terminal.wait_end() == 0
        assert termios.tcgetattr(terminal.side) == terminal.attributes
        screen, left = terminal.output.rsplit(LEAVE, 1)
        assert "\n" not in screen.replace("\r\n", "")
        assert left.startswith("BACKEND") and "\033" not in left  # the last table stays
        assert terminal.output.count(ENTER) == terminal.output.count(LEAVE) == 1


def test_a_watched_table_follows_the_size_of_the_terminal(plane):
    for i in range(4):
        connect_key(plane, f"row {i}")
    with watching(plane, "backends", "--interval", "3600", rows=30, columns=120) as terminal:
        terminal.wait_for_line("row 3")
        assert all(len(line) <= 120 for line in terminal.frame())
        terminal.resize(6, 40)
        terminal.wait_for(lambda: any("more lines" in line for line in terminal.frame()))
        small = terminal.frame()
        assert all(len(line) <= 40 for line in small) and len(small) < 6, small
        assert small[2].startswith("BACKEND")
        terminal.resize(40, 200)
        terminal.wait_for_line(" UTC")
        terminal.wait_for(lambda: sum("row" in line for line in terminal.frame()) >= 4)
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.wait_end() == 128 + signal.SIGTERM
        assert LEAVE in terminal.output


def test_a_suspended_watch_gives_the_terminal_back_meanwhile(plane):
    with watching(plane, "drones") as terminal:
        terminal.wait_for_line("DRONE")
        terminal.process.send_signal(signal.SIGTSTP)
        pid, status = os.waitpid(terminal.process.pid, os.WUNTRACED)
        assert pid and os.WIFSTOPPED(status)
        while terminal.read(0.2):
            pass
        assert terminal.output.endswith(LEAVE)
        terminal.process.send_signal(signal.SIGCONT)
        terminal.wait_for(lambda: terminal.output.count(ENTER) == 2)
        terminal.press("\x03")
        assert terminal.wait_end() == 0


def test_without_a_terminal_the_tables_are_one_behind_the_other(plane):
    words = [str(PLANE), "admin", "--controller", plane.api, "proxies", "--watch", "--interval", "1"]
    watch = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    lines = [watch.stdout.readline() for _ in range(8)]
    assert re.match(r"plane admin proxies  every 1 s  \d{4}-", lines[0]) and lines[3] == "\n"
    assert lines[1].startswith("PROXY") and lines[4] != lines[0] and lines[5] == lines[1]
    watch.send_signal(signal.SIGINT)
    rest = watch.stdout.read()
    assert watch.wait(timeout=20) == 0 and "\033" not in "".join(lines) + rest
    watch.stdout.close()
    watch = subprocess.Popen([*words, "--json"], stdout=subprocess.PIPE, text=True)
    looks = [json.loads(watch.stdout.readline()) for _ in range(2)]
    watch.send_signal(signal.SIGINT)
    assert watch.wait(timeout=20) == 0
    watch.stdout.close()
    assert looks[0][0]["name"] == looks[1][0]["name"]


# ---- against a controller that says what a test wants ----

class Told(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = self.server.answer(urllib.parse.urlsplit(self.path))
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def controller(answer):
    """A controller whose answers are what `answer` makes of a URL: status and body."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Told)
    server.answer = answer
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def backend(i, **more):
    return {"backend_id": f"b-{i:05}", "status": "ready", "time": 0, "cluster": "c", "drone": "dr-a",
            "key": {"name": f"k{i}", "namespace": "", "tag": ""}, **more}


def run(url, *words):
    return subprocess.run([str(PLANE), "admin", "--controller", url, *words], capture_output=True,
                          text=True, timeout=60)


def pages(count):
    def answer(url):
        query = urllib.parse.parse_qs(url.query)
        start, limit = int(query.get("cursor", ["0"])[0]), int(query["limit"][0])
        end = min(start + limit, count)
        return 200, {"backends": [backend(i) for i in range(start, end)],
                     "next_cursor": str(end) if end < count else None}
    return answer


def test_all_pages_are_read_unless_there_is_a_limit():
    with controller(pages(2500)) as url:
        assert len(run(url, "backends").stdout.splitlines()) == 2501
        told = [json.loads(line)["backend_id"] for line in
                run(url, "backends", "--json").stdout.splitlines()]
        assert told == [f"b-{i:05}" for i in range(2500)]
        limited = run(url, "backends", "--limit", "1500").stdout.splitlines()
        assert len(limited) == 1502 and limited[-1] == "... and more"


def test_a_page_that_fails_is_an_error_and_no_short_list():
    def answer(url):
        return pages(2500)(url) if "cursor" not in url.query else (503, {
            "id": "x", "kind": "Other", "message": "the database is away"})
    with controller(answer) as url:
        result = run(url, "backends")
        assert result.returncode == 1 and "the database is away" in result.stderr
        assert result.stdout == ""
    with controller(lambda url: (200, {"something": "else"})) as url:
        result = run(url, "backends")
        assert result.returncode == 1 and 'no "backends"' in result.stderr


def test_texts_of_others_cannot_move_the_cursor_or_the_columns():
    key = {"name": "\033[2Jevil\u009b1m\u202e漢字", "namespace": "", "tag": ""}
    with controller(lambda url: (200, {"backends": [backend(0, key=key), backend(1)]})) as url:
        head, evil, plain = run(url, "backends").stdout.splitlines()
        assert not set("\033\u009b\u202e") & set(evil) and "?[2Jevil?1m?漢字  c  " in evil
        assert head.index("CLUSTER") == plain.index(" c ") + 1
        assert head.index("CLUSTER") == evil.index(" c ") + 1 + len("漢字")  # two columns each


def test_a_watch_goes_on_over_an_outage_and_says_so():
    state = {"status": 200}

    def answer(url):
        if state["status"] != 200:
            return 503, {"id": "x", "kind": "Other", "message": "the database is away"}
        return pages(1)(url)
    with controller(answer) as url:
        words = [str(PLANE), "admin", "--controller", url, "backends", "--watch", "--interval", "1"]
        with Terminal(words, columns=200) as terminal:
            terminal.wait_for_line("b-00000")
            state["status"] = 503
            terminal.wait_for_line("NOT UP TO DATE: the database is away")
            assert any("b-00000" in line for line in terminal.frame())  # what was known stays
            state["status"] = 200
            terminal.wait_for(lambda: not any("UP TO DATE" in line for line in terminal.frame()))
            terminal.press("\x03")
            assert terminal.wait_end() == 0
        state["status"] = 503
        result = run(url, "backends", "--watch")
        assert result.returncode == 1 and "the database is away" in result.stderr


def test_what_an_original_controller_does_not_tell_is_a_dash():
    node = {"name": {"Drone": "dr-a"}, "plane_version": "0.5.5", "plane_hash": "x",
            "controller": "co-a", "controller_heartbeat_age": 1}
    state = {"drones": [{"ready": True, "draining": False, "last_heartbeat_age": 70,
                         "backend_count": 3, "node": node}], "proxies": []}
    with controller(lambda url: (200, state)) as url:
        drone, = columns(run(url, "cluster-state", "c").stdout.split("\n\n")[0])
        assert drone["STATE"] == "ready" and drone["HEARTBEAT"] == "1m"
        assert drone["POOL"] == drone["RESERVED"] == drone["CPUS"] == drone["LOAD"] == "-"


# ---- drain --wait ----

def the_drone(plane):
    return columns(admin(plane, "drones"))[0]["DRONE"]


def test_draining_waits_until_the_drone_is_empty_and_tells_what_is_left(plane):
    where = ["--cluster", plane.cluster, "--drone", the_drone(plane)]
    for line in admin(plane, "backends", "--alive", "--json").splitlines():
        admin(plane, "terminate", "--hard", json.loads(line)["backend_id"])
    left = [connect_key(plane, f"drained {i}") for i in range(2)]
    words = [str(PLANE), "admin", "--controller", plane.api, "drain", *where, "--wait"]
    drain = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert drain.stdout.readline() == f"Drone {the_drone(plane)} draining initiated.\n"
        assert drain.stdout.readline() == f"2 backends left: {', '.join(sorted(left))}\n"
        admin(plane, "terminate", left[0])
        assert drain.stdout.readline() == f"1 backend left: {left[1]}\n"
        late = run(plane.api, "drain", *where, "--wait", "--timeout", "1", "--json")
        assert late.returncode == 3 and "not empty" in late.stderr
        assert json.loads(late.stdout.splitlines()[0]) == {"updated": False}
        assert json.loads(late.stdout.splitlines()[1]) == {
            "drone": the_drone(plane), "backends_left": 1, "backends": [left[1]]}
        admin(plane, "terminate", left[1])
        rest, errors = drain.communicate(timeout=30)
        assert rest.splitlines() == ["0 backends left", f"Drone {the_drone(plane)} is empty."]
        assert drain.returncode == 0 and errors == ""
    finally:
        admin(plane, "drain", *where, "--undo")
    assert columns(admin(plane, "drones"))[0]["STATE"] == "ready"
    connect_key(plane, "after the drain")


def test_waiting_ends_when_the_draining_is_undone_or_interrupted(plane):
    where = ["--cluster", plane.cluster, "--drone", the_drone(plane)]
    connect_key(plane, "stays")
    words = [str(PLANE), "admin", "--controller", plane.api, "drain", *where, "--wait"]
    drain = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    drain.stdout.readline()
    assert "left" in drain.stdout.readline()
    admin(plane, "undrain", *where)
    _, errors = drain.communicate(timeout=30)
    assert drain.returncode == 1 and "undone" in errors
    drain = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    drain.stdout.readline()
    assert "left" in drain.stdout.readline()
    drain.send_signal(signal.SIGINT)
    _, errors = drain.communicate(timeout=30)
    assert drain.returncode == 128 + signal.SIGINT and "goes on draining" in errors
    wait_until(lambda: columns(admin(plane, "drones"))[0]["STATE"] == "draining")
    assert admin(plane, "drain", *where, "--undo") == \
        f"Drone {the_drone(plane)} takes backends again.\n"
    for wrong in (["--undo", "--wait"], ["--timeout", "1"]):
        assert run(plane.api, "drain", *where, *wrong).returncode == 2
    assert run(plane.api, "drain", "--cluster", plane.cluster, "--drone", "dr-no",
               "--wait").returncode == 1


def test_waiting_goes_on_over_an_outage_and_needs_to_see_the_drone_empty_twice():
    looks = iter([(200, 1), (503, 0), (503, 0), (200, 0), (200, 1), (200, 0), (200, 0)])

    def answer(url):
        if url.path == "/ctrl/c/c/d/dr-a":
            status, left = next(looks)
            if status != 200:
                return 503, {"id": "x", "kind": "Other", "message": "the database is away"}
            return 200, {"draining": True, "backend_count": left}
        if url.path == "/ctrl/backends":
            assert "drone=dr-a" in url.query and "alive=true" in url.query
            return 200, {"backends": [backend(0)], "next_cursor": None}
        return 200, {"updated": True}
    with controller(answer) as url:
        result = run(url, "drain", "--cluster", "c", "--drone", "dr-a", "--wait")
    assert result.returncode == 0 and next(looks, None) is None
    assert result.stdout.splitlines() == [
        "Drone dr-a draining initiated.", "1 backend left: b-00000", "0 backends left",
        "1 backend left: b-00000", "0 backends left", "Drone dr-a is empty."]
    assert result.stderr.count("the database is away") == 1
