"""The judge of the merge corpus: what an upgrade must leave, told from the true base by real git.

It shares no code with praxlua. For each file that a release shipped it follows the file through
both sides (upstream's renames as `git diff -M` finds them, the user's as they were made) and says
what must be there: the new one where only upstream changed it, the user's where only the user did,
the result of `git merge-file` where both did, and a conflict where that finds one.

Reads one request a line, writes one answer a line: judge.py REPOSITORY, whose verbs are the methods
of Service. A path is relative to the target unless said otherwise.
"""

import collections
import json
import os
import re
import stat
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from person import Person  # noqa: E402

TARGET = ".praxis-os"
# Where the installer copies a source to, and whether what is no longer shipped is taken away there.
COMPONENTS = (
    ("universal/standards/", "standards/universal/", True),
    ("universal/workflows/", "workflows/", True),
    ("universal/usage/", "usage/", False),
    ("mcp_server/", "mcp_server/", True),
)
# No content: the records of praxlua, its caches, the environment.
LEFT_OUT = {".cache", ".backups", ".upgrade", ".upgrade-lock", "venv"}
RECORDS = {"VERSION.txt", "UPDATE_LOG.txt", "INSTALLATION_SUMMARY.md", ".installed-manifest.json"}

File = collections.namedtuple("File", "data mode")


class Repository:
    """The history of the content. Commits are named by their number, from the oldest, 0."""

    def __init__(self, path):
        self.path = path
        self.commits = self.git("rev-list", "--reverse", "--first-parent", "main").decode().split()
        words = ["git", "-C", path, "cat-file", "--batch"]
        self.reader = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.blobs, self.trees, self.moves, self.merges = {}, {}, {}, {}

    def git(self, *words):
        command = ["git", "-C", self.path, *words]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout

    def blob(self, name):
        if name not in self.blobs:
            self.reader.stdin.write(name.encode() + b"\n")
            self.reader.stdin.flush()
            size = int(self.reader.stdout.readline().split()[2])
            self.blobs[name] = self.reader.stdout.read(size)
            self.reader.stdout.read(1)
        return self.blobs[name]

    def shipped(self, number):
        """What a commit ships, by target path."""
        if number not in self.trees:
            files = {}
            out = self.git("ls-tree", "-r", "-z", self.commits[number])
            for line in out.split(b"\0")[:-1]:
                form, path = line.split(b"\t", 1)
                mode, _, name = form.decode().split()
                to = target_path(path.decode())
                if to:
                    files[to] = File(self.blob(name), 0o755 if mode == "100755" else 0o644)
            self.trees[number] = files
        return self.trees[number]

    def renames(self, older, newer):
        """The new target path of each old one that git takes for renamed."""
        if (older, newer) not in self.moves:
            options = ("-M", "-l0", "--diff-filter=R", "--name-status", "-z")
            out = self.git("diff", *options, self.commits[older], self.commits[newer])
            words = out.decode().split("\0")[:-1]
            found = {}
            for _, old, new in zip(words[::3], words[1::3], words[2::3]):
                if target_path(old) and target_path(new):
                    found[target_path(old)] = target_path(new)
            self.moves[older, newer] = found
        return self.moves[older, newer]

    def merge(self, base, ours, theirs):
        """What `git merge-file` makes of three texts; None: a conflict."""
        key = (base, ours, theirs)
        if key not in self.merges:
            with tempfile.TemporaryDirectory() as folder:
                paths = [os.path.join(folder, name) for name in ("ours", "base", "theirs")]
                for path, data in zip(paths, (ours, base, theirs)):
                    with open(path, "wb") as file:
                        file.write(data)
                words = ["git", "merge-file", "-p", *paths]
                quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
                done = subprocess.run(words, cwd=folder, check=False, **quiet)
            self.merges[key] = done.stdout if done.returncode == 0 else None
        return self.merges[key]


def target_path(path):
    for source, target, _ in COMPONENTS:
        if path.startswith(source):
            return target + path[len(source) :]
    return None


def component(path):
    for found in COMPONENTS:
        if path.startswith(found[1]):
            return found
    return None


# -- looking ---------------------------------------------------------------------------------------


def snapshot(project):
    """Every file of a project by its path there, without what is no content; and the folders."""
    files, folders = {}, set()
    top = os.fsencode(project)
    for here, below, names in os.walk(top):
        inside = os.fsdecode(os.path.relpath(here, top))
        if inside == TARGET:
            below[:] = [name for name in below if os.fsdecode(name) not in LEFT_OUT]
        if inside != ".":
            folders.add(inside)
        for name in names:
            path = os.path.join(here, name)
            info = os.lstat(path)
            if stat.S_ISREG(info.st_mode):
                with open(path, "rb") as file:
                    data = file.read()
                found = File(data, stat.S_IMODE(info.st_mode))
                files[os.path.normpath(os.path.join(inside, os.fsdecode(name)))] = found
    return files, folders


