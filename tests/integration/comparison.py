#!/usr/bin/python3
"""What a backend may do beside what a container of `docker run` may do with Docker's defaults, row by
row. As a program it writes the table into docs/security.md: make security-table."""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import sandboxes
from machine import Machine
from serve import ROOT, request

DOCUMENT = ROOT / "docs" / "security.md"
BEGIN, END = "<!-- table: make security-table -->", "<!-- end of table -->"
UNISTD = pathlib.Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
CAPABILITIES = """chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap
    linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module
    sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time
    sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog
    wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore""".split()
FAMILIES = {1: "unix", 2: "inet", 10: "inet6", 16: "netlink", 17: "packet"}
UNLIMITED = 2**64 - 1


# ---- gathering ----

def plane_facts(machine):
    with sandboxes.instance() as plane:
        image = plane.data.parent / "escapes.tar"
        for name, user in (("facts", "app"), ("facts-root", "root")):
            plane.import_image(name, image, "--entrypoint", "/facts", "--user", user)
        neighbour = sandboxes.start_neighbour(plane)
        targets = sandboxes.targets(machine, plane, neighbour["address"])
        answers = {name: request("GET", plane.connect(image=image, env=targets)["url"],
                                 timeout=90).json()
                   for name, image in (("user", "facts"), ("root", "facts-root"),
                                       ("escapes", "escapes-root"))}
        return answers, targets


def docker_facts(targets):
    with tempfile.TemporaryDirectory(prefix="plane-docker-image-") as directory:
        image = pathlib.Path(directory) / "image.tar"
        image.write_bytes(sandboxes.make_image())
        script = pathlib.Path(__file__).parent / "docker_facts.py"
        result = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "/usr/bin/python3", str(script),
             str(image), json.dumps(targets)], capture_output=True, text=True, timeout=100)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)


def gather():
    """Facts of Docker and of Plane. Plane first: dockerd changes the machine's firewall."""
    with Machine() as machine:
        plane, targets = plane_facts(machine)
        docker = docker_facts(targets)
    host = docker.pop("namespaces")
    for facts in (docker["root"], docker["user"], plane["root"], plane["user"]):
        facts["host"] = host
    return docker, plane


# ---- reading ----

def status(facts, name):
    return re.search(rf"^{name}:\s*(\S+)", facts["status"], re.M).group(1)


def capabilities(name):
    def read(facts):
        bits = int(status(facts, name), 16)
        return {CAPABILITIES[i] for i in range(len(CAPABILITIES)) if bits >> i & 1}
    return read


def call_names():
    found = re.findall(r"#define __NR_(\w+) (\d+)", UNISTD.read_text())
    return {int(number): name for name, number in found}


def system_calls(facts):
    names = call_names()
    return {names.get(number, str(number)) for number in facts["calls"]}


def families(facts):
    return {FAMILIES.get(number, str(number)) for number in facts["socket_families"]}


def shared_namespaces(facts):
    return {name for name, link in facts["namespaces"].items() if facts["host"][name] == link}


def host_id(facts):
    """User id on the host of the container's root."""
    return int(facts["uid_map"].split()[1])


# ---- rows ----

def text_of_set(items, most=14):
    return ", ".join(sorted(items)) if 0 < len(items) <= most else (str(len(items)) or "none")


def as_set(what, read):
    """Fewer is stricter; one that Docker has not is weaker, whatever else is missing."""
    def row(docker, plane):
        theirs, ours = set(read(docker)), set(read(plane))
        verdict = "same" if theirs == ours else "stricter" if ours < theirs else "weaker"
        text = text_of_set(ours) if ours else "none"
        if ours - theirs:
            text += f" (only here: {text_of_set(ours - theirs, 20)})"
        return what, text_of_set(theirs) if theirs else "none", text, verdict
    return row


def as_files(what, read):
    """Files of the kernel come and go with devices: one that is gone from the host since is no
    difference."""
    def there(facts, other):
        return {path for path in read(facts) if path in read(other) or os.path.exists(path)}
    return lambda docker, plane: as_set(what, lambda facts: there(
        facts, docker if facts is plane else plane))(docker, plane)


def as_number(what, read, most=None):
    """Less is stricter. `most`: what the program tries at most."""
    def row(docker, plane):
        theirs, ours = read(docker), read(plane)
        verdict = "same" if theirs == ours else "stricter" if ours < theirs else "weaker"

        def text(number):
            return ("unlimited" if number == UNLIMITED else
                    f"{number} and more" if number == most else str(number))
        return what, text(theirs), text(ours), verdict
    return row


def as_choice(what, read, *order):
    """`order`: what it can be, the strictest first."""
    def row(docker, plane):
        theirs, ours = read(docker), read(plane)
        places = order.index(theirs), order.index(ours)
        verdict = "same" if theirs == ours else "stricter" if places[1] < places[0] else "weaker"
        return what, theirs, ours, verdict
    return row


