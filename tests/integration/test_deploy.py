"""docs/deploy.md, as it stands: its commands are run, in their order, on machines that boot systemd and the
packaged units. What cannot be the same in a test is in PRELUDE and SUBSTITUTIONS, and nowhere else."""

import asyncio
import contextlib
import json
import re
import secrets
import shutil
import ssl

import pytest
import websockets

from booted import Booted
from certificates import Authority
from hosts import Hosts
from serve import EXAMPLES, PLANE, ROOT, echo_once, request, wait_until

pytestmark = [pytest.mark.timeout(240), pytest.mark.fault]
PAGE = ROOT / "docs" / "deploy.md"
ADDRESSES = {"one": "10.0.0.10", "front-1": "10.0.0.11", "front-2": "10.0.0.12", "run-1": "10.0.0.21"}
CLUSTER = "plane.example.com"
PASSWORD = secrets.token_hex(16)

# In front of each block. Packages are installed on this host, and with it on the machines, so apt only does
# what their installation does else; make installs the tested build; scp is a directory, see `deliver`.
# A shell stays open between the blocks of the page: so do its variables here.
PRELUDE = """
[ ! -e /root/variables ] || . /root/variables
set -a
trap 'export -p >/root/variables' EXIT
apt() {
  for package in "${@:3}"; do
    case $package in
      haproxy) systemctl enable --now haproxy ;;
      postgresql)
        rm -rf /etc/postgresql/15 /var/lib/postgresql/15
        pg_createcluster -o fsync=off 15 main -- --no-sync >/dev/null
        systemctl enable --now postgresql ;;
    esac
  done
}
make() {
  [ "$*" != install ] || command make --silent -o all install
}
scp() {
  local address=${!#%%:*} path=${!##*:}
  mkdir -p "/exchange/$address${path%/*}"
  cp --preserve=mode "${@:1:$#-1}" "/exchange/$address$path"
}
"""
SUBSTITUTIONS = {
    "PASSWORD": lambda machine: PASSWORD,
    "address=10.0.0.11\n": lambda machine: f"address={ADDRESSES[machine.name]}\n",
}
# What blocks ask for at the terminal.
ANSWERS = f"{PASSWORD}\n{PASSWORD}\n"


