#!/usr/bin/env python3
"""A person who saves files into an installation while an upgrade works in it, and the account of
what became of each save. It shares no code with praxlua.

    editor.py run PLAN LOG        saves one file after the other until the file "stop" of the plan
                                  exists; while its file "quiet" exists it only waits
    editor.py attend PLAN LOG     opens what it appends to, and then saves every file once for each
                                  line that comes through the fifo "ask" of the plan, in the ways
                                  whose turn the number in that line is, and answers in "answer";
                                  until a line says "go home"
    editor.py judge PLAN LOG TOLD prints what is wrong, one a line; exit 1 when anything is. TOLD is
                                  a file with all that praxlua said to people

PLAN is JSON: {"root", "files": [{"path", "ways": [...], "own": bool}], "new": [folders], "seed",
"pause" (mean seconds between two saves), "stop", "quiet"}. Paths are relative to root. `own` files
are not shipped: nobody but the person may change them.

The ways a program saves a file:
    write    opens it, empties it, writes it
    rename   writes another file and renames it over
    swap     renames the file to NAME~, writes a new one, deletes NAME~
    append   adds a line through a descriptor that stays open over many saves
    delete   deletes it
    chmod    gives it other permissions
and in the folders of "new" it makes files that were never there.

Every save has a token of its own, and the log says of each when it began and that it was done.
A save counts only when the file it went to still has a name afterwards: what is written to a file
that nobody can find is not a save, and the program opens its file anew and saves again.

Judging: the token of the last save of each file has to be found in the file itself or in one named
NAME.kept-* beside it that praxlua told of; where lines were appended, the token of each line.
"""

import argparse
import json
import os
import random
import re
import stat
import sys
import time

TOKEN = re.compile(rb"save-[0-9a-f]{8}-[0-9]+-end")


def write_out(fd, text):
    while text:
        text = text[os.write(fd, text) :]


