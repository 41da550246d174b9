#!/usr/bin/env python3
"""The independent checker of the integration tests. It shares no code with praxlua.

    oracle.py list ROOT [--target NAME] [--times] [--all] > LISTING
        The canonical listing of the project ROOT, one JSON object. "Byte-identical" as in DESIGN
        section 5: path, type, mode, link target and content of everything, less what a run may
        leave under the target (TRANSIENT below); the venv is listed apart.
        --target  the installation inside ROOT (default .praxis-os)
        --times   modification times too; --all leaves nothing out (for dry runs and refusals)
    oracle.py compare A B [--part tree|venv|all] [--ignore PATH]... [--relocatable]
        Prints the differences, one a line, nothing when equal; exit 1 when there are any.
        --ignore leaves out what is at and below PATH
        --relocatable: A and B are two projects; the venv's own absolute paths do not count
    oracle.py expect BEFORE --repository R --old C --new C --map FROM=TO... [--keep TO]...
        The listing a right upgrade of the listing BEFORE leads to: shipped and unmodified files
        replaced, added or removed, everything else kept (--keep TO: nothing removed below TO)
    oracle.py manifest FILE --repository R --old C --new C --map FROM=TO...
        Where a manifest of shipped files is wrong, one a line; exit 1 when it is: it has to record
        what NEW ships, and may still record what OLD shipped where that was left in place
    oracle.py ask TARGET        MCP handshake with the server of TARGET's state file, over HTTP
    oracle.py processes ROOT    the live processes whose working directory is ROOT or beneath it
    oracle.py stop TARGET       stops the server of TARGET's state file, after proving it is its own
    oracle.py serve             answers one JSON request a line until its input ends, for the fault
        campaigns (spec/faults/judge.lua): {"verb": "list", ...} gives {"answer": ...} or
        {"error": "..."}. The verbs are the functions of the class Service below
    oracle.py answer DIRECTORY PID
        The command lines above, one after another, for the process PID and until that ends: each is
        the text of DIRECTORY/question, announced by a line in the fifo DIRECTORY/ask; what is
        answered lies in DIRECTORY/said and is announced by a line in the fifo DIRECTORY/done. A
        question is {"argv": [...], "environment": {...}}, an answer {"code", "stdout", "stderr"}
"""

import argparse
import contextlib
import ctypes
import functools
import hashlib
import io
import json
import os
import re
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
import traceback

TRANSIENT = {b".cache", b".backups", b".upgrade", b".upgrade-lock", b".mcp_server_state.json"}
# What a package manager writes with the place of the environment, or a hash of it, inside.
PLACE_DEPENDENT = ("/RECORD", "/pyvenv.cfg")


def text(path):
    """Any bytes as text, reversibly: a byte that is not UTF-8 as \\xHH, a backslash doubled."""
    return path.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


# -- listing ---------------------------------------------------------------------------------------


def file_hash(path):
    digest = hashlib.sha256()
    with open(path, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NOFOLLOW)) as data:
        while block := data.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def describe(path, times):
    info = os.lstat(path)
    entry = {"mode": "%04o" % stat.S_IMODE(info.st_mode)}
    if stat.S_ISREG(info.st_mode):
        entry.update(type="file", sha256=file_hash(path), size=info.st_size)
    elif stat.S_ISLNK(info.st_mode):
        entry.update(type="link", link=text(os.readlink(path)))
    elif stat.S_ISDIR(info.st_mode):
        entry.update(type="directory")
    else:
        entry.update(type="special")
    if times:
        entry["mtime"] = info.st_mtime_ns
    return entry


def listing(root, target, times, everything):
    parts = {"tree": {}, "venv": {}}
    pending = [b""]
    while pending:
        relative = pending.pop()
        path = os.path.join(root, relative) if relative else root
        if not everything:
            inside = relative[len(target) + 1 :] if relative.startswith(target + b"/") else b""
            if inside in TRANSIENT or os.path.basename(relative) == b"__pycache__":
                continue
        entry = describe(path, times)
        in_venv = not everything and (relative + b"/").startswith(target + b"/venv/")
        parts["venv" if in_venv else "tree"][text(relative) or "."] = entry
        if entry["type"] == "directory":
            pending.extend(os.path.join(relative, name) for name in os.listdir(path))
    return {"root": text(root), "target": text(target), **parts}