class Page:
    """The blocks of the page by section: [(names of machines, shell)]. `left` were not run yet."""

    def __init__(self, machines):
        self.machines, self.sections = machines, {}
        heading = None
        for match in re.finditer(r"^#+ ([^\n]*)$|^```(\w*)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL):
            heading = match[1] or heading
            if match[3]:
                where, text = re.fullmatch(r"# on ([^\n]*)\n(.*)", match[3], re.DOTALL).groups()
                assert match[2] == "sh"
                self.sections.setdefault(heading, []).append((re.split(", | and ", where), text))
        self.left = {heading: len(blocks) for heading, blocks in self.sections.items()}

    def run(self, heading, number=0, each=lambda machine: None):
        """One block of a section, on each machine that it names, and `each` after it; what it printed."""
        names, text = self.sections[heading][number]
        printed = ""
        for name in names:
            machine = self.machines[name]
            machine_text = text
            for old, new in SUBSTITUTIONS.items():
                machine_text = machine_text.replace(old, new(machine))
            if text == "systemctl reboot\n":
                machine.reboot()
            else:
                printed += machine.run(PRELUDE + machine_text, ANSWERS)
                self.deliver(machine)
            each(machine)
        self.left[heading] -= 1
        return printed

    def deliver(self, sender):
        """What the machine has copied to others by scp arrives there."""
        for address in list((sender.directory / "exchange").iterdir()):
            machine = next(machine for machine in self.machines.values() if machine.host.address == address.name)
            shutil.copytree(address, machine.directory / "exchange" / "arrived")
            shutil.rmtree(address)
            machine.run("cd /exchange/arrived; find . -type f -exec cp --preserve=mode {} /{} ';'; rm -r ../arrived")


@pytest.fixture
def network():
    with Hosts() as hosts:
        yield hosts


@contextlib.contextmanager
def booted(network, directory, *names):
    machines = {}
    try:
        for name in names:
            machine = Booted(network.add(name, ADDRESSES[name]), directory / name)
            machines[name] = machine
            (machine.directory / "sources" / "build").mkdir(parents=True)
            shutil.copy(PLANE, machine.directory / "sources" / "build" / "plane")
            shutil.copy(EXAMPLES / "echo.tar", machine.directory / "sources" / "my-app.tar")
            machine.boot()
        yield machines
    except BaseException:
        for machine in machines.values():
            if machine.is_running():
                print(f"---- {machine.name}\n{machine.journal()}")
        raise
    finally:
        for machine in machines.values():
            machine.kill()


def main_pid(machine, unit):
    return int(machine.run(f"systemctl show --property MainPID --value {unit}"))


def is_active(machine, *units):
    return machine.try_run(f"systemctl is-active {' '.join(units)}").stdout.split() == ["active"] * len(units)


# ---- out of one machine ----


def seen(machine, link):
    """What the backend behind a link of the machine's own says of a request."""
    return json.loads(machine.run(f"curl -sS --fail {link['url']}x"))


def identity(body):
    env = body["env"]
    return env["SESSION_BACKEND_ID"], env["SESSION_BACKEND_FENCING_TOKEN"], env["SESSION_BACKEND_KEY"]


def processes_of(machine, backend):
    """Process ids of a backend, there."""
    return machine.run(f"grep -lz '^SESSION_BACKEND_ID={backend}$' /proc/[0-9]*/environ 2>/dev/null || true")


def connect_here(machine, key):
    return json.loads(machine.run(f"plane admin connect --image echo --key {key} --json").splitlines()[0])


def test_one_machine_grows_and_goes_back(network, tmp_path):
    with booted(network, tmp_path, "front-1", "one") as machines:
        one, page = machines["one"], Page(machines)
        page.run("front-1: the database")
        one.run("make -o all install >/dev/null; plane image import echo my-app.tar; systemctl enable --now plane")
        wait_until(lambda: "dr-" in one.run("plane admin drones"), 30, "a drone")
        links = {key: connect_here(one, key) for key in ("a", "b")}
        before = {key: identity(seen(one, link)) for key, link in links.items()}
        processes = {key: processes_of(one, link["backend_id"]) for key, link in links.items()}

        def goes_on():
            assert {key: identity(seen(one, link)) for key, link in links.items()} == before
            for key, link in links.items():
                again = connect_here(one, key)
                assert again["backend_id"] == link["backend_id"] and not again["spawned"]
                assert processes_of(one, link["backend_id"]) == processes[key]

        section = "Growing out of one machine"
        page.run(section, 0)
        goes_on()
        page.run(section, 1)
        assert is_active(one, "plane-controller", "plane-drone", "plane-proxy") and not is_active(one, "plane")
        goes_on()
        page.run(section, 2)
        assert is_active(one, "plane")
        goes_on()
        assert page.left[section] == 0


# ---- from nothing ----


class Tunnel:
    """A user's WebSocket to a backend, by HAProxy and a proxy."""

    def __init__(self, user, link, address, trust):
        self.loop = asyncio.new_event_loop()

        async def connect():
            return await websockets.connect(
                link.replace("https", "wss", 1) + "ws", host=address, port=443, server_hostname=CLUSTER, ping_interval=None,
                ssl=ssl.create_default_context(cafile=trust))

        with user.inside():
            self.socket = self.loop.run_until_complete(connect())

    def goes_on(self):
        return self.loop.run_until_complete(echo_once(self.socket, "still there?")) == "still there?"

    def is_cut(self):
        try:
            self.loop.run_until_complete(asyncio.wait_for(self.socket.recv(), 20))
        except websockets.ConnectionClosed:
            return True
        return False

    def close(self):
        self.loop.run_until_complete(self.socket.close())
        self.loop.close()


class Cluster:
    """What one asks of the three machines."""

    def __init__(self, machines, page, user, trust):
        self.machines, self.page, self.user, self.trust = machines, page, user, trust
        self.front, self.run_1 = machines["front-1"], machines["run-1"]

    def admin(self, words):
        return self.front.run(f". /root/variables; plane admin {words}")

    def connect(self, key):
        """The answer to the application; with its own token."""
        body = {"key": {"name": key}, "spawn_config": {"cluster": CLUSTER, "executable": {"image": "my-app"}}}
        return json.loads(self.front.run(
            "curl -sS --fail-with-body -H \"authorization: Bearer $(cat app.token)\" --json @- "
            "http://127.0.0.1:8080/ctrl/connect", json.dumps(body)))

    def connect_until(self, key, condition):
        """Connects while it fails, or its answer is not that."""
        def answer():
            with contextlib.suppress(AssertionError):
                found = self.connect(key)
                return found if condition(found) else None
        return wait_until(answer, 30, f"connect to {key}")

    def get(self, url, address, *words):
        """A user's request, to the machine of this address; (status, body)."""
        port = 443 if url.startswith("https") else 80
        name = url.split("/")[2]
        text = self.user.run("curl", "-sS", "--cacert", self.trust, "--connect-to", f"{name}:{port}:{address}:{port}",
                             "-w", "\n%{http_code} %{redirect_url}", *words, url)
        body, status = text.rsplit("\n", 1)
        return status.strip(), body

    def token_of(self, link, address=ADDRESSES["front-1"]):
        """The fencing token that the backend says it has."""
        status, body = wait_until(lambda: (got := self.get(link["url"] + "x", address))[0] == "200" and got, 30, "200")
        assert json.loads(body)["env"]["SESSION_BACKEND_ID"] == link["backend_id"]
        return int(json.loads(body)["env"]["SESSION_BACKEND_FENCING_TOKEN"])

    def backends(self, words=""):
        return [json.loads(line) for line in self.admin(f"backends --json {words}").splitlines()]


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "authority")


