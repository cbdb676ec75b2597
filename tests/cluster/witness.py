"""What backends wrote down about themselves (witness.c), and the judgement: did two backends of one
key ever run at once, and did their fencing tokens grow?

The lines of a key stand in the order in which they were written, whatever machine wrote them, so no
clock is needed to see an overlap. The times are those of each backend's machine; they tell how long
something went on, and are not compared between machines."""

import collections

KINDS = ("start", "beat", "doubled")

Line = collections.namedtuple("Line", "kind backend token at_us")


class Life:
    """One backend, as its own lines tell it."""

    def __init__(self, line):
        self.backend, self.token = line.backend, line.token
        self.first_us = self.last_us = line.at_us
        self.lines, self.late = 0, []  # late: lines behind the beginning of a later backend


class Testimony:
    """All lines of one key. `lives`: its backends in the order in which they began."""

    def __init__(self, text):
        self.lives, self.problems = {}, []
        for number, words in enumerate(text.splitlines(), 1):
            line = self.parse(number, words)
            if line:
                self.take(line)
        self.judge()

    def parse(self, number, text):
        words = text.split()
        try:
            line = Line(words[0], words[1], int(words[2]), int(words[3]))
        except (IndexError, ValueError):
            line = None
        if not line or len(words) != 4 or line.kind not in KINDS:
            self.problems.append(f"line {number} is none: {text!r}")
            return None
        return line

    def take(self, line):
        life = self.lives.get(line.backend)
        if not life:
            if line.kind == "beat":
                self.problems.append(f"{line.backend} ran before its start")
            life = self.lives[line.backend] = Life(line)
        elif line.kind != "beat":
            self.problems.append(f"{line.backend} began twice")
        if line.kind == "doubled":
            self.problems.append(f"{line.backend} began while another one was alive")
        if line.token != life.token:
            self.problems.append(f"{line.backend} had tokens {life.token} and {line.token}")
        if line.at_us < life.last_us:
            self.problems.append(f"the clock of {line.backend} went back")
        life.lines += 1
        life.last_us = max(life.last_us, line.at_us)
        if next(reversed(self.lives)) != line.backend:
            life.late.append(line)

    def judge(self):
        lives = list(self.lives.values())
        for life in lives:
            if life.late:
                times = [line.at_us for line in life.late]
                self.problems.append(
                    f"{life.backend} (token {life.token}) wrote {len(times)} lines over "
                    f"{(max(times) - min(times)) / 1000:.0f} ms after a later backend's first")
        for former, later in zip(lives, lives[1:]):
            if later.token <= former.token:
                self.problems.append(f"token {later.token} of {later.backend} came after "
                                     f"{former.token} of {former.backend}")


def read(keys):
    """{key: Testimony} of all directories below `keys`, where drones mount them from."""
    return {path.parent.name: Testimony(path.read_text()) for path in keys.glob("*/record")}


def problems(keys):
    return [f"key {key}: {text}" for key, testimony in read(keys).items()
            for text in testimony.problems]


def take(keys, key):
    """The key's Testimony, which is judged by the test that takes it and by nobody later: its
    backends go on writing, to no avail."""
    path = keys / key / "record"
    testimony = Testimony(path.read_text())
    path.rename(path.with_name("judged"))
    return testimony