# -- comparison ------------------------------------------------------------------------------------


def load(path):
    with open(path, encoding="utf-8") as data:
        return json.load(data)


def place_dependent(path):
    """True for files that hold the environment's absolute path: their content is not compared."""
    return path.endswith(PLACE_DEPENDENT) or "/venv/bin/" in path


def differences(a, b, part, ignore, relocatable):
    found = []
    for name in ("tree", "venv") if part == "all" else (part,):
        one, other = a[name], b[name]
        for path in sorted(one.keys() | other.keys()):
            if any(path == skipped or path.startswith(skipped + "/") for skipped in ignore):
                continue
            if path not in other:
                found.append("missing: %s (%s)" % (path, one[path]["type"]))
            elif path not in one:
                found.append("extra: %s (%s)" % (path, other[path]["type"]))
            else:
                skip = {"sha256", "size"} if relocatable and place_dependent(path) else set()
                for key in sorted((one[path].keys() | other[path].keys()) - skip):
                    left, right = one[path].get(key), other[path].get(key)
                    if left != right:
                        found.append("changed: %s: %s %s -> %s" % (path, key, left, right))
    return found


# -- what a right upgrade leads to -----------------------------------------------------------------


def shipped(repository, commit, mapping):
    """{target path: git blob id} of what a commit ships."""
    out = subprocess.run(
        ["git", "-C", repository, "ls-tree", "-r", "-z", commit], check=True, capture_output=True
    ).stdout
    files = {}
    for line in filter(None, out.split(b"\0")):
        head, path = line.split(b"\t", 1)
        for source, target in mapping:
            if path.startswith(source + b"/"):
                files[text(target + path[len(source) :])] = head.split()[2].decode()
    return files


def blobs(repository, identities):
    """{blob id: (sha256, size)} through one git cat-file."""
    found = {}
    with subprocess.Popen(
        ["git", "-C", repository, "cat-file", "--batch"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as git:
        for identity in sorted(set(identities)):
            git.stdin.write(identity.encode() + b"\n")
            git.stdin.flush()
            size = int(git.stdout.readline().split()[2])
            data = git.stdout.read(size + 1)[:size]
            found[identity] = (hashlib.sha256(data).hexdigest(), size)
        git.stdin.close()
    return found


def expect(before, repository, old, new, mapping, keep):
    prefix = before["target"] + "/"
    was, becomes = shipped(repository, old, mapping), shipped(repository, new, mapping)
    content = blobs(repository, list(was.values()) + list(becomes.values()))
    tree = before["tree"]
    emptied = set()
    for path in sorted(was.keys() | becomes.keys()):
        here = tree.get(prefix + path)
        ancestor = content.get(was.get(path), (None, 0))
        incoming = content.get(becomes.get(path), (None, 0))
        if here is None and path in was:
            continue  # the user removed a shipped file
        if here is not None and here.get("sha256") not in (ancestor[0], incoming[0]):
            if path in becomes and incoming[0] != ancestor[0]:
                raise SystemExit("conflict, nothing to expect: " + path)
            continue  # the user's own, upstream did not change it
        if path in becomes:
            entry = dict(here) if here else {"mode": "0644", "type": "file"}
            entry.update(sha256=incoming[0], size=incoming[1])
            tree[prefix + path] = entry
            parent = os.path.dirname(prefix + path)
            while parent not in tree:
                tree[parent] = {"mode": "0755", "type": "directory"}
                parent = os.path.dirname(parent)
        elif here is not None and not any(path.startswith(kept + "/") for kept in keep):
            del tree[prefix + path]
            emptied.add(os.path.dirname(prefix + path))
    while emptied:
        directory = emptied.pop()
        if directory in tree and not any(p.startswith(directory + "/") for p in tree):
            del tree[directory]
            emptied.add(os.path.dirname(directory))
    return before


def manifest(path, repository, old, new, mapping):
    was, now = shipped(repository, old, mapping), shipped(repository, new, mapping)
    content = blobs(repository, list(was.values()) + list(now.values()))
    right = {**was, **now}
    found = []
    said = {path: entry["checksum"] for path, entry in load(path)["files"].items()}
    for path in sorted(right.keys() | said.keys()):
        wanted = "sha256:" + content[right[path]][0] if path in right else None
        left_out = path not in said and path not in now
        if not left_out and said.get(path) != wanted:
            found.append("%s: shipped %s, recorded %s" % (path, wanted, said.get(path)))
    return found


# -- the server ------------------------------------------------------------------------------------


def server_state(target):
    return load(os.path.join(target, ".mcp_server_state.json"))


def post(url, message, session):
    import urllib.request  # a third of the start of this program; the other verbs go without

    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2025-06-18",
    }
    if session:
        headers["Mcp-Session-Id"] = session
    request = urllib.request.Request(url, json.dumps(message).encode(), headers)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=10) as answer:
        body = answer.read().decode()
        session = answer.headers.get("Mcp-Session-Id", session)
    for line in body.splitlines():
        if line.startswith("data:"):
            body = line[5:]
    return (json.loads(body) if body.strip() else None), session