def give_certificate(machines, authority):
    certificate, key = authority.issue("plane", ",".join(
        f"DNS:{name}" for name in (CLUSTER, f"*.{CLUSTER}", "plane-api.example.com")))
    for name in ("front-1", "front-2"):
        machines[name].run("umask 077; cat >/etc/haproxy/plane.pem", certificate.read_text() + key.read_text())


def test_three_machines_from_nothing(network, tmp_path, authority):
    with booted(network, tmp_path / "m", "front-1", "front-2", "run-1") as machines:
        page = Page(machines)
        cluster = Cluster(machines, page, network.add("user", "10.0.0.99"), authority.path)
        install(cluster)
        give_certificate(machines, authority)
        page.run("front-1 and front-2: proxies")
        page.run("run-1: the drone")
        check_users(cluster)
        check_pages_metrics(cluster)
        check_backup(cluster)
        check_upgrade(cluster)
        check_reboot(cluster)
        check_power_cut(cluster)
        del page.left["Growing out of one machine"]
        assert not any(page.left.values()), page.left


def install(cluster):
    page, front = cluster.page, cluster.front
    page.run("Every machine")
    page.run("front-1: the database")
    page.run("front-1 and front-2: controllers", 0)
    page.run("front-1 and front-2: controllers", 1)
    # HAProxy looks once a second; somebody who types takes longer
    wait_until(lambda: front.try_run("curl -s --fail http://127.0.0.1:8080/pub/health").returncode == 0, 30, "HAProxy")
    page.run("front-1 and front-2: controllers", 2)
    # by TLS and with the password, which stands in no process's words
    tls = "SELECT count(*), bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'plane'"
    count, is_tls = front.run(f'cd /; runuser -u postgres -- psql -AtF " " -c "{tls}" plane').split()
    assert int(count) >= 2 and is_tls == "t"
    for name in ("front-1", "front-2"):
        assert PASSWORD not in cluster.machines[name].run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    for url in ("postgres://plane@10.0.0.11/plane?sslmode=disable", "postgres://plane:wrong@10.0.0.11/plane"):
        assert front.try_run(f"psql '{url}' -c 'SELECT 1'").returncode != 0
    # nobody without a token, and none for what it is not for
    assert "403" in front.run('curl -s -o /dev/null -w %{http_code} -H "authorization: Bearer $(cat app.token)" '
                              "http://127.0.0.1:8080/ctrl/status")
    assert front.try_run("plane admin status").returncode != 0


def check_users(cluster):
    printed = cluster.page.run("It works")
    assert "dr-run-1" in printed and "px-front-1" in printed and "px-front-2" in printed
    url, = re.findall(rf"https://{re.escape(CLUSTER)}/\S*", printed)
    for name in ("front-1", "front-2"):
        address = ADDRESSES[name]
        assert cluster.get(url, address)[0] == "200"
        assert cluster.get(url, address, "--http1.1")[0] == "200"
        assert cluster.get(url.replace("https", "http", 1), address)[0] == f"301 {url}"
        assert cluster.get("https://plane-api.example.com/pub/health", address)[0] == "200"
        for path in ("ctrl/status", "metrics", "pub"):
            assert cluster.get(f"https://plane-api.example.com/{path}", address)[0] == "404"
    again = cluster.connect("room-1")
    assert url.split("/")[2] == again["url"].split("/")[2] and not again["spawned"]