def ends_of(data):
    """The kinds of line ends in a text."""
    return set(re.findall(rb"\r?\n", data))


def is_json(data):
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def lines_of(file):
    return collections.Counter(file.data.splitlines() if file else ())


def in_target(files):
    prefix = TARGET + "/"
    return {p[len(prefix) :]: f for p, f in files.items() if p.startswith(prefix)}


# -- what must be there ----------------------------------------------------------------------------


class Fate:
    """What may become of one shipped file. `allowed`: for each path the states that are right there
    (None: absent). `conflict`: the paths of which one is to be in conflict; the allowed states are
    then what deciding for ours leaves. `may_conflict`: a conflict is as good as none. `is_merge`:
    both changed it, and git merges that; `is_mine`: the user did something to it. `sides`: base,
    ours, theirs."""

    def __init__(self, kind):
        self.kind, self.allowed = kind, {}
        self.conflict, self.may_conflict = (), False
        self.is_merge, self.is_mine = False, False
        self.sides = ()

    def at(self, path, *states):
        self.allowed[path] = states
        return self


class Expectation:
    """What an upgrade from `base` to `new` must make of `here`."""

    def __init__(self, repository, older, newer, here, renamed):
        self.repository, self.here, self.renamed = repository, here, renamed
        self.base, self.new = repository.shipped(older), repository.shipped(newer)
        self.moves = repository.renames(older, newer)
        self.ships = {component(path) for path in self.new}
        self.fates = []
        arrived = set()
        for path, base in self.base.items():
            moved = self.moves.get(path)
            goes_to = path if path in self.new else moved
            if goes_to:
                arrived.add(goes_to)
            self.fates.append(self.fate(path, base, goes_to))
        for path in self.new.keys() - arrived:
            self.fates.append(self.newcomer(path))

    def newcomer(self, path):
        new, here = self.new[path], self.here.get(path)
        if here is None:
            return Fate("added").at(path, new)
        if here.data == new.data:
            return Fate("added by both").at(path, here)
        fate = Fate("added by both, differently").at(path, here)
        fate.conflict = (path,)
        return fate

    def fate(self, path, base, goes_to):
        lies_at = self.renamed.get(path, path)
        here = self.here.get(lies_at)
        new = self.new.get(goes_to) if goes_to else None
        if new is None:
            return self.unshipped(path, lies_at, base, here)
        if here is None:
            return self.deleted(path, base, goes_to, new)
        if goes_to == path or lies_at == path or lies_at == goes_to:
            return self.both(path, lies_at, goes_to, base, here, new)
        # Both sides renamed it, to different names: nothing is to be lost, the rest is taste.
        fate = Fate("renamed by both").at(lies_at, here, self.joined(base, here, new), None)
        fate.at(goes_to, new, here, self.joined(base, here, new), None)
        fate.may_conflict, fate.conflict = True, (lies_at, goes_to, path)
        return fate

    def unshipped(self, path, lies_at, base, here):
        fate = Fate("no longer shipped")
        if here is None:
            return fate.at(path, None)
        if lies_at != path or here.data != base.data:
            return fate.at(lies_at, here)
        if not component(path)[2] or component(path) not in self.ships:
            return fate.at(path, here)
        if here.mode != base.mode:  # a changed mode is an edit, if a small one
            return fate.at(path, None, here)
        return fate.at(path, None)

    def deleted(self, path, base, goes_to, new):
        fate = Fate("deleted here").at(path, None).at(goes_to, None)
        if new.data != base.data:
            fate.conflict = (goes_to, path)
        elif goes_to != path:  # git calls a rename against a deletion a conflict
            fate.conflict, fate.may_conflict = (goes_to, path), True
        return fate

    def joined(self, base, here, new):
        """The merge of two sides, or None for a conflict."""
        if here.data == base.data:
            data = new.data
        elif new.data in (base.data, here.data):
            data = here.data
        else:
            data = self.merged(base.data, here.data, new.data)
            if data is None:
                return None
        runs = here.mode if (here.mode ^ base.mode) & 0o100 else new.mode
        mode = here.mode & ~0o111
        return File(data, mode | ((mode & 0o444) >> 2 if runs & 0o100 else 0))

    def merged(self, base, ours, theirs):
        """As git merges it. Where the user's editor has changed all line ends, theirs are kept."""
        if ends_of(ours) == {b"\r\n"} and ends_of(base) == ends_of(theirs) == {b"\n"}:
            base, theirs = base.replace(b"\n", b"\r\n"), theirs.replace(b"\n", b"\r\n")
        result = self.repository.merge(base, ours, theirs)
        if result is not None and is_json(ours) and is_json(theirs) and not is_json(result):
            return None  # each side is right by itself, and together they are not
        return result

    def both(self, path, lies_at, goes_to, base, here, new):
        ends_at = goes_to if lies_at == path else lies_at
        result = self.joined(base, here, new)
        fate = Fate("followed" if ends_at != path else "shipped")
        fate.sides = (base, here, new)
        fate.is_mine = here != base or lies_at != path
        if result is None:
            fate.conflict = tuple({path, lies_at, goes_to})
            fate.at(ends_at, here)
            if lies_at != ends_at:
                fate.at(ends_at, here, None).at(lies_at, None, here)
        else:
            changed = base.data != here.data and base.data != new.data and here.data != new.data
            fate.is_merge = changed
            fate.at(ends_at, result)
            if lies_at != ends_at:
                fate.at(lies_at, None, *(() if self.goes(path) else (here,)))
        if path not in (lies_at, ends_at):
            fate.at(path, None)
        return fate

    def goes(self, path):
        """Whether what is no longer shipped is taken away there."""
        return component(path)[2] and component(path) in self.ships

    # -- compared with what is there --

    def problems(self, after, conflicts):
        """By path: (kind, text) of all that is not as it must be."""
        found, told = {}, set()
        for fate in self.fates:
            hit = {path for path in fate.conflict if path in conflicts}
            told.update(hit)
            if fate.conflict and not fate.may_conflict and len(hit) != 1:
                text = "%s: %d conflicts, one is due" % (fate.kind, len(hit))
                found[fate.conflict[0]] = ("undecided", text)
            for path, states in fate.allowed.items():
                state = after.get(path)
                if state not in states and not (hit and fate.may_conflict):
                    found[path] = (self.kind_of(fate, path, state), self.told(fate, path, state))
        for path in conflicts:
            if path not in told:
                found[path] = ("needless conflict", "a conflict that git merge-file does not find")
        known = {path for fate in self.fates for path in fate.allowed}
        for path, state in self.here.items():
            if path not in known and path not in RECORDS and after.get(path) != state:
                found[path] = ("lost", "a file that was never shipped has changed or is gone")
        for path in after.keys() - known - self.here.keys() - RECORDS:
            found[path] = ("stray", "a file nobody expects")
        return found

    def kind_of(self, fate, path, state):
        if fate.is_merge and None not in fate.allowed[path]:
            return "merge"
        if state and any(s and s.data == state.data for s in fate.allowed[path]):
            return "mode"
        return "stale"

    def told(self, fate, path, state):
        def name(one):
            if one is None:
                return "nothing"
            words = ["%d bytes %o" % (len(one.data), one.mode)]
            for side, other in zip(("base", "ours", "theirs"), fate.sides):
                if other.data == one.data:
                    words.append(side)
            return " ".join(words)

        right = " or ".join(map(name, fate.allowed[path]))
        return "%s: %s is there, right is %s" % (fate.kind, name(state), right)

    def lost(self, after, released):
        """By path: bytes of the user's that are nowhere any more. `released`: all contents that any
        release ships."""
        contents = {file.data for file in after.values()} | released
        fates = {path: fate for fate in self.fates for path in fate.allowed}
        gone = {}
        for path, file in self.here.items():
            if path not in RECORDS and file.data not in contents:
                size = self.missing(fates.get(path, Fate("own").at(path, file)), file, after)
                if size:
                    gone[path] = size
        return gone

    def missing(self, fate, file, after):
        """How many bytes of the lines that the user wrote in a file are at none of its places."""
        mine = lines_of(file) - lines_of(fate.sides[0] if fate.sides else None)
        left = [mine - lines_of(after.get(path)) for path in fate.allowed]
        return min(sum(len(line) * count for line, count in one.items()) for one in left)


