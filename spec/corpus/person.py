"""What a person does to an installation between two upgrades, drawn by a seed: appends and edits
lines, deletes, renames and replaces shipped files, changes modes, and writes files of their own.

Every kind is done to files of its own, so that each leaves a trace that can be judged alone. Half
of them are files that the next release changes: there the two sides meet.
"""

import os
import random

# How many of each kind, from and to.
KINDS = {
    "appended": (2, 4),
    "edited": (2, 4),
    "deleted": (1, 3),
    "renamed": (1, 3),
    "renamed and edited": (0, 2),
    "mode": (1, 2),
    "binary": (0, 2),
    "line ends": (0, 1),
    "same as upstream": (0, 1),
}

OWN = {
    "specs/2025-11-01-billing/srd.md": b"# Billing\n\nOurs.\n",
    "standards/development/house-style.md": b"# House style\n\nTabs are for tables.\n",
    "standards/universal/testing/our own notes.md": b"beside shipped files\n",
    "workflows/our_release_v1/metadata.json": b'{"name": "our_release_v1"}\n',
    "workflows/our_release_v1/empty.md": b"",
    "workspace/sketch.sh": b"#!/bin/sh\necho sketch\n",
}
OWN_BINARY = "standards/universal/testing/diagram.png"


class Person:
    """`here`: installed paths that are text, `changed`: those of them that the next release changes
    or takes away, `incoming`: what it ships under names that are new."""

    def __init__(self, target, seed, here, changed, incoming, new):
        self.target, self.random = target, random.Random(seed)
        self.left, self.changed = sorted(here), sorted(changed)
        self.incoming, self.new = sorted(incoming), new
        self.counts, self.renamed = {}, {}
        self.serial = 0

    # -- files --

    def full(self, path):
        return os.path.join(os.fsencode(self.target), os.fsencode(path))

    def read(self, path):
        with open(self.full(path), "rb") as file:
            return file.read()

    def write(self, path, data):
        os.makedirs(os.path.dirname(self.full(path)), exist_ok=True)
        with open(self.full(path), "wb") as file:
            file.write(data)

    def line(self):
        self.serial += 1
        number = self.random.randrange(10**6)
        return b"Our line %d, number %d of this project." % (number, self.serial)

    def pick(self):
        """A shipped file that nothing was done to yet."""
        pool = self.changed if self.changed and self.random.random() < 0.5 else self.left
        path = self.random.choice(pool)
        for each in (self.changed, self.left):
            if path in each:
                each.remove(path)
        return path

    # -- what is done --

    def append(self, data):
        ends = b"" if not data or data.endswith(b"\n") else b"\n"
        more = b"".join(self.line() + b"\n" for _ in range(self.random.randint(1, 4)))
        return data + ends + more[: -1 if self.random.random() < 0.2 else None]

    def appended(self, path):
        self.write(path, self.append(self.read(path)))

    def edited(self, path):
        lines = self.read(path).splitlines(keepends=True) or [b"\n"]
        for _ in range(self.random.randint(1, 3)):
            at = self.random.randrange(len(lines))
            what = self.random.choice(("change", "insert", "delete"))
            if what == "change":
                lines[at] = self.line() + b"\n"
            elif what == "insert":
                lines.insert(at, self.line() + b"\n")
            elif len(lines) > 1:
                del lines[at]
        lines.insert(self.random.randrange(len(lines)), self.line() + b"\n")
        self.write(path, b"".join(lines))

    def deleted(self, path):
        os.remove(self.full(path))

    def renamed_to(self, path):
        folder, name = os.path.split(path)
        if self.random.random() < 0.5:
            folder += "/ours"
        new = "%s/our-%s" % (folder, name)
        os.makedirs(os.path.dirname(self.full(new)), exist_ok=True)
        os.rename(self.full(path), self.full(new))
        self.renamed[path] = new
        return new

    def renamed_and_edited(self, path):
        new = self.renamed_to(path)
        self.write(new, self.append(self.read(new)))

    def mode(self, path):
        os.chmod(self.full(path), self.random.choice((0o755, 0o600, 0o640, 0o700)))

    def binary(self, path):
        self.write(path, b"\0\x89PNG" + self.random.randbytes(self.random.randint(0, 600)))

    def line_ends(self, path):
        data = self.read(path).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        self.write(path, data + b"mine\r\n")

    def same_as_upstream(self, path):
        """Somebody has copied the new file already."""
        if path in self.new:
            self.write(path, self.new[path])

    def own_files(self):
        for path, data in sorted(OWN.items()):
            if self.random.random() < 0.7:
                self.write(path, data + self.line() + b"\n")
                self.count("own")
        if self.random.random() < 0.7:
            self.write(OWN_BINARY, b"\x89PNG\r\n\0" + self.random.randbytes(900))
            self.count("own binary")
        if self.incoming and self.random.random() < 0.3:
            path = self.random.choice(self.incoming)
            same = self.random.random() < 0.3
            self.write(path, self.new[path] if same else b"ours, before it was shipped\n")
            self.count("own, and shipped now")

    def count(self, kind):
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def work(self):
        """Does everything; the counts by kind are in `counts` afterwards."""
        if self.random.random() < 0.08:
            self.count("none")
            return
        acts = {"renamed": self.renamed_to}
        for kind, (least, most) in KINDS.items():
            act = acts.get(kind) or getattr(self, kind.replace(" ", "_"))
            for _ in range(self.random.randint(least, most)):
                if self.left:
                    act(self.pick())
                    self.count(kind)
        self.own_files()
