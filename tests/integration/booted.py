"""Machines with systemd: each has a network of its own (hosts.py) and, in namespaces, a booted Debian
whose root is this host's, as an overlay. Nothing of the host is changed, and nothing outlives the test."""

import contextlib
import json
import os
import pathlib
import subprocess
import uuid

from serve import ROOT, wait_until

SCRIPT = pathlib.Path(__file__).with_name("boot.sh")
BOOT_SECONDS = 60
HOST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def own_cgroups():
    """The directories of this process's cgroups: of each hierarchy that is mounted."""
    own = {}  # controllers, or "" for the unified hierarchy -> path
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own[controllers] = path
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        within, place = left.split()[3:5]
        kind, _, options = right.split()[:3]
        if kind in ("cgroup", "cgroup2") and place.startswith("/sys/fs/cgroup"):
            path = own[""] if kind == "cgroup2" else next(
                path for controllers, path in own.items()
                if controllers and set(controllers.split(",")) <= set(options.split(",")))
            yield pathlib.Path(place) / path.removeprefix(within if within != "/" else "").lstrip("/")


class Booted:
    """The machine `host` of Hosts, booted. `directory` is where what it writes is kept."""

    def __init__(self, host, directory):
        self.host, self.name, self.directory = host, str(host), directory
        self.cgroups, self.process, self.init = [], None, None
        directory.mkdir(parents=True)

    def boot(self):
        """Returns when it is up."""
        self.make_cgroups()
        with open(self.directory / "console", "ab") as console:
            self.process = subprocess.Popen(
                self.host.command("bash", SCRIPT, self.name, self.directory, ROOT, *self.cgroups),
                pass_fds=[self.host.fd], stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        self.init = wait_until(self.find_init, BOOT_SECONDS, f"{self.name} begins to boot")
        wait_until(lambda: self.try_run("systemctl is-system-running").stdout.strip() in ("running", "degraded"),
                   BOOT_SECONDS, f"{self.name} has booted")
        return self

    def find_init(self):
        """Process id of its systemd, here."""
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name}: {(self.directory / 'console').read_text()}")
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        for pid in children.split():
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/exe").endswith("/systemd"):
                    return int(pid)
        return None

    def make_cgroups(self):
        name = f"plane-test-{uuid.uuid4().hex[:8]}"
        self.cgroups = [parent / name for parent in own_cgroups()]
        for cgroup in self.cgroups:
            parent = cgroup.parent
            if (parent / "cgroup.subtree_control").exists():
                for controller in (parent / "cgroup.controllers").read_text().split():
                    with contextlib.suppress(OSError):  # busy: there are processes in it
                        (parent / "cgroup.subtree_control").write_text(f"+{controller}")
            cgroup.mkdir()
            for setting in ("cpuset.cpus", "cpuset.mems"):  # of version 1: empty, and then of no use
                if (cgroup / setting).exists() and not (cgroup / "cgroup.controllers").exists():
                    (cgroup / setting).write_text((parent / setting).read_text())

    def command(self, *words):
        """The words as they are run in it, by root, in the sources."""
        return ["nsenter", "-t", str(self.init), "--all", "--", "env", "-i", "-C", "/usr/src/plane",
                f"PATH={HOST_PATH}", "HOME=/root", "LANG=C.UTF-8", "ASAN_OPTIONS=detect_leaks=0",
                *map(str, words)]

    def try_run(self, script, text="", timeout=120):
        """The result of some lines of shell in it; the first that fails ends them."""
        return subprocess.run(self.command("bash", "-euo", "pipefail", "-c", script), input=text, text=True,
                              capture_output=True, timeout=timeout, check=False, start_new_session=True)

    def run(self, script, text="", timeout=120):
        """The same; what they print. They must succeed."""
        result = self.try_run(script, text, timeout)
        if result.returncode != 0:
            raise AssertionError(f"{self.name}: {script}\n{result.stdout}{result.stderr}")
        return result.stdout

    def journal(self):
        return self.try_run("journalctl --no-pager --lines=80 --output=short-precise --unit='plane*' --unit=haproxy --unit='postgresql*'").stdout[-6000:]

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def reboot(self):
        """By its own command; returns when it is up again, on a network of which the kernel knows nothing."""
        self.try_run("systemctl reboot")
        self.process.wait(BOOT_SECONDS)
        self.remove_cgroups()
        self.host.run("nft", "flush", "ruleset")
        for link in json.loads(self.host.run("ip", "-json", "link")):
            if link["ifname"] not in ("lo", "eth0"):
                self.host.run("ip", "link", "delete", link["ifname"])
        self.host.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
        self.boot()

    def kill(self):
        """As when its power fails."""
        if self.is_running():
            self.process.kill()  # and with it, its systemd, and with that all there
            self.process.wait()
        self.remove_cgroups()

    def remove_cgroups(self):
        for cgroup in self.cgroups:
            wait_until(lambda top=cgroup: remove_tree(top), BOOT_SECONDS, f"the end of all in {cgroup}")
        self.cgroups = []


def remove_tree(top):
    """A cgroup and those in it, when no process is left."""
    try:
        for directory, _, _ in os.walk(top, topdown=False):
            os.rmdir(directory)
    except OSError:
        return False
    return True
