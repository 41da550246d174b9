"""Watches folders with Python's watchdog, as the server that is upgraded does: watcher.py EVENTS
READY FOLDER... Writes each event to EVENTS, a line of JSON [type, path], makes READY when every
folder is watched, and ends at the end of its input. A move is two lines, "moved from" and "moved".
"""

import json
import sys
import time

from watchdog.events import FileSystemEventHandler
from watchdog.observers import Observer

# watchdog holds events back for half a second, in which it looks for the other half of a move.
SETTLE = 0.8  # seconds


class Handler(FileSystemEventHandler):
    def __init__(self, out):
        self.out = out

    def note(self, kind, path):
        print(json.dumps([kind, path]), file=self.out, flush=True)

    def on_any_event(self, event):
        if event.event_type == "moved":
            self.note("moved from", event.src_path)
            self.note("moved", event.dest_path)
        elif event.event_type in ("created", "modified", "deleted"):
            self.note(event.event_type, event.src_path)


def main():
    events, ready, *folders = sys.argv[1:]
    with open(events, "w", encoding="utf-8") as out:
        observer = Observer()
        for folder in folders:
            observer.schedule(Handler(out), folder, recursive=True)
        observer.start()
        with open(ready, "w", encoding="utf-8"):
            pass
        sys.stdin.read()
        time.sleep(SETTLE)
        observer.stop()
        observer.join()


if __name__ == "__main__":
    main()
