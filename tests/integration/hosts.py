"""Several machines for a test: network namespaces, each joined by a veth to a bridge in a namespace of
its own, the switch. What the network does to packets (cut, lose, delay) is done there or, for delays,
in user space: no packet reaches the real network, and nothing outlives the test."""

import contextlib
import fcntl
import heapq
import ipaddress
import os
import selectors
import struct
import subprocess
import threading
import time

from machine import CLONE_NEWNET, LIBC, call, enter, own_namespace

SUBNET = ipaddress.ip_network("192.168.77.0/24")
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def new_namespace():
    """A descriptor of a fresh network namespace; the calling thread stays where it is."""
    before = own_namespace()
    try:
        call(LIBC.unshare(CLONE_NEWNET), "unshare")
        return own_namespace()
    finally:
        enter(before)
        os.close(before)


def new_clocks(seconds):
    """A descriptor of a time namespace whose machine has run so much longer than this one."""
    holder = subprocess.Popen(["unshare", "--time", "--monotonic", str(seconds), "--boottime",
                               str(seconds), "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        holder.stdin.write(b"x")
        holder.stdin.flush()
        holder.stdout.read(1)  # it is cat now
        return os.open(f"/proc/{holder.pid}/ns/time_for_children", os.O_RDONLY | os.O_CLOEXEC)


class Host:
    """One machine: its namespace and its address. `uptime_s`: it has run so much longer than this
    one, so that its clocks of uptime say something else than those of the others."""

    def __init__(self, name, address, uptime_s=0):
        self.name, self.address = name, address
        self.fd = new_namespace()
        self.clocks = new_clocks(uptime_s) if uptime_s else None
        self.run("ip", "link", "set", "lo", "up")

    def command(self, *words):
        """The words as they are run on the machine, by the process that starts them."""
        mine = f"/proc/{os.getpid()}/fd"
        clocks = [f"--time={mine}/{self.clocks}"] if self.clocks is not None else []
        return ["nsenter", f"--net={mine}/{self.fd}", *clocks, "--", *map(str, words)]

    def close(self):
        for fd in (self.fd, self.clocks):
            if fd is not None:
                os.close(fd)

    def run(self, *words, text=None):
        return subprocess.run(self.command(*words), check=True, input=text, text=True,
                              stdout=subprocess.PIPE).stdout

    @contextlib.contextmanager
    def inside(self):
        """The calling thread is on this machine; sockets that it makes stay there."""
        before = own_namespace()
        enter(self.fd)
        try:
            yield self
        finally:
            enter(before)
            os.close(before)

    def forwarding(self, link):
        return self.run("cat", f"/proc/sys/net/ipv4/conf/{link}/forwarding").strip() == "1"

    def __str__(self):
        return self.name


class Hosts:
    """`with Hosts("drone", "proxy") as hosts:` hosts.drone is one; all reach each other. `uptimes`:
    by name, as Host takes it."""

    def __init__(self, *names, uptimes=None):
        self.uptimes = uptimes or {}
        self.all, self.slow = {}, None
        self.switch = None
        self.names = names

    def __enter__(self):
        self.switch = Host("switch", None)
        self.switch.run("ip", "link", "add", "switch", "up", "type", "bridge", "forward_delay",
                        "0", "mcast_snooping", "0")
        self.switch.run("nft", "-f", "-", text="""table bridge faults {
            set cut { type ipv4_addr . ipv4_addr; }
            set lossy { type ipv4_addr . ipv4_addr; }
            chain lose { }
            chain forward { type filter hook forward priority 0;
                ip saddr . ip daddr @cut drop
                ip saddr . ip daddr @lossy jump lose
            }
            }""")
        for number, name in enumerate(self.names, 1):
            self.add(name, str(SUBNET[number]))
        return self

    def add(self, name, address):
        host = Host(name, address, self.uptimes.get(name, 0))
        port = f"p{len(self.all)}"
        host.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns",
                 f"/proc/{os.getpid()}/fd/{self.switch.fd}")
        host.run("ip", "address", "add", f"{address}/{SUBNET.prefixlen}", "dev", "eth0")
        host.run("ip", "link", "set", "eth0", "up")
        self.switch.run("ip", "link", "set", port, "master", "switch", "up")
        host.port = port
        self.all[name] = host
        setattr(self, name, host)
        return host

    def __exit__(self, *_):
        if self.slow:
            self.slow.close()
        for host in (*self.all.values(), self.switch):
            host.close()

    # ---- what can happen to the network ----

    def change(self, *lines):
        self.switch.run("nft", "-f", "-", text="\n".join(lines))

    def pairs(self, some, others):
        return ", ".join(f"{a.address} . {b.address}, {b.address} . {a.address}"
                         for a in some for b in others if a is not b)

    def partition(self, some, others):
        """Nothing passes between a machine of the one list and one of the other; neither notices
        more than silence."""
        self.change(f"add element bridge faults cut {{ {self.pairs(some, others)} }}")

    def mute(self, source, target):
        """Nothing passes from the one to the other; back it does."""
        self.change(f"add element bridge faults cut {{ {source.address} . {target.address} }}")

    def isolate(self, host):
        self.partition([host], [other for other in self.all.values() if other is not host])

    def lose(self, some, others, percent):
        self.change("flush chain bridge faults lose",
                    f"add rule bridge faults lose meta random < {percent * (2**32 - 1) // 100} drop",
                    f"add element bridge faults lossy {{ {self.pairs(some, others)} }}")

    def delay(self, some, others, milliseconds):
        """Each packet takes so long, in each direction."""
        self.slow = self.slow or DelayLine()
        for a in some:
            for b in others:
                if a is not b:
                    self.slow.add(a, b, milliseconds / 1000)

    def heal(self):
        """Everything passes again, at once."""
        self.change("flush set bridge faults cut", "flush set bridge faults lossy")
        if self.slow:
            self.slow.close()
            self.slow = None

    def pull_cable(self, host):
        """The machine is cut off and its links say so; see plug_cable."""
        self.switch.run("ip", "link", "set", host.port, "down")

    def plug_cable(self, host):
        self.switch.run("ip", "link", "set", host.port, "up")


class DelayLine:
    """Packets between pairs of machines go through here and wait: a queue in user space, since not
    every kernel has netem. Each machine gets a tun device, and a route by it to the other; the tun
    of the other gives them to its kernel."""

    def __init__(self):
        self.tuns, self.seconds, self.routes = {}, {}, []  # {address: descriptor}; by pair
        self.waiting, self.count = [], 0
        self.selector = selectors.DefaultSelector()
        self.wake_read, self.wake_write = os.pipe()
        self.selector.register(self.wake_read, selectors.EVENT_READ)
        self.thread = threading.Thread(target=self.carry, name="delay line", daemon=True)
        self.thread.start()

    def add(self, a, b, seconds):
        for host in (a, b):
            if host.address not in self.tuns:
                self.open_tun(host)
        for source, target in ((a, b), (b, a)):
            pair = (source.address, target.address)
            if pair not in self.seconds:
                source.run("ip", "route", "add", target.address, "dev", "slow0", "src",
                           source.address)
                self.routes.append((source, target))
            self.seconds[pair] = seconds

    def open_tun(self, host):
        with host.inside():
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"slow0", IFF_TUN | IFF_NO_PI))
        host.run("sh", "-c", "echo 0 > /proc/sys/net/ipv4/conf/slow0/rp_filter;"
                 "cat /proc/sys/net/ipv4/conf/eth0/forwarding"
                 " > /proc/sys/net/ipv4/conf/slow0/forwarding; ip link set slow0 up")
        self.tuns[host.address] = fd
        self.selector.register(fd, selectors.EVENT_READ)

    def carry(self):
        while True:
            now = time.monotonic()
            while self.waiting and self.waiting[0][0] <= now:
                _, _, target, packet = heapq.heappop(self.waiting)
                with contextlib.suppress(OSError):  # its queue is full, as any may be
                    os.write(self.tuns[target], packet)
            timeout = self.waiting[0][0] - now if self.waiting else None
            for key, _ in self.selector.select(timeout):
                if key.fd == self.wake_read:
                    return
                self.take(key.fd)

    def take(self, fd):
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = os.read(fd, 65536)
                if packet[0] >> 4 != 4:
                    continue
                pair = tuple(str(ipaddress.ip_address(packet[at:at + 4])) for at in (12, 16))
                if pair in self.seconds:
                    self.count += 1  # keeps what came first first
                    heapq.heappush(self.waiting, (time.monotonic() + self.seconds[pair],
                                                  self.count, pair[1], packet))

    def close(self):
        """What still waits is lost, as in a cable that is replaced."""
        os.write(self.wake_write, b"x")
        self.thread.join()
        for source, target in self.routes:
            source.run("ip", "route", "del", target.address, "dev", "slow0")
        for fd in (*self.tuns.values(), self.wake_read, self.wake_write):
            os.close(fd)
        self.selector.close()