def no_yes(name):
    return lambda facts: {0: "no", 1: "yes"}[facts[name]]


ROOT_ROWS = [
    as_choice("root inside is, on the host", lambda f: "root" if host_id(f) == 0 else
              "an unprivileged id", "an unprivileged id", "root"),
    as_set("namespaces shared with the host", shared_namespaces),
    as_set("capabilities of root", capabilities("CapEff")),
    as_set("… that can be had (bounding set)", capabilities("CapBnd")),
    as_set("… that are inherited or ambient",
           lambda f: capabilities("CapInh")(f) | capabilities("CapAmb")(f)),
    as_choice("new privileges by executing", lambda f: "no" if status(f, "NoNewPrivs") == "1"
              else "yes", "no", "yes"),
    as_choice("a set-user-id file makes root", no_yes("set_user_id"), "no", "yes"),
    as_choice("a file gives capabilities", no_yes("capable"), "no", "yes"),
    as_choice("system call filter", lambda f: "on" if status(f, "Seccomp") == "2" else "off",
              "on", "off"),
    as_set("system calls let through", system_calls),
    as_number("… by their 32-bit numbers", lambda f: len(f["calls_i386"])),
    as_number("… by their x32 numbers", lambda f: len(f["calls_x32"])),
    as_set("… with arguments that mean harm", lambda f: f["arguments"]),
    as_set("socket families", families),
    as_files("files below /proc that can be read", lambda f: f["proc_read"]),
    as_files("files below /proc that can be opened to write", lambda f: f["proc_write"]),
    as_files("files below /sys that can be read", lambda f: f["sys_read"]),
    as_files("files below /sys that can be opened to write", lambda f: f["sys_write"]),
    as_set("devices in /dev", lambda f: f["devices"]),
    as_set("device nodes that can be made", lambda f: f["nodes"]),
    as_set("the root file system honours", lambda f: f["root_allows"]),
    as_set("cgroups that are visible", lambda f: f["cgroups"]),
    as_number("processes", lambda f: f["limits"]["processes"], 2000),
    as_number("terminals", lambda f: f["limits"]["terminals"], 400),
    as_number("open files of a process", lambda f: f["limits"]["open files"]),
    as_number("bytes of a core file", lambda f: f["limits"]["core file"]),
    as_number("bytes of locked memory", lambda f: f["limits"]["locked memory"]),
    as_number("queued signals", lambda f: f["limits"]["queued signals"]),
    as_number("bytes of message queues", lambda f: f["limits"]["message queues"]),
    as_number("real-time priority", lambda f: f["limits"]["real-time priority"]),
]
USER_ROWS = [
    as_set("an ordinary user: capabilities", capabilities("CapEff")),
    as_files("… files below /proc that can be opened to write", lambda f: f["proc_write"]),
    as_files("… files below /sys that can be opened to write", lambda f: f["sys_write"]),
]
REACHED = {"host_port": "a port of the host, at the bridge", "host_other_address":
           "a port of the host, at another address", "neighbour": "another container's port",
           "metadata": "link-local (cloud metadata)", "speak_as_neighbour":
           "others, with another's address as sender"}


def outcomes(docker, plane):
    """What the escape tests found: what is reached, and which attempts are let through."""
    def allowed(answers):
        return {name for name, how in answers.items() if how.startswith("ALLOWED")}
    theirs, ours = allowed(docker), allowed(plane)
    for name, what in REACHED.items():
        yield as_choice(f"reaches: {what}", lambda names, name=name:
                        "yes" if name in names else "no", "no", "yes")(theirs, ours)
    yield as_set("escape attempts let through", lambda names: names)(theirs, ours)


def rows(docker, plane):
    """(what, Docker's, Plane's, stricter|same|weaker) for each row."""
    return [*(row(docker["root"], plane["root"]) for row in ROOT_ROWS),
            *(row(docker["user"], plane["user"]) for row in USER_ROWS),
            *outcomes(docker["escapes"], plane["escapes"])]


# ---- the table ----

def table(found):
    lines = ["| what | Docker default | Plane | |", "| --- | --- | --- | --- |"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in found])


def documented():
    """First cells and verdicts of the table in the document."""
    part = DOCUMENT.read_text().split(BEGIN)[1].split(END)[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")]
             for line in part.strip().splitlines()[2:]]
    return [(row[0], row[3]) for row in cells]


def main():
    found = rows(*gather())
    print(table(found))
    weaker = [row[0] for row in found if row[3] == "weaker"]
    if weaker:
        sys.exit(f"weaker than Docker's default: {', '.join(weaker)}")
    text = DOCUMENT.read_text()
    before, rest = text.split(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