def ask(target):
    state = server_state(target)
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "oracle", "version": "1"},
    }
    first = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    answer, session = post(state["url"], first, None)
    post(state["url"], {"jsonrpc": "2.0", "method": "notifications/initialized"}, session)
    tools, page = [], {}
    while page is not None:
        request = {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": page}
        result = post(state["url"], request, session)[0]["result"]
        tools += result["tools"]
        page = {"cursor": result["nextCursor"]} if "nextCursor" in result else None
    return {
        "version": answer["result"]["serverInfo"]["version"],
        "tools": sorted(tool["name"] for tool in tools),
        "pid": state["pid"],
        "state_version": state.get("version"),
    }


def processes(root):
    root = os.path.realpath(root)
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            directory = os.readlink("/proc/%s/cwd" % name)
            if not (directory + "/").startswith(root + "/"):
                continue
            with open("/proc/%s/cmdline" % name, "rb") as data:
                command = [text(word) for word in data.read().split(b"\0")[:-1]]
        except OSError:
            continue
        if command:
            found.append({"pid": int(name), "command": command})
    return sorted(found, key=lambda process: process["pid"])


def stop(target):
    """Only a process that runs `-m mcp_server` in the target's own project is stopped."""
    try:
        pid = server_state(target)["pid"]
    except FileNotFoundError:
        return "no server"
    project = os.path.dirname(os.path.realpath(target))
    own = [p for p in processes(project) if p["pid"] == pid and "mcp_server" in p["command"]]
    if not own:
        return "not ours, left alone: %s" % pid
    handle = os.pidfd_open(pid)
    try:
        for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], patience)[0]:
                return "stopped"
    finally:
        os.close(handle)
    raise SystemExit("server %d does not end" % pid)


# -- serving the fault campaigns -------------------------------------------------------------------

# What differs between two runs of praxlua that did the same: sessions, times, names of backups.
UUID = rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
VARYING = (
    (re.compile(UUID), b"<session>"),
    (re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| UTC)?"), b"<time>"),
    (re.compile(rb"\d{4}-\d\d-\d\d-\d{6}(-\d+)?"), b"<time>"),
    (re.compile(rb"\d{4}-\d\d-\d\d"), b"<day>"),
)
# The checksum of a document over itself, which covers its times.
OWN_HASH = (re.compile(rb'"[0-9a-f]{64}"'), b'"<hash>"')
NUMBER = (re.compile(rb"\b\d+\.\d+(e[-+]?\d+)?\b|\b\d{2,}\b"), b"<number>")
TEMPORARY = re.compile(rb"\.px-\d+-\d+")
# What a server leaves that is killed while it writes its state file.
SERVER_TEMPORARY = re.compile(rb"\.mcp_server_state\.\d+\.tmp\Z")
PROCESS = re.compile(rb"child-\d+")
# The names that may stay under the target's own folders once no session is open.
SETTLED = (
    rb"\.cache(/state(/%s\.json(\.previous)?)?)?" % UUID,
    rb"\.cache/(upgrade-summary-<time>\.md|upgrade-validation-<time>\.json)",
    rb"\.cache/mcp_server\.(log|start\.json)",
    rb"\.cache/objects(-previous)?\.tar\.zst",
    rb"\.cache/environment-%s(/.*)?" % UUID,
    rb"\.cache/objects(-previous)?\.tar\.zst",
    rb"\.backups(/<time>(/(MANIFEST\.json|backup\.tar\.zst|requirements-snapshot\.txt))?)?",
    rb"\.mcp_server_state\.json",
)
ALLOWED = re.compile(rb"(%s)\Z" % b"|".join(SETTLED), re.DOTALL)
OPEN_STATES = ("in_progress", "waiting", "rollback_failed")


