"""PostgreSQL on machines of a cluster: a primary, and a streaming replica that can take over."""

import os
import signal
import subprocess

from hosts import SUBNET
from postgres import BINARIES, Postgres
from serve import wait_until

PORT = 5432
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"


class Database(Postgres):
    """One server, on a machine. Its wall clock can be set: see set_clock."""

    def __init__(self, host, clock_seconds=0):
        self.host, self.clock_seconds = host, clock_seconds
        # shared memory is in its directory, so that it goes with that when the server is killed
        super().__init__(host.address, port=PORT, prefix=host.command(),
                         settings=["dynamic_shared_memory_type=mmap"])

    def make_data(self):
        super().make_data()
        self.let_others_in()
        self.prepare_clock()

    def let_others_in(self):
        with open(self.data / "pg_hba.conf", "a", encoding="utf-8") as rules:
            rules.write(f"host all all {SUBNET} trust\nhost replication all {SUBNET} trust\n")

    def prepare_clock(self):
        """The server's processes read its wall clock's difference to the real one from a file."""
        self.clock_path = self.directory / "clock"
        self.set_clock(self.clock_seconds)
        self.prefix += ["env", f"LD_PRELOAD={FAKETIME}", f"FAKETIME_TIMESTAMP_FILE={self.clock_path}",
                        "FAKETIME_CACHE_DURATION=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"]

    def set_clock(self, seconds):
        """The machine's wall clock is so much ahead of what it was at first, from a moment on."""
        new = self.clock_path.with_suffix(".new")
        new.write_text(f"{seconds:+d}")
        new.replace(self.clock_path)

    def kill(self):
        """Every process of it at once; its files stay."""
        lock = (self.data / "postmaster.pid").read_text().splitlines()
        pids = self.pids()
        for number in (signal.SIGSTOP, signal.SIGKILL):  # none of them sees another one's end
            for pid in pids:
                os.kill(pid, number)
        wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), 20, "its end")
        (self.data / "postmaster.pid").unlink()
        # line 7 is key and number of a small segment of shared memory, which the next start would take
        subprocess.run(["ipcrm", "-m", lock[6].split()[1]], check=True)


class Replica(Database):
    """Streams from `primary`; what is committed there has arrived here."""

    def __init__(self, host, primary, clock_seconds=0):
        self.primary = primary
        super().__init__(host, clock_seconds)
        wait_until(self.is_streaming, 60, "the replica streams")
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.execute("SELECT pg_reload_conf()")
        wait_until(lambda: primary.execute("SELECT sync_state FROM pg_stat_replication") == [
            ("sync",)], 30, "the replica is synchronous")

    def make_data(self):
        self.prepare_clock()
        subprocess.run([*self.host.command("runuser", "-u", "postgres", "--", BINARIES / "pg_basebackup"),
                        "--pgdata", self.data, "--host", self.primary.address, "--port", str(PORT),
                        "--username", "postgres", "--write-recovery-conf", "--wal-method", "stream",
                        "--checkpoint", "fast", "--no-sync"],
                       check=True, cwd="/", stdin=subprocess.DEVNULL, capture_output=True)

    def is_streaming(self):
        return self.primary.execute("SELECT state FROM pg_stat_replication") == [("streaming",)]

    def promote(self):
        """Returns when it takes writes."""
        assert self.execute("SELECT pg_promote(true, 60)") == [(True,)]
