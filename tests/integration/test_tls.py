"""A controller behind HTTPS: whom a role trusts, and what it says when it does not."""

import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import threading

import pytest

from certificates import Authority
from serve import BUILD, PLANE, free_port, request, wait_until

pytestmark = [pytest.mark.timeout(90),
              pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")]
DRIVER = BUILD / "tests" / "integration" / "controller_driver"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """ca.pem, and certificates of it for localhost, for its address and for another name."""
    directory = tmp_path_factory.mktemp("tls")
    authority = Authority(directory, "ca")
    for name, alternative in (("localhost", "DNS:localhost"), ("address", "IP:127.0.0.1"),
                              ("other", "DNS:other.test")):
        authority.issue(name, alternative)
    return directory


@pytest.fixture(scope="module")
def controller(tmp_path_factory):
    directory = tmp_path_factory.mktemp("controller")
    with open(directory / "log", "w") as log:
        process = subprocess.Popen([str(DRIVER), "--db", f"sqlite:{directory}/plane.db",
                                    "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE,
                                   stderr=log, text=True)
        yield process.stdout.readline().split()[1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        process.stdout.close()


class Front:
    """Takes TLS off and passes the bytes on to the controller; can cut what it carries."""

    def __init__(self, upstream, certificates, name, version=ssl.TLSVersion.TLSv1_3):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1
        self.context.maximum_version = version
        self.context.set_ciphers("ALL:@SECLEVEL=0")
        self.context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
        host, port = upstream.rsplit(":", 1)
        self.upstream = (host, int(port))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open, self.names = [], []
        self.context.sni_callback = lambda _, name, __: self.names.append(name)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(plain,), daemon=True).start()

    def serve(self, plain):
        with contextlib.suppress(OSError), plain:
            with self.context.wrap_socket(plain, server_side=True) as client:
                with socket.create_connection(self.upstream) as server:
                    self.open.append(client)
                    threading.Thread(target=self.pump, args=(server, client), daemon=True).start()
                    self.pump(client, server)

    @staticmethod
    def pump(source, target):
        with contextlib.suppress(OSError, ValueError):
            while data := source.recv(65536):
                for at in range(0, len(data), 100):  # records that hold parts of frames
                    target.sendall(data[at:at + 100])
            target.shutdown(socket.SHUT_RDWR)

    def cut(self):
        while self.open:
            with contextlib.suppress(OSError):
                self.open.pop().shutdown(socket.SHUT_RDWR)

    def stop(self):
        self.listener.close()
        self.cut()


@contextlib.contextmanager
def proxy(directory, url, authorities):
    port = free_port()
    path = directory / "proxy.log"
    with open(path, "w") as log:
        process = subprocess.Popen(
            [str(PLANE), "proxy", "--controller-url", url, "--cluster", "localhost:9090", "--host",
             "127.0.0.1", "--http-port", str(port)], stderr=log, stdout=log,
            env={**os.environ, "SSL_CERT_FILE": str(authorities), "SSL_CERT_DIR": "/nonexistent"})

    def is_ready():
        assert process.poll() is None, path.read_text()
        try:
            return request("GET", f"http://127.0.0.1:{port}/ready").status == 200
        except OSError:
            return False
    yield is_ready, path.read_text
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0, path.read_text()
    assert "token-in-url" not in path.read_text()


@pytest.mark.parametrize("name, host", [("localhost", "localhost"), ("address", "127.0.0.1")])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_trusted_controller_is_connected_again_after_a_cut(tmp_path, controller, certificates,
                                                             name, host, version):
    front = Front(controller, certificates, name, version)
    url = f"https://token-in-url@{host}:{front.port}"
    with proxy(tmp_path, url, certificates / "ca.pem") as (is_ready, _):
        wait_until(is_ready, 20, "proxy ready")
        assert front.names[-1] == (None if name == "address" else "localhost")
        count = len(front.names)
        front.cut()
        wait_until(lambda: len(front.names) > count and is_ready(), 30, "proxy ready again")
    front.stop()


@pytest.mark.parametrize("name, host, authorities, told", [
    ("localhost", "localhost", "/dev/null", "certificate|issuer"),  # nobody is trusted
    ("other", "localhost", "ca.pem", "mismatch"),
    ("localhost", "127.0.0.1", "ca.pem", "mismatch")])
def test_a_controller_that_cannot_be_trusted_is_not_talked_to(tmp_path, controller, certificates,
                                                              name, host, authorities, told):
    front = Front(controller, certificates, name)
    url = f"https://token-in-url@{host}:{front.port}"
    with proxy(tmp_path, url, certificates / authorities) as (is_ready, log):
        wait_until(lambda: re.search(told, log()), 20, "the reason in the log")
        assert not is_ready()
        assert front.open == []  # no request was sent, so no token either
    front.stop()


def test_an_old_protocol_is_refused(tmp_path, controller, certificates):
    front = Front(controller, certificates, "localhost", ssl.TLSVersion.TLSv1_1)
    url = f"https://token-in-url@localhost:{front.port}"
    with proxy(tmp_path, url, certificates / "ca.pem") as (is_ready, log):
        wait_until(lambda: re.search("protocol|version|alert", log()), 20, "the reason in the log")
        assert not is_ready()
    front.stop()


def test_a_controller_without_tls_is_told(tmp_path, controller, certificates):
    url = f"https://token-in-url@{controller}"
    with proxy(tmp_path, url, certificates / "ca.pem") as (is_ready, log):
        wait_until(lambda: "TLS handshake" in log(), 20, "the reason in the log")
        assert not is_ready()