@functools.lru_cache(maxsize=8192)  # from case to case most texts are the same
def normal(data, *further):
    for pattern, word in (*VARYING, *further):
        data = pattern.sub(word, data)
    return data


def records(data):
    """The kinds of a journal's records, the length of each batch, and whether the end is torn."""
    at, kinds = 0, []
    while at + 32 <= len(data):
        length, kind = (int.from_bytes(data[at + i : at + i + 4], "little") for i in (0, 4))
        if at + 32 + length > len(data):
            break
        kinds.append([kind, length if kind == 2 else 0])
        at += 32 + length
    return json.dumps([kinds, at < len(data)]).encode()


def walk(top):
    """Everything beneath `top`: path relative to it (bytes), lstat."""
    pending = [b""]
    while pending:
        relative = pending.pop()
        try:
            names = os.listdir(os.path.join(top, relative))
        except FileNotFoundError:
            continue
        for name in sorted(names):
            path = os.path.join(relative, name)
            info = os.lstat(os.path.join(top, path))
            yield path, info
            if stat.S_ISDIR(info.st_mode):
                pending.append(path)


def portrait(folder, name):
    """What tells whether anything was done to a tree: inodes, and the times of their last change."""
    top = os.path.join(os.fsencode(folder), os.fsencode(name))
    if not os.path.lexists(top):
        return None
    found = [(b"", os.lstat(top)), *walk(top)]
    return [(path, info.st_ino, info.st_ctime_ns, info.st_size) for path, info in found]


def identity(root, path, info):
    """What a crash state is at one path, less what differs from run to run."""
    name = os.path.basename(path)
    place = os.path.join(root, path)
    if stat.S_ISLNK(info.st_mode):
        return normal(os.readlink(place), NUMBER)
    if not stat.S_ISREG(info.st_mode):
        return b""
    if name.endswith(b".zst"):  # holds times of its own
        return b"archive %d" % (info.st_size > 0)
    with open(place, "rb") as file:
        data = file.read()
    if name.startswith(b"journal"):
        return records(data)
    return normal(data.replace(root, b"<root>"), OWN_HASH, TEMPORARY_NAME, NUMBER)


TEMPORARY_NAME = (TEMPORARY, b".px")


def is_regular(path):
    return stat.S_ISREG(os.lstat(path).st_mode)


def broken_seal(path):
    """What is wrong with a sealed document (lua/praxlua/seal.lua), or None."""
    if not is_regular(path):
        return "is no file"
    with open(path, "rb") as file:
        data = file.read()
    found = re.search(rb'\n  "length": (\d+),\n  "sha256": "([0-9a-f]{64})"\n}\n\Z', data)
    if not found:
        return "has no seal"
    if int(found[1]) != len(data):
        return "has %d bytes and says %d" % (len(data), int(found[1]))
    content = data[: found.start(2) - len(b'  "sha256": "')]
    if hashlib.sha256(content).hexdigest().encode() != found[2]:
        return "is not what was sealed"
    return None


def broken_backup(directory, name):
    """What is wrong with the backup in a directory, or None."""
    files = {b"MANIFEST.json", b"backup.tar.zst"}
    further = set(os.listdir(directory)) - files
    for name_of_file in sorted(files | further):
        if not is_regular(os.path.join(directory, name_of_file)):
            return "%s is no file" % text(name_of_file)
    if not further <= {b"requirements-snapshot.txt"}:
        return "holds %s" % text(sorted(further)[0])
    with open(os.path.join(directory, b"MANIFEST.json"), "rb") as file:
        manifest = json.load(file)
    archive = os.path.join(directory, b"backup.tar.zst")
    if os.path.getsize(archive) != manifest["archive"]["bytes"]:
        return "the archive has another size"
    if file_hash(archive) != manifest["archive"]["sha256"]:
        return "the archive is another one"
    if os.path.basename(manifest["backup_path"].rstrip("/")) != text(name):
        return "was made as %s" % manifest["backup_path"]
    for path in further:
        if file_hash(os.path.join(directory, path)) != manifest["requirements_sha256"]:
            return "%s is another one" % text(path)
    return None


