#!/usr/bin/python3
"""What containers of `docker run` may do: starts a dockerd of its own and runs the programs of
sandboxes.py under its defaults. For a mount and a network namespace of its own.

usage: docker_facts.py IMAGE_TAR TARGETS_JSON
prints {"root": facts, "user": facts, "escapes": outcomes, "namespaces": those of the host}"""

import http.client
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))

from coldstart_peers import Docker, wait_for  # noqa: E402

PORT = 8080


def get(address):
    """The answer, or None while nobody listens."""
    connection = http.client.HTTPConnection(address, PORT, timeout=60)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    except ConnectionError:
        return None
    finally:
        connection.close()


class Containers:
    def __init__(self, docker):
        self.docker = docker

    def ask(self, *words):
        result = subprocess.run(["/usr/bin/docker", *words], env=self.docker.environment, text=True,
                                capture_output=True)
        if result.returncode != 0:
            raise RuntimeError(f"docker {' '.join(words)}: {result.stderr}")
        return result.stdout.strip()

    def start(self, program, *flags, user="root", env=None):
        """Its address, once it listens."""
        variables = [f"--env={name}={value}" for name, value in (env or {}).items()]
        name = self.ask("run", "-d", f"--env=PORT={PORT}", f"--user={user}", *variables,
                        "--entrypoint", program, *flags, "sandbox:latest")
        address = self.ask("inspect", "--format", "{{.NetworkSettings.IPAddress}}", name)
        head = http.client.HTTPConnection(address, PORT, timeout=5)

        def is_listening():
            try:
                head.request("HEAD", "/")
                return head.getresponse().read() == b""
            except ConnectionError:
                head.close()
                return False
        wait_for(is_listening, 20, program)
        return address


def look(docker, image, targets):
    docker.run("load", "-i", image)
    containers = Containers(docker)
    neighbour = containers.start("/escapes", env={"LEAVE": "1"})
    listening = targets["TRY_HOST_OTHER"].split(":")[1]
    gateway = neighbour.rsplit(".", 1)[0] + ".1"
    targets = {**targets, "TRY_HOST": f"{gateway}:{listening}", "TRY_NEIGHBOUR": f"{neighbour}:8081",
               "TRY_NEIGHBOUR_UDP": f"{neighbour}:8082"}
    return {"root": json.loads(get(containers.start("/facts"))),
            "user": json.loads(get(containers.start("/facts", user="1000:1000"))),
            "escapes": json.loads(get(containers.start("/escapes", env=targets)))}


def main():
    image, targets = sys.argv[1], json.loads(sys.argv[2])
    directory = pathlib.Path(tempfile.mkdtemp(prefix="plane-docker-"))
    docker = Docker(directory)
    try:
        facts = look(docker, image, targets)
    except Exception:
        sys.stderr.write((directory / "dockerd.log").read_text(errors="replace")[-3000:])
        raise
    finally:
        subprocess.run("docker ps -q | xargs -r docker rm -f", shell=True, check=False,
                       env=docker.environment, stdout=subprocess.DEVNULL)
        docker.stop()
        shutil.rmtree(directory, ignore_errors=True)
    facts["namespaces"] = {name: os.readlink(f"/proc/self/ns/{name}")
                           for name in facts["root"]["namespaces"]}
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
