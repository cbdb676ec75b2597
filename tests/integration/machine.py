"""A machine of its own for a test: a network namespace with an uplink to a second one that plays the
outside. The calling thread, and what it starts, live in it; no packet reaches the real network."""

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
import threading

CLONE_NEWNET = 0x40000000
LINK_LOCAL = "169.254.169.254"       # where clouds tell a machine its secrets
LINK_LOCAL_HOST = "169.254.169.253"  # such an address of the machine itself
OUTSIDE, INSIDE = "198.51.100.1", "198.51.100.2"  # TEST-NET-2
LIBC = ctypes.CDLL(None, use_errno=True)


def call(result, what):
    if result < 0:
        raise OSError(ctypes.get_errno(), what)


def enter(fd):
    call(LIBC.setns(fd, CLONE_NEWNET), "setns")


def run(*words):
    subprocess.run(words, check=True)


def own_namespace():
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


class Machine:
    """`with Machine() as machine:` the body runs on it."""

    def __enter__(self):
        self.threads, self.sockets = [], []
        self.before = own_namespace()
        call(LIBC.unshare(CLONE_NEWNET), "unshare")
        self.outside = own_namespace()
        run("ip", "link", "set", "lo", "up")
        # A bridge without ports stands for the dummy interface that not every kernel has.
        run("ip", "link", "add", "meta0", "type", "bridge")
        run("ip", "address", "add", f"{LINK_LOCAL}/32", "dev", "meta0")
        run("ip", "link", "set", "meta0", "up")
        # A process that holds it: links move to the namespace of a process.
        holder = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        call(LIBC.unshare(CLONE_NEWNET), "unshare")
        self.inside = own_namespace()
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1", "netns",
            str(holder.pid))
        run("ip", "address", "add", f"{INSIDE}/24", "dev", "up0")
        run("ip", "link", "set", "up0", "up")
        run("ip", "link", "add", "meta1", "type", "bridge")
        run("ip", "address", "add", f"{LINK_LOCAL_HOST}/32", "dev", "meta1")
        run("ip", "link", "set", "meta1", "up")
        with self.on_the_outside():
            run("ip", "address", "add", f"{OUTSIDE}/24", "dev", "up1")
            run("ip", "link", "set", "up1", "up")
            self.sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.sniffer.bind(("up1", 0))
            self.sniffer.setblocking(False)
        holder.communicate()
        run("ip", "route", "add", "default", "via", OUTSIDE)
        return self

    def __exit__(self, *_):
        for tcp, udp in self.sockets:  # wakes the threads that wait on them
            tcp.shutdown(socket.SHUT_RDWR)
            udp.sendto(b"", ("127.0.0.1", udp.getsockname()[1]))
        for thread in self.threads:
            thread.join()
        self.sniffer.close()
        enter(self.before)
        for fd in (self.before, self.outside, self.inside):
            os.close(fd)

    @contextlib.contextmanager
    def on_the_outside(self):
        enter(self.outside)
        try:
            yield
        finally:
            enter(self.inside)

    def serve(self, address="0.0.0.0", port=0):
        """Takes connections and answers packets at the same port; returns it."""
        tcp = socket.create_server((address, port))
        port = tcp.getsockname()[1]
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((address, port))
        self.sockets.append((tcp, udp))
        for listening, answer in ((tcp, accept_all), (udp, answer_all)):
            self.threads.append(threading.Thread(target=answer, args=(listening,), daemon=True))
            self.threads[-1].start()
        return port

    def sniffed(self):
        """(source, destination) of the IPv4 packets that came over the uplink since last asked."""
        pairs = []
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, where = self.sniffer.recvfrom(2048)
                if where[2] != socket.PACKET_OUTGOING and frame[12:14] == b"\x08\x00":
                    source, destination = struct.unpack("!4s4s", frame[26:34])
                    pairs.append((socket.inet_ntoa(source), socket.inet_ntoa(destination)))
        return pairs


def accept_all(listening):
    with listening, contextlib.suppress(OSError):  # until it is shut down
        while True:
            listening.accept()[0].close()


def answer_all(listening):
    with listening:
        while True:
            data, source = listening.recvfrom(2048)
            if not data:
                return
            with contextlib.suppress(OSError):  # a source that is not there
                listening.sendto(data, source)


def can_reach(address, port, seconds=3):
    try:
        socket.create_connection((address, port), seconds).close()
        return True
    except OSError:
        return False