# -- the service -----------------------------------------------------------------------------------


class Service:
    def __init__(self, repository):
        self.repository = Repository(repository)
        self.released = set()
        for number in range(len(self.repository.commits)):
            self.released.update(file.data for file in self.repository.shipped(number).values())

    def commits(self):
        return self.repository.commits

    def edit(self, project, older, newer, seed):
        """Lets a person work in an installation of `older`, and remembers what is there then."""
        base, new = self.repository.shipped(older), self.repository.shipped(newer)
        mine = [path for path in base if not path.startswith("mcp_server/")]
        changed = [path for path in mine if new.get(path) != base[path]]
        arriving = new.keys() - base.keys() - set(self.repository.renames(older, newer).values())
        incoming = [path for path in arriving if not path.startswith("mcp_server/")]
        texts = {path: file.data for path, file in new.items()}
        person = Person(os.path.join(project, TARGET), seed, mine, changed, incoming, texts)
        person.work()
        files = self.begin(project, older, newer, person.renamed)
        return {"edits": person.counts, "files": files}

    def begin(self, project, older, newer, renamed):
        """Remembers an installation as it is before the upgrade, and what its user has renamed;
        answers how many files it has."""
        self.project, self.older, self.newer = project, older, newer
        self.renamed = dict(renamed)
        self.before, self.folders = snapshot(project)
        return len(in_target(self.before))

    def touched(self):
        """The paths that are not as they were when it began."""
        now, _ = snapshot(self.project)
        return differing(now, self.before)

    def bases(self, is_told):
        """The commits an installation may be of: where nothing tells, all that fit it best."""
        if is_told:
            return [self.older]
        here = in_target(self.before)
        scores = {}
        for number in range(self.newer + 1):
            files = self.repository.shipped(number)
            same = sum(path in here and here[path].data == files[path].data for path in files)
            scores[number] = (same, -len(files))
        best = max(scores.values())
        return [self.older] + [n for n in scores if scores[n] == best and n != self.older]

    def verdict(self, actions, conflicts, is_told):
        """What is wrong after the upgrade, and the figures. `actions`: of the plan, path to action;
        `conflicts`: the paths in conflict before they were decided for ours; `is_told`: the base
        is recorded, or VERSION.txt names it."""
        now, folders = snapshot(self.project)
        here, after = in_target(self.before), in_target(now)
        bases = self.bases(is_told)
        views = []
        for number in bases:
            views.append(Expectation(self.repository, number, self.newer, here, self.renamed))
        problems = agreed_problems(views, after, conflicts)
        for path, size in views[0].lost(after, self.released).items():
            problems[path] = ("lost", "%d bytes of the user's are gone" % size)
        compare_plan(problems, here, after, actions)
        theirs = self.folders - folders_of(self.before)  # were empty before, as the user left them
        for folder in (folders & folders_of(self.before)) - folders_of(now) - folders_of(theirs):
            problems[folder] = ("stale", "a folder was left empty")
        for path in differing(now, self.before):
            if not path.startswith(TARGET + "/") and path != ".gitignore":
                problems[path] = ("lost", "a file of the project has changed")
        fates = views[0].fates
        return {
            "problems": [[path, *problems[path]] for path in sorted(problems)],
            "merges": sum(fate.is_merge for fate in fates),
            "followed": sum(fate.kind == "followed" and fate.is_mine for fate in fates),
            "conflicts": sum(bool(fate.conflict) and not fate.may_conflict for fate in fates),
            "ambiguous": len(bases) > 1,
        }