def check_pages_metrics(cluster):
    """Each name that a page gives is one that a role serves."""
    served = set(re.findall(r"^# TYPE (\S+)", cluster.page.run("What to watch"), re.MULTILINE))
    for page in ("deploy", "operations", "controllers", "store"):
        text = (ROOT / "docs" / f"{page}.md").read_text()
        named = set(re.findall(r"`(plane_[a-z_]+)[`{]", text))
        assert named and named <= served, f"{page}: {named - served}"


def check_backup(cluster):
    page = cluster.page
    first = cluster.connect("room-1")
    token = cluster.token_of(first)
    page.run("Backups", 0)
    later = cluster.connect("room-2")
    tokens = [token, cluster.token_of(later)]
    page.run("Backups", 1)
    page.run("Backups", 2)
    for link in (first, later):  # a lease later nothing runs
        assert not processes_of(cluster.run_1, link["backend_id"])
    page.run("Backups", 3)
    for key in ("room-1", "room-2"):
        link = cluster.connect_until(key, lambda link: link["backend_id"] not in (
            first["backend_id"], later["backend_id"]))
        assert cluster.token_of(link) > max(tokens)
    assert first["backend_id"] not in [backend["backend_id"] for backend in cluster.backends("--alive")]


def runs_new_binary(machine, unit):
    return not machine.run(f"readlink /proc/{main_pid(machine, unit)}/exe").strip().endswith("(deleted)")


def check_upgrade(cluster):
    page, heading = cluster.page, "Upgrades in place"
    link = cluster.connect("room-1")
    cluster.token_of(link)
    tunnels = {name: Tunnel(cluster.user, link["url"], ADDRESSES[name], cluster.trust)
               for name in ("front-1", "front-2")}
    running = processes_of(cluster.run_1, link["backend_id"])

    def go_on(unit):
        def check(machine):
            assert runs_new_binary(machine, unit)
            assert all(tunnel.goes_on() for tunnel in tunnels.values())
            again = cluster.connect_until("room-1", lambda link: True)
            assert again["backend_id"] == link["backend_id"] and not again["spawned"]
        return check

    page.run(heading, 0)
    assert not runs_new_binary(cluster.run_1, "plane-drone")
    page.run(heading, 1, go_on("plane-controller"))
    page.run(heading, 2, go_on("plane-drone"))

    def only_its_own_are_cut(machine):
        tunnel = tunnels.pop(machine.name)
        assert tunnel.is_cut()
        tunnel.close()
        go_on("plane-proxy")(machine)

    printed = page.run(heading, 3, only_its_own_are_cut)
    assert re.findall(r"^plane_proxy_connections (\d+)$", printed, re.MULTILINE)
    assert processes_of(cluster.run_1, link["backend_id"]) == running


def check_reboot(cluster):
    page, heading = cluster.page, "Upgrades in place"
    for backend in cluster.backends("--alive"):
        cluster.admin(f"terminate {backend['backend_id']}")
    page.run(heading, 4)
    assert cluster.backends("--alive") == []
    page.run(heading, 5)
    wait_until(lambda: is_active(cluster.run_1, "plane-drone", "haproxy"), 60, "the drone after the boot")
    with pytest.raises(AssertionError, match="NoDroneAvailable"):
        cluster.connect("room-1")
    page.run(heading, 6)
    cluster.token_of(cluster.connect_until("room-1", lambda link: True))


def check_power_cut(cluster):
    """All that a machine runs comes by itself."""
    link = cluster.connect("room-1")
    machine = cluster.machines["front-2"]
    machine.kill()
    cluster.token_of(cluster.connect("room-1"), ADDRESSES["front-1"])
    machine.boot()
    wait_until(lambda: is_active(machine, "plane-controller", "plane-proxy", "haproxy"), 60, "front-2 again")
    cluster.token_of(link, ADDRESSES["front-2"])
