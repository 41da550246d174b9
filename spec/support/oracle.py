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
"""

import argparse
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.request

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
            with open("/proc/%s/cmdline" % name, "rb") as data:
                command = [text(word) for word in data.read().split(b"\0")[:-1]]
        except OSError:
            continue
        if command and (directory + "/").startswith(root + "/"):
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
    for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        signal.pidfd_send_signal(handle, number)
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if not any(p["pid"] == pid for p in processes(project)):
                os.close(handle)
                return "stopped"
            time.sleep(0.01)
    raise SystemExit("server %d does not end" % pid)


# -- command line ----------------------------------------------------------------------------------


def pair(argument):
    source, target = argument.split("=")
    return os.fsencode(source), os.fsencode(target)


def arguments():
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
    return parser.parse_args()


def report(found):
    for line in found:
        print(line.encode("ascii", "backslashreplace").decode())
    return 1 if found else 0


def main():
    given = arguments()
    if given.verb == "compare":
        one, other = load(given.a), load(given.b)
        return report(differences(one, other, given.part, given.ignore, given.relocatable))
    if given.verb == "manifest":
        return report(manifest(given.path, given.repository, given.old, given.new, given.map))
    if given.verb == "list":
        answer = listing(given.root, given.target, given.times, given.all)
    elif given.verb == "expect":
        answer = expect(
            load(given.before), given.repository, given.old, given.new, given.map, given.keep
        )
    else:
        answer = {"ask": ask, "stop": stop, "processes": processes}[given.verb](given.path)
    print(json.dumps(answer, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
