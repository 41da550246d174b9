"""Runs a program at a terminal of its own and types what a script says: a JSON object on standard
input with `argv`, `directory`, `environment`, `seconds` and `steps`, a list of [text to wait for,
text to type]. Prints a JSON object: `code`, `output` (bytes as latin-1), and `problem` when a text
did not come in time."""
import json
import os
import pty
import select
import signal
import sys
import time

script = json.load(sys.stdin)
deadline = time.monotonic() + script["seconds"]
pid, terminal = pty.fork()
if pid == 0:
    os.chdir(script["directory"])
    os.execve(script["argv"][0], script["argv"], script["environment"])

output, seen, problem = b"", 0, None


def more():
    """Reads what is there; False at the end, or when the time is over."""
    global output
    left = deadline - time.monotonic()
    if left <= 0 or not select.select([terminal], [], [], left)[0]:
        return False
    try:
        data = os.read(terminal, 65536)
    except OSError:  # the program closed its side
        return False
    output += data
    return bool(data)


for wanted, keys in script["steps"] or []:
    wanted = wanted.encode("latin-1")
    while wanted not in output[seen:] and more():
        pass
    at = output.find(wanted, seen)
    if at < 0:
        problem = "did not come: " + wanted.decode("latin-1")
        break
    seen = at + len(wanted)
    os.write(terminal, keys.encode("latin-1"))
while more():
    pass
if time.monotonic() >= deadline:
    problem = problem or "it did not end in time"
    os.kill(pid, signal.SIGKILL)
status = os.waitpid(pid, 0)[1]
json.dump({"code": os.waitstatus_to_exitcode(status), "output": output.decode("latin-1"),
           "problem": problem}, sys.stdout)
