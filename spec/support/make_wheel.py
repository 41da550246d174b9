#!/usr/bin/env python3
"""make_wheel.py DIRECTORY NAME VERSION: writes a tiny pure Python wheel with one command.

The integration tests install it from a directory, so that pip does its real work with no network.
The command NAME prints the version it comes from.
"""

import base64
import hashlib
import os
import sys
import zipfile


def entry(path, data):
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return "%s,sha256=%s,%d" % (path, digest, len(data))


def main(directory, name, version):
    info = "%s-%s.dist-info" % (name, version)
    module = 'VERSION = "%s"\n\n\ndef main():\n    print(VERSION)\n' % version
    files = {
        name + ".py": module,
        info + "/METADATA": "Metadata-Version: 2.1\nName: %s\nVersion: %s\n" % (name, version),
        info + "/WHEEL": "Wheel-Version: 1.0\nGenerator: make_wheel\n"
        "Root-Is-Purelib: true\nTag: py3-none-any\n",
        info + "/entry_points.txt": "[console_scripts]\n%s = %s:main\n" % (name, name),
    }
    record = [entry(path, data.encode()) for path, data in files.items()]
    files[info + "/RECORD"] = "\n".join(record + [info + "/RECORD,,"]) + "\n"
    wheel = "%s-%s-py3-none-any.whl" % (name, version)
    with zipfile.ZipFile(os.path.join(directory, wheel), "w") as out:
        for path, data in files.items():
            out.writestr(zipfile.ZipInfo(path, (2025, 1, 1, 0, 0, 0)), data)


if __name__ == "__main__":
    main(*sys.argv[1:])
