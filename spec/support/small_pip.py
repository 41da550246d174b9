"""small_pip.py: stands for pip in the environments of samples, where a test is not about pip.

It lies there as pip/__main__.py and knows what praxlua calls: "freeze --all", and "install …
-r FILE" of pinned pure Python wheels from $PIP_FIND_LINKS. What is installed, and where, is as pip
leaves it; pip itself takes a second of a processor for that, this a twentieth: it loads nothing
that can be done without.
"""

import os
import re
import sys

SCRIPT = "#!%s\nimport sys\nfrom %s import %s\nsys.exit(%s())\n"
SITE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCRIPTS = os.path.join(sys.prefix, "bin")


def installed():
    """name: (version, folder of what is known about it)."""
    found = {}
    for folder in os.listdir(SITE):
        if folder.endswith(".dist-info"):
            with open(os.path.join(SITE, folder, "METADATA"), encoding="utf-8") as metadata:
                text = metadata.read()
            name, version = (re.search("^%s: (.+)$" % field, text, re.MULTILINE)[1]
                             for field in ("Name", "Version"))
            found[name.lower()] = version, folder
    return found


def freeze():
    for name, (version, _) in sorted(installed().items()):
        print("%s==%s" % (name, version))


def required(path):
    """The (name, version) of each line."""
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            line = line.split("#")[0].strip()
            pinned = re.fullmatch(r"([\w.-]+)==([\w.]+)", line)
            if line and not pinned:
                sys.exit("ERROR: Invalid requirement: '%s'" % line)
            if line:
                yield pinned[1].lower(), pinned[2]


def wheel_of(name, version):
    path = "%s/%s-%s-py3-none-any.whl" % (os.environ["PIP_FIND_LINKS"], name, version)
    if not os.path.exists(path):
        sys.exit("ERROR: No matching distribution found for %s==%s" % (name, version))
    return path


def remove(folder):
    """Everything that its RECORD names, and the folder with that."""
    with open(os.path.join(SITE, folder, "RECORD"), encoding="utf-8") as record:
        files = [os.path.join(SITE, line.split(",")[0]) for line in record.read().splitlines()]
    for path in files:
        if os.path.exists(path):
            os.remove(path)
    os.rmdir(os.path.join(SITE, folder))


def add(wheel, name, version):
    import zipfile

    info = "%s-%s.dist-info/" % (name, version)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(SITE)
        entries = archive.read(info + "entry_points.txt").decode()
    record = [info + "INSTALLER,,"]
    with open(os.path.join(SITE, info, "INSTALLER"), "w", encoding="utf-8") as out:
        out.write("pip\n")
    for command, module, function in re.findall(r"^(\S+) = (\S+):(\S+)$", entries, re.MULTILINE):
        path = os.path.join(SCRIPTS, command)
        with open(path, "w", encoding="utf-8") as out:
            out.write(SCRIPT % (sys.executable, module, function, function))
        os.chmod(path, 0o755)
        record.append(os.path.relpath(path, SITE) + ",,")
    with open(os.path.join(SITE, info, "RECORD"), "a", encoding="utf-8") as out:
        out.write("\n".join(record) + "\n")


def install(path):
    there = installed()
    wanted = [(name, version) for name, version in required(path)
              if name not in there or there[name][0] != version]
    wheels = [wheel_of(name, version) for name, version in wanted]
    for wheel in wheels:
        print("Processing %s (from -r %s)" % (wheel, path))
    if not wanted:
        return
    print("Installing collected packages: " + ", ".join(name for name, _ in wanted))
    for wheel, (name, version) in zip(wheels, wanted):
        if name in there:
            remove(there[name][1])
        add(wheel, name, version)
    print("Successfully installed " + " ".join("%s-%s" % one for one in wanted))


if sys.argv[1:] == ["freeze", "--all"]:
    freeze()
elif sys.argv[1:2] == ["install"] and "-r" in sys.argv:
    install(sys.argv[sys.argv.index("-r") + 1])
else:
    sys.exit("small_pip.py cannot do this: " + " ".join(sys.argv[1:]))
