"""Single roles, each on a machine of its own (hosts.py): started, waited for, killed, stopped."""

import contextlib
import os
import pathlib
import signal
import subprocess
import threading

from serve import BUILD, PLANE

START_SECONDS = 40
STOP_SECONDS = 40


class Role:
    """One process of `plane`, which may be started again after its end. `environment` is added to
    the test's own."""

    def __init__(self, host, directory, name, words, environment=None):
        self.host, self.name, self.words = host, name, [str(word) for word in words]
        self.log_path = directory / f"{name}.log"
        self.environment = environment or {}
        self.process, self.ready_pipe = None, None

    def start(self, wait=True):
        """Begins it; `wait`: until it says that it serves."""
        self.ready_pipe, write = os.pipe()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.host.command(PLANE, *self.words, "--ready-fd", write), stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, pass_fds=[write],
                env={**os.environ, **self.environment})
        os.close(write)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        # A reader of the pipe sees its end when the role ends before.
        timer = threading.Timer(START_SECONDS, self.process.kill)
        timer.start()
        text = os.read(self.ready_pipe, 200)
        timer.cancel()
        os.close(self.ready_pipe)
        self.ready_pipe = None
        if not text.startswith(b"ready"):
            raise AssertionError(f"{self.name} did not get ready:\n{self.log_text()[-4000:]}")

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """kill -9, and its end has come."""
        self.process.kill()
        self.process.wait()
        self.forget_pipe()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self, number=signal.SIGTERM):
        """Asks it to end; its exit status. One that does not run is fine."""
        if not self.is_running():
            return self.process.returncode if self.process else 0
        # In this order: it would take away the SIGSTOP by which the leak sanitizer looks at the end.
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(number)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            threads = self.threads()
            self.kill()
            raise AssertionError(f"{self.name} did not stop:\n{threads}\n{self.log_text()[-4000:]}") from None
        finally:
            self.forget_pipe()

    def threads(self):
        """Where each of its threads is, for who looks for the reason why it does not go on."""
        lines = []
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                state = (task / "stat").read_text().rsplit(")", 1)[1].split()[0]
                call = (task / "syscall").read_text().strip()
                lines.append(f"{task.name} {(task / 'comm').read_text().strip()} {state} {call}")
        return "\n".join(lines)

    def forget_pipe(self):
        if self.ready_pipe is not None:
            os.close(self.ready_pipe)
            self.ready_pipe = None

    def log_text(self):
        with contextlib.suppress(FileNotFoundError):
            return self.log_path.read_text(errors="replace")
        return ""
