"""A PostgreSQL of a test's own: a fresh cluster in a temporary directory, run as user postgres."""
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import psycopg2

BINARIES = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
SETTINGS = ["fsync=off", "max_connections=200", "logging_collector=off", "timezone=UTC"]


def as_postgres(*words, **options):
    """Runs a program as user postgres: the server refuses to run as root."""
    if os.geteuid() == 0:
        words = ["runuser", "-u", "postgres", "--", *words]
    return subprocess.run([str(word) for word in words], check=True, stdin=subprocess.DEVNULL, cwd="/", **options)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def has_ended(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def until(condition, seconds=30):
    """What `condition` gives once that is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


class Postgres:
    """Starts when made. `url()` is for `--db`; a context manager: the end removes it with its data.

    It listens on a unix socket and on 127.0.0.1 (or `address`, as inside of a network namespace, by
    way of `prefix`, words in front of the server's command such as ["ip", "netns", "exec", NAME]).
    """

    def __init__(self, address="127.0.0.1", settings=(), prefix=(), port=None):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="plane-postgres-"))
        self.data, self.log = self.directory / "data", self.directory / "log"
        self.address, self.prefix = address, list(prefix)
        self.settings = [*SETTINGS, *settings]
        self.port = port or free_port()
        self.databases = 0
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.directory, user.pw_uid, user.pw_gid)
        os.chmod(self.directory, 0o755)
        try:
            self.make_data()
            self.start()
        except BaseException:
            self.close()
            raise

    def make_data(self):
        as_postgres(BINARIES / "initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8",
                    "--locale=C", "-D", self.data, stdout=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def url(self, database="postgres", user="postgres"):
        return f"postgres://{user}@{self.address}:{self.port}/{database}"

    def socket_url(self, database="postgres", user="postgres"):
        return f"postgres:///{database}?host={self.directory}&port={self.port}&user={user}"

    def new_database(self):
        """The URL of an empty one."""
        self.databases += 1
        self.execute(f"CREATE DATABASE plane_{self.databases}")
        return self.url(f"plane_{self.databases}")

    def connect(self, database="postgres", user="postgres"):
        """A psycopg2 connection over the unix socket, which commits each statement."""
        connection = psycopg2.connect(host=str(self.directory), port=self.port, user=user, dbname=database)
        connection.autocommit = True
        return connection

    def execute(self, sql, parameters=None, database="postgres"):
        """Runs one statement in a connection of its own; gives its rows, or None."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()

    def start(self):
        """Returns when it takes connections."""
        options = " ".join([f"-p {self.port} -k {self.directory} -h {self.address}",
                            *(f"-c {setting}" for setting in self.settings)])
        words = [str(BINARIES / "pg_ctl"), "-D", str(self.data), "-l", str(self.log), "-w", "-t", "60",
                 "-o", options, "start"]
        if os.geteuid() == 0:
            words = ["runuser", "-u", "postgres", "--", *words]
        result = subprocess.run([*self.prefix, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL, cwd="/", check=False)
        if result.returncode != 0:
            raise RuntimeError(f"PostgreSQL did not start:\n{self.log.read_text() if self.log.exists() else ''}")

    def pid(self):
        return int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])

    def is_running(self):
        return (self.data / "postmaster.pid").exists()

    def stop(self, mode="fast"):
        """"fast" ends it in order, "immediate" as a crash does; returns when it has ended."""
        if self.is_running():
            as_postgres(BINARIES / "pg_ctl", "-D", self.data, "-m", mode, "-w", "-t", "60", "stop",
                        stdout=subprocess.DEVNULL)

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start()

    def pause(self):
        """Stops all its processes where they are: it is there, but does not answer."""
        for pid in self.pids():
            os.kill(pid, signal.SIGSTOP)

    def resume(self):
        for pid in self.pids():
            os.kill(pid, signal.SIGCONT)

    def pids(self):
        """The server's own process first: it must not start more while it is paused."""
        pid = self.pid()
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def kill(self):
        """Ends all its processes at once, as when its machine is lost."""
        pids = self.pids()
        self.pause()  # so that none starts another one, or ends in order
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        until(lambda: all(has_ended(pid) for pid in pids))
        (self.data / "postmaster.pid").unlink()

    def close(self):
        try:
            if self.is_running():
                self.resume()
                self.stop("immediate")
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)


class Standby(Postgres):
    """A streaming replica of `primary`, asynchronous unless the primary is told otherwise."""

    def __init__(self, primary, **options):
        self.primary = primary
        super().__init__(**options)

    def make_data(self):
        as_postgres(BINARIES / "pg_basebackup", "-h", self.primary.address, "-p", self.primary.port, "-U", "postgres",
                    "-D", self.data, "--write-recovery-conf", "--checkpoint=fast", "--no-sync")

    def urls(self, database="postgres"):
        """One for both."""
        return (f"postgres://postgres@{self.primary.address}:{self.primary.port},{self.address}:{self.port}/{database}"
                "?target_session_attrs=read-write")

    def wait_caught_up(self):
        place = self.primary.execute("SELECT pg_current_wal_lsn()")[0][0]
        until(lambda: self.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (place,)) == [(True,)])

    def stop_receiving(self):
        """It is behind from now on."""
        self.execute("ALTER SYSTEM SET primary_conninfo = ''")
        self.execute("SELECT pg_reload_conf()")
        until(lambda: self.execute("SELECT count(*) FROM pg_stat_wal_receiver") == [(0,)])

    def promote(self):
        assert self.execute("SELECT pg_promote(true, 60)") == [(True,)]