def child_ids():
    """The processes whose parent is this one, ended ones too."""
    try:  # not every kernel has it
        with open("/proc/self/task/%d/children" % os.getpid()) as data:
            return [int(word) for word in data.read().split()]
    except OSError:
        pass
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % name, "rb") as data:
                fields = data.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.append(int(name))
    return found


def children():
    """The live processes below this one; those that have ended are waited for."""
    found = []
    for pid in child_ids():
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                with open("/proc/%d/cmdline" % pid, "rb") as data:
                    command = text(data.read().replace(b"\0", b" ").strip())
                found.append({"pid": pid, "command": command})
        except OSError:
            continue
    return found


class Service:
    """One request, one function. Paths are texts; the answer is JSON."""

    def __init__(self):
        # What a program leaves behind becomes our child, and so is found.
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
        self.kept = {}
        self.copied = {}

    def _listing(self, given):
        return self.kept[given] if isinstance(given, str) else given

    def list(self, root, target=".praxis-os", times=False, all=False, records=(), keep=None):
        """As `list` above. `records`: files whose sessions and times do not count. `keep`: remember
        the listing by this name, for `compare`."""
        root = os.fsencode(root)
        found = listing(root, os.fsencode(target), times, all)
        for path in [p for p in found["tree"] if SERVER_TEMPORARY.search(os.fsencode(p))]:
            del found["tree"][path]
        for entry in (*found["tree"].values(), *found["venv"].values()):
            if times:  # a number of so many digits does not survive every reader of JSON
                entry["mtime"] = str(entry["mtime"])
        self._without_times(found, root, records)
        if keep:
            self.kept[keep] = found
        return found

    def _without_times(self, found, root, records):
        """Lists records as they are without their sessions and times."""
        for path in records:
            entry = found["tree"].get(path)
            if entry and entry["type"] == "file":
                with open(os.path.join(os.fsencode(root), os.fsencode(path)), "rb") as file:
                    data = normal(file.read(), OWN_HASH)
                new = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
                found["tree"][path] = {**entry, **new}

    def keep(self, name, listing):
        """Remembers a listing of an earlier process by a name."""
        self.kept[name] = listing

    def compare(self, a, b, part="all", ignore=()):
        """The differences of two listings, each one itself or the name it was kept by."""
        return differences(self._listing(a), self._listing(b), part, ignore, False)

    def matches(self, root, target, records, wanted, exact=(), temporary=False):
        """How the project differs from kept listings, given as {name: kept name}: `equal`, or a
        list of lines in `different`. Those in `exact` are compared with the records as they are.
        `temporary`: files that were being written do not count."""
        answer = {"equal": {}, "different": {}}
        exactly = self.list(root, target)
        if temporary:
            tree = exactly["tree"]
            exactly["tree"] = {p: tree[p] for p in tree if not TEMPORARY.search(os.fsencode(p))}
        found = {True: exactly, False: {**exactly, "tree": dict(exactly["tree"])}}
        self._without_times(found[False], root, records)
        for name, kept in wanted.items():
            lines = differences(self.kept[kept], found[name in exact], "all", (), False)
            if lines:
                answer["different"][name] = lines
            else:
                answer["equal"][name] = True
        return answer

    def expect(self, before, repository, old, new, map, keep=()):
        pairs = [pair(words) for words in map]
        copy = json.loads(json.dumps(self._listing(before)))
        return expect(copy, repository, old, new, pairs, list(keep))

    def manifest(self, path, repository, old, new, map):
        return manifest(path, repository, old, new, [pair(words) for words in map])

    def times(self, root, paths):
        """Modification times in nanoseconds, as texts (they are too long for a float)."""
        root = os.fsencode(root)
        return {p: str(os.lstat(os.path.join(root, os.fsencode(p))).st_mtime_ns) for p in paths}

    def digest(self, root, further=()):
        """One hash of everything beneath `root` and further folders, equal for two runs that did the
        same."""
        digest = hashlib.sha256()
        for top in map(os.fsencode, (root, *further)):
            lines = []
            for path, info in walk(top):
                name = normal(PROCESS.sub(b"child", TEMPORARY.sub(b".px", path)))
                form = b"%o %d" % (info.st_mode, 0 if stat.S_ISDIR(info.st_mode) else info.st_nlink)
                lines.append(b"\0".join((name, form, identity(top, path, info))))
            digest.update(b"\0\0".join(sorted(lines)) + b"\0\0\0")
        return digest.hexdigest()

    def sessions(self, target):
        """The sessions of a target by id: `folder` whether its .upgrade/ID is there, `status` and
        `kind` from its state file, `problem` where that is no JSON object of its form."""
        found = {}
        target = os.fsencode(target)

        def entry(name):
            return found.setdefault(name[:36].decode(), {"folder": False})

        for folder in (b".upgrade", b".cache/state"):
            place = os.path.join(target, folder)
            for name in sorted(os.listdir(place)) if os.path.isdir(place) else ():
                if not re.match(UUID, name):
                    continue
                if folder == b".upgrade":
                    entry(name)["folder"] = True
                    continue
                if not re.fullmatch(UUID + rb"\.json", name):
                    continue  # the generation before
                try:
                    if not stat.S_ISREG(os.lstat(os.path.join(place, name)).st_mode):
                        raise ValueError("no file")  # a fifo would never be read
                    session = load(os.path.join(place, name))
                    entry(name)["status"] = session["status"]
                    entry(name)["kind"] = session["metadata"].get("kind")
                except (ValueError, KeyError, TypeError) as error:
                    entry(name)["problem"] = "%s: %s" % (text(name), error)
        for session in found.values():
            session["open"] = session["folder"] or session.get("status") in OPEN_STATES
        return found

    def seals(self, target, names):
        """What is wrong with the sealed files of a target, those of its sessions too."""
        target = os.fsencode(target)
        state = os.path.join(target, b".cache/state")
        paths = [os.path.join(target, os.fsencode(name)) for name in names]
        if os.path.isdir(state):
            own = re.compile(UUID + rb"\.json(\.previous)?\Z")
            paths += [os.path.join(state, n) for n in sorted(os.listdir(state)) if own.match(n)]
        found = {text(path): broken_seal(path) for path in paths if os.path.exists(path)}
        return ["%s %s" % one for one in found.items() if one[1]]

    def backups(self, target):
        """What is wrong with the backups of a target: each is complete, and is what it says."""
        place, problems = os.path.join(os.fsencode(target), b".backups"), []
        for name in sorted(os.listdir(place)) if os.path.isdir(place) else []:
            try:
                problem = broken_backup(os.path.join(place, name), name)
            except (OSError, ValueError, KeyError, TypeError) as error:
                problem = "%s: %s" % (type(error).__name__, error)
            if problem:
                problems.append("backup %s: %s" % (text(name), problem))
        return problems

    def git(self, directory, environment):
        """What a repository is, less what differs from run to run: `digest`; and `staged`, the paths
        whose next version is in the index."""

        def run(*argv):
            command = ["git", "--no-optional-locks", "-C", directory, *argv]
            return subprocess.run(command, env=environment, capture_output=True).stdout

        own = os.path.join(os.fsencode(directory), run("rev-parse", "--git-dir").strip())
        locks = [path for path, _ in walk(own) if path.endswith(b".lock")]
        staged = [p for p in run("diff", "--cached", "--name-only", "-z").split(b"\0") if p]
        parts = [run("ls-files", "--stage", "-z"), run("rev-list", "--count", "HEAD"), *locks]
        digest = hashlib.sha256(b"\n".join(normal(part) for part in parts))
        return {"digest": digest.hexdigest()[:16], "staged": [text(path) for path in staged]}

    def leftovers(self, project, target=".praxis-os", empty=()):
        """What may not be there once no session is open, one line each. `empty`: folders that have
        to be empty."""
        project, found = os.fsencode(project), []
        inside = os.fsencode(target) + b"/"
        for path, _ in walk(project):
            if TEMPORARY.search(path) or b".kept-" in path:
                found.append(text(path))
            elif path.startswith(inside):
                own = path[len(inside) :]
                top = own.split(b"/")[0]
                # The names of backups and reports hold a time, those of sessions do not.
                if top in TRANSIENT and not ALLOWED.match(VARYING[2][0].sub(b"<time>", own)):
                    found.append(text(path))
        for folder in empty:
            if os.path.isdir(folder):
                found += [text(os.path.join(os.fsencode(folder), p)) for p, _ in walk(folder.encode())]
        return found

    def processes(self, root):
        return processes(root)

    def copy(self, source, destination, names):
        """Each of `names` in `destination` becomes what it is in `source`: links, hard links, modes
        and times too. What nobody touched since the last time is that already."""
        known = self.copied.setdefault((source, destination), {})
        copied = [n for n in names if n not in known or known[n] != portrait(destination, n)]
        for name in copied:
            shutil.rmtree(os.path.join(destination, name), ignore_errors=True)
        there = [os.path.join(source, name) for name in copied]
        if there:
            subprocess.run(["cp", "-a", "--", *there, destination], check=True)
        for name in copied:
            known[name] = portrait(destination, name)

    def remove(self, path):
        shutil.rmtree(path)

    def start_server(self, target, environment):
        """Starts the server of an installation and waits until it answers."""
        project = os.path.dirname(target)
        argv = [target + "/venv/bin/python", "-m", "mcp_server", "--transport", "http"]
        own = {**environment, "PYTHONPATH": target, "PROJECT_ROOT": project}
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        subprocess.Popen(argv, cwd=project, env=own, stderr=subprocess.DEVNULL, **quiet)
        until = time.monotonic() + 10
        while not os.path.exists(target + "/.mcp_server_state.json"):
            if time.monotonic() > until:
                raise TimeoutError("the server does not start")
            time.sleep(0.01)
        return ask(target)

    def await_servers(self, root):
        """Waits until only servers work in a folder: the tools of a killed praxlua end with it."""
        until = time.monotonic() + 5
        while any("mcp_server" not in process["command"] for process in processes(root)):
            if time.monotonic() > until:
                raise TimeoutError("a tool lives on")
            time.sleep(0.01)

    def stop_servers(self, project):
        """Ends every server that works in a project."""
        for process in processes(project):
            if "mcp_server" in process["command"]:
                os.kill(process["pid"], signal.SIGKILL)
        self._left()

    def ask(self, target):
        try:
            return ask(target)
        except (OSError, ValueError, KeyError, TypeError) as error:
            return {"problem": "%s: %s" % (type(error).__name__, error)}

    def run(self, argv, directory, environment, timeout=60, spare=None):
        """Runs a program to its end. `left`: processes of it that are still alive a moment later;
        they are killed, but for those with `spare` in their command."""
        out, err = os.memfd_create("out"), os.memfd_create("err")
        began = time.monotonic()
        try:
            program = subprocess.Popen(
                argv, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
            try:
                code = program.wait(timeout)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()
                code = None
            answer = {"code": code, "seconds": time.monotonic() - began}
            for name, fd in (("stdout", out), ("stderr", err)):
                answer[name] = os.pread(fd, os.fstat(fd).st_size, 0).decode("utf-8", "replace")
        finally:
            os.close(out)
            os.close(err)
        answer["left"] = self._left(spare)
        return answer

    def _left(self, spare=None):
        until = time.monotonic() + 1.0
        while left := [p for p in children() if not spare or spare not in p["command"]]:
            if time.monotonic() > until:
                break
            time.sleep(0.01)
        for process in left:
            os.kill(process["pid"], signal.SIGKILL)
        return left


def serve():
    service = Service()
    for line in sys.stdin:
        request = json.loads(line)
        verb = request.pop("verb")
        try:
            answer = {"answer": getattr(service, verb)(**request)}
        except (Exception, SystemExit) as error:  # told to the caller, who fails
            answer = {"error": "%s: %s: %s" % (verb, type(error).__name__, error)}
        print(json.dumps(answer), flush=True)
    for process in children():
        os.kill(process["pid"], signal.SIGKILL)
    return 0


# -- answering command lines -----------------------------------------------------------------------


def answer_one(argv, environment):
    """What the program would say and exit with, had it been started with these words."""
    os.environ.clear()
    os.environ.update(environment)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(argv)
        except SystemExit as end:
            code = end.code
        except Exception:
            traceback.print_exc()
            code = 1
    if isinstance(code, str):
        print(code, file=err)
        code = 1
    return {"code": code or 0, "stdout": out.getvalue(), "stderr": err.getvalue()}


def answer(directory, pid):
    asker = os.pidfd_open(pid)
    fifos = [os.path.join(directory, name) for name in ("ask", "done")]
    for path in fifos:
        os.mkfifo(path)
    # Opened for both ways, so that neither blocks nor ends when the other side comes and goes.
    ask, done = (os.open(path, os.O_RDWR) for path in fifos)
    with open(os.path.join(directory, "pid.new"), "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    os.rename(file.name, os.path.join(directory, "pid"))
    while True:
        ready = select.select([ask, asker], [], [])[0]
        if ask not in ready:  # it was killed, and has not cleared up
            shutil.rmtree(directory, ignore_errors=True)
            return 0
        if os.read(ask, 4096).startswith(b"end"):
            return 0
        with open(os.path.join(directory, "question"), "rb") as data:
            question = json.loads(data.read().decode("utf-8", "surrogateescape"))
        with open(os.path.join(directory, "said"), "w", encoding="utf-8") as said:
            json.dump(answer_one(**question), said)
        os.write(done, b"said\n")


# -- command line ----------------------------------------------------------------------------------


def pair(argument):
    source, target = argument.split("=")
    return os.fsencode(source), os.fsencode(target)


@functools.cache
def command_line():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("list")
    verb.add_argument("root", type=os.fsencode)
    verb.add_argument("--target", type=os.fsencode, default=b".praxis-os")
    verb.add_argument("--times", action="store_true")
    verb.add_argument("--all", action="store_true")
    verb = verbs.add_parser("compare")
    verb.add_argument("a")
    verb.add_argument("b")
    verb.add_argument("--part", choices=("tree", "venv", "all"), default="all")
    verb.add_argument("--ignore", action="append", default=[])
    verb.add_argument("--relocatable", action="store_true")
    verb = verbs.add_parser("expect")
    verb.add_argument("before")
    verb.add_argument("--repository", required=True)
    verb.add_argument("--old", required=True)
    verb.add_argument("--new", required=True)
    verb.add_argument("--map", type=pair, action="append", required=True)
    verb.add_argument("--keep", action="append", default=[])
    verb = verbs.add_parser("manifest")
    verb.add_argument("path")
    verb.add_argument("--repository", required=True)
    verb.add_argument("--old", required=True)
    verb.add_argument("--new", required=True)
    verb.add_argument("--map", type=pair, action="append", required=True)
    for name in ("ask", "stop", "processes"):
        verbs.add_parser(name).add_argument("path")
    verbs.add_parser("serve")
    verb = verbs.add_parser("answer")
    verb.add_argument("directory")
    verb.add_argument("pid", type=int)
    return parser


def report(found):
    for line in found:
        print(line.encode("ascii", "backslashreplace").decode())
    return 1 if found else 0


def main(argv=None):
    given = command_line().parse_args(argv)
    if given.verb == "serve":
        return serve()
    if given.verb == "answer":
        return answer(given.directory, given.pid)
    if given.verb == "compare":
        one, other = load(given.a), load(given.b)
        return report(differences(one, other, given.part, given.ignore, given.relocatable))
    if given.verb == "manifest":
        return report(manifest(given.path, given.repository, given.old, given.new, given.map))
    if given.verb == "list":
        found = listing(given.root, given.target, given.times, given.all)
    elif given.verb == "expect":
        found = expect(
            load(given.before), given.repository, given.old, given.new, given.map, given.keep
        )
    else:
        found = {"ask": ask, "stop": stop, "processes": processes}[given.verb](given.path)
    print(json.dumps(found, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
