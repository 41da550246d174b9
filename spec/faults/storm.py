#!/usr/bin/env python3
"""Starts many programs at the same moment and tells how each one ended.

    storm.py FILE     FILE is JSON: {"commands": [{"argv", "gate" (optional)}], "directory",
                      "environment", "seconds", "open": path or null, "waves" (1)}

All children wait at one pipe; its end is closed, and they run. Each command is started "waves"
times, one after the other, by the same child. When all but one of them have ended, or none has for
half of "seconds", the file "open" is made, for which the last one may be waiting. Prints one JSON
object a command: {"argv", "code", "seconds", "began", "ended", "pid", "stdout", "stderr"}; times
are of the monotonic clock. A command that has not ended after "seconds" is killed and has the code
null.
"""

import json
import os
import selectors
import subprocess
import sys
import time


def one(command, given, start):
    """In a child of its own: waits for the start, runs the command, tells."""
    os.read(start, 1)
    for _ in range(given.get("waves", 1)):
        began = time.monotonic()
        program = subprocess.Popen(
            command["argv"],
            cwd=given["directory"],
            env=given["environment"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, err = program.communicate(timeout=given["seconds"])
            code = program.returncode
        except subprocess.TimeoutExpired:
            program.kill()
            out, err = program.communicate()
            code = None
        ended = time.monotonic()
        yield {
            "argv": command["argv"],
            "code": code,
            "seconds": ended - began,
            "began": began,
            "ended": ended,
            "pid": program.pid,
            "stdout": out.decode("utf-8", "replace"),
            "stderr": err.decode("utf-8", "replace"),
        }


def begin(command, given, start, others):
    """Forks a child for one command; the pipe that brings its account."""
    told, tell = os.pipe()
    if os.fork() != 0:
        os.close(tell)
        return told
    for fd in others:
        os.close(fd)
    with os.fdopen(tell, "wb") as out:
        for account in one(command, given, start):
            out.write(json.dumps(account).encode() + b"\n")
            out.flush()
    os._exit(0)


def main():
    with open(sys.argv[1], encoding="utf-8") as data:
        given = json.load(data)
    start, go = os.pipe()
    pipes = []
    for command in given["commands"]:
        pipes.append(begin(command, given, start, [go]))
    time.sleep(0.05)
    os.close(go)
    said = collect(pipes, given)
    for pipe in pipes:
        sys.stdout.write(said[pipe].decode())
        os.wait()
    return 0


def collect(pipes, given):
    """Reads all accounts to their end; opens the gate when one command is left."""
    waiting, said, ended = selectors.DefaultSelector(), {pipe: b"" for pipe in pipes}, 0
    for pipe in pipes:
        waiting.register(pipe, selectors.EVENT_READ)
    while ended < len(pipes):
        ready = waiting.select(given["seconds"] / 2)
        for key, _ in ready:
            data = os.read(key.fd, 65536)
            said[key.fd] += data
            if not data:
                waiting.unregister(key.fd)
                ended += 1
        if given.get("open") and (not ready or ended >= len(pipes) - 1):
            with open(given["open"], "w", encoding="utf-8"):
                pass
    return said


if __name__ == "__main__":
    sys.exit(main())
