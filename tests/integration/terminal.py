"""A program on a terminal of its own: what it drew, keys that are pressed, sizes that change."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

ENTER, LEAVE = "\033[?1049h", "\033[?1049l"


class Terminal:
    def __init__(self, words, rows=24, columns=100, env=None):
        self.main, self.side = pty.openpty()
        self.resize(rows, columns)
        self.attributes = termios.tcgetattr(self.side)
        self.output = ""
        self.process = subprocess.Popen(words, stdin=self.side, stdout=self.side, stderr=self.side,
                                        env={**os.environ, **(env or {})},
                                        preexec_fn=self.make_controlling)

    def make_controlling(self):
        os.setsid()
        fcntl.ioctl(self.side, termios.TIOCSCTTY, 0)

    def resize(self, rows, columns):
        fcntl.ioctl(self.main, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys):
        os.write(self.main, keys.encode())

    def read(self, seconds):
        """What came within so long; "" when nothing did."""
        if not select.select([self.main], [], [], seconds)[0]:
            return ""
        try:
            text = os.read(self.main, 65536).decode()
        except OSError:  # the other side is closed
            return ""
        self.output += text
        return text

    def wait_for(self, condition, seconds=20, what="the screen"):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not come: {self.output!r}"
            self.read(0.2)

    def frames(self):
        """The frames that were drawn whole, as lists of lines."""
        drawn = re.findall(r"\033\[H(.*?)\033\[J", self.output, re.S)
        return [frame.replace("\033[K", "").split("\r\n")[:-1] for frame in drawn]

    def frame(self):
        frames = self.frames()
        return frames[-1] if frames else []

    def wait_for_line(self, text, seconds=20):
        self.wait_for(lambda: any(text in line for line in self.frame()), seconds, text)

    def wait_end(self, seconds=20):
        """The exit status; all output is read then."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it did not end: {self.output!r}"
            self.read(0.05)
        while self.read(0):
            pass
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self.main)
        os.close(self.side)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