def differing(some, others):
    return sorted(p for p in some.keys() | others.keys() if some.get(p) != others.get(p))


def folders_of(files):
    """The folders in which a file lies, however deep."""
    used = {TARGET}
    for path in files:
        while "/" in path:
            path = path.rsplit("/", 1)[0]
            used.add(path)
    return used


def agreed_problems(views, after, conflicts):
    """What is wrong whichever of the bases was meant. Where they differ, it is right to ask."""
    problems = views[0].problems(after, conflicts)
    for view in views[1:]:
        other = view.problems(after, conflicts)
        for path in list(problems):
            asks = path in conflicts and view.base.get(path) != views[0].base.get(path)
            if path not in other or asks:
                del problems[path]
    return problems


def compare_plan(problems, here, after, actions):
    """Whether exactly what the plan says was done."""
    for path in here.keys() | after.keys() | actions.keys():
        was, now = here.get(path), after.get(path)
        action = actions.get(path, "unchanged")
        right = {
            "add": was is None and now is not None,
            "update": was is not None and now is not None and was != now,
            "merge": now is not None and was != now,
            "remove": was is not None and now is None,
        }.get(action, was == now)
        if not right and path not in RECORDS:
            has = "has" if was != now else "is not"
            text = "the plan says %s, and it %s changed" % (action, has)
            problems.setdefault(path, ("plan", text))


def main():
    service = Service(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        verb = request.pop("verb")
        try:
            answer = {"answer": getattr(service, verb)(**request)}
        except Exception as error:  # told to the caller, who fails
            answer = {"error": "%s: %s: %s" % (verb, type(error).__name__, error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