class Log:
    """One JSON object a line: what was begun, and the same with "done" once it is over."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, entry):
        os.write(self.fd, json.dumps(entry).encode() + b"\n")


class Person:
    def __init__(self, plan, log):
        self.plan, self.log = plan, log
        self.random = random.Random("%s %s" % (plan["seed"], os.getpid()))
        self.mark = "%08x" % self.random.getrandbits(32)
        self.count = 0
        self.held = {}

    def token(self):
        self.count += 1
        return "save-%s-%d-end" % (self.mark, self.count)

    def text_with(self, path, token):
        """What the person sees in the file, with the line of the last save made new."""
        try:
            with open(path, "rb") as data:
                lines = [one for one in data.read().split(b"\n") if not TOKEN.search(one)]
        except FileNotFoundError:
            lines = []
        while lines and lines[-1] == b"":
            lines.pop()
        return b"".join(one + b"\n" for one in lines + [token.encode()])

    @staticmethod
    def put(path, text):
        """Writes the file in place, until what was written to still had a name afterwards."""
        for _ in range(100):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            write_out(fd, text)
            named = os.fstat(fd).st_nlink > 0
            os.close(fd)
            if named:
                return
        raise SystemExit("%s is replaced all the time" % path)

    # -- the ways ----------------------------------------------------------------------------------

    def write(self, path, token):
        self.put(path, self.text_with(path, token))

    def rename(self, path, token):
        text = self.text_with(path, token)
        aside = os.path.join(os.path.dirname(path), ".#%s" % token)
        self.put(aside, text)
        try:
            os.chmod(aside, stat.S_IMODE(os.stat(path).st_mode))
        except FileNotFoundError:
            pass
        os.rename(aside, path)

    def swap(self, path, token):
        text = self.text_with(path, token)
        aside = path + "~"
        try:
            os.rename(path, aside)
        except FileNotFoundError:
            pass
        self.put(path, text)
        try:
            os.unlink(aside)
        except FileNotFoundError:
            pass

    def append(self, path, token):
        line = token.encode() + b"\n"
        for _ in range(100):
            if path not in self.held:
                self.held[path] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            fd = self.held[path]
            write_out(fd, line)
            if os.fstat(fd).st_nlink > 0:
                if self.random.random() < 0.1:
                    os.close(self.held.pop(path))
                return
            os.close(self.held.pop(path))
        raise SystemExit("%s is replaced all the time" % path)

    def delete(self, path, _):
        os.unlink(path)

    def chmod(self, path, _):
        mode = self.random.choice((0o600, 0o640, 0o644, 0o664))
        os.chmod(path, mode)
        return {"mode": mode}

    # -- saving ------------------------------------------------------------------------------------

    def save(self, relative, way):
        """One save, with its log. A folder or file that is not there just now is no save."""
        token = self.token()
        entry = {"path": relative, "way": way, "token": token, "began": time.monotonic()}
        self.log.write(entry)
        try:
            more = getattr(self, way)(os.path.join(self.plan["root"], relative), token) or {}
        except (FileNotFoundError, NotADirectoryError) as error:
            more = {"failed": str(error)}
        self.log.write({**entry, **more, "done": time.monotonic()})

    def make_new(self):
        folder = self.random.choice(self.plan["new"])
        self.save(os.path.join(folder, "note-%s-%d" % (self.mark, self.count)), "write")

    def any_save(self):
        files = self.plan["files"]
        if self.plan.get("new") and self.random.randrange(len(files) + 1) == 0:
            return self.make_new()
        chosen = self.random.choice(files)
        return self.save(chosen["path"], self.random.choice(chosen["ways"]))

    def run(self):
        while not os.path.exists(self.plan["stop"]):
            if os.path.exists(self.plan["quiet"]):
                time.sleep(0.002)
                continue
            self.any_save()
            time.sleep(self.random.expovariate(1 / self.plan["pause"]))

    def attend(self):
        for chosen in self.plan["files"]:
            path = os.path.join(self.plan["root"], chosen["path"])
            if "append" in chosen["ways"] and os.path.exists(path):
                self.held[path] = os.open(path, os.O_WRONLY | os.O_APPEND)
        while True:
            with open(self.plan["ask"], encoding="ascii") as lines:
                word = lines.read().split()
            if word[:2] == ["go", "home"]:
                return
            if word:
                self.once(int(word[0]))
            with open(self.plan["answer"], "w", encoding="ascii") as answer:
                answer.write("done\n")

    def once(self, turn):
        for chosen in self.plan["files"]:
            ways = chosen["ways"]
            self.save(chosen["path"], ways[turn % len(ways)])
        if self.plan.get("new"):
            self.make_new()


# -- judging ---------------------------------------------------------------------------------------


def saves_of(log):
    """The saves that were done, in order of their end, by path."""
    done, open_ones = {}, {}
    with open(log, "rb") as lines:
        for line in lines:
            entry = json.loads(line)
            if "done" not in entry:
                open_ones[entry["token"]] = entry
                continue
            open_ones.pop(entry["token"])
            if "failed" not in entry:
                done.setdefault(entry["path"], []).append(entry)
    return done, open_ones


def tokens_in(path):
    try:
        with open(path, "rb") as data:
            return set(token.decode() for token in TOKEN.findall(data.read()))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return set()


def places_of(root, relative, told):
    """The file and what was kept of it, each with its tokens; and what was kept but never told."""
    folder, name = os.path.split(os.path.join(root, relative))
    places, untold = {relative: tokens_in(os.path.join(root, relative))}, {}
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        names = []
    for other in names:
        if other.startswith(name + ".kept-"):
            kept = os.path.join(os.path.dirname(relative), other)
            (places if kept in told else untold)[kept] = tokens_in(os.path.join(folder, other))
    return places, untold


def wanted_of(saves):
    """The tokens that have to be there, and the permissions where the last save gave some."""
    last_text = None
    wanted, mode = [], None
    for entry in saves:
        if entry["way"] == "append":
            wanted.append(entry["token"])
        elif entry["way"] == "chmod":
            mode = entry["mode"]
        else:
            wanted, last_text, mode = [entry["token"]], entry, None
    if last_text and last_text["way"] == "delete":
        wanted = [token for token in wanted if token != last_text["token"]]
        return wanted, None, not wanted
    return wanted, mode, False


def judge(plan, log, told):
    own = {one["path"] for one in plan["files"] if one.get("own")}
    done, open_ones = saves_of(log)
    problems, count = [], 0
    for entry in open_ones.values():
        problems.append("the person's own save was cut short: %s" % entry)
    for path in sorted(done):
        wanted, mode, deleted = wanted_of(done[path])
        places, untold = places_of(plan["root"], path, told)
        found = set().union(*places.values())
        count += len(wanted)
        for token in wanted:
            if token in found:
                continue
            where = [place for place in untold if token in untold[place]]
            problems.append(
                "%s: %s is %s (saved by %s)"
                % (
                    path,
                    token,
                    "in %s, of which nothing was said" % where[0] if where else "lost",
                    next(one["way"] for one in done[path] if one["token"] == token),
                )
            )
        if path in own:
            problems += judge_own(plan["root"], path, mode, deleted)
    return problems, count


def judge_own(root, path, mode, deleted):
    """The person's own file is as the person left it: there or not, with its permissions."""
    try:
        info = os.lstat(os.path.join(root, path))
    except FileNotFoundError:
        return [] if deleted else ["%s: the person's own file is gone" % path]
    if deleted:
        return ["%s: deleted by the person, and back again" % path]
    if mode is not None and stat.S_IMODE(info.st_mode) != mode:
        return ["%s: mode %04o became %04o" % (path, mode, stat.S_IMODE(info.st_mode))]
    return []


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=("run", "attend", "judge"))
    parser.add_argument("plan")
    parser.add_argument("log")
    parser.add_argument("more", nargs="*")
    given = parser.parse_args()
    with open(given.plan, encoding="utf-8") as data:
        plan = json.load(data)
    if given.verb == "judge":
        with open(given.more[0], encoding="utf-8", errors="replace") as data:
            problems, count = judge(plan, given.log, data.read())
        print("\n".join(problems) if problems else "%d saves found" % count)
        return 1 if problems else 0
    person = Person(plan, Log(given.log))
    person.run() if given.verb == "run" else person.attend()
    return 0


if __name__ == "__main__":
    sys.exit(main())
