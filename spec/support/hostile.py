#!/usr/bin/env python3
"""Hostile archives for spec/integration/hostile_archive_spec.lua, made byte by byte.

  hostile.py make DIRECTORY   DIRECTORY/CLASS.NAME/backup.tar.zst, and beside it
      plain.json   the manifest of the honest backup, with the size and hash of this archive
      forged.json  a manifest that says of this archive whatever it holds
  hostile.py try DIRECTORY PRAXLUA
      makes them in DIRECTORY/cases, and an installation in DIRECTORY/project with each in turn as
      its backup; runs "backup verify" with the plain manifest and "backup restore" with the forged
      one, and prints an array of
      { class, name, expect, runs = [{ verb, manifest, manifest_kilobytes, code, seconds,
      kilobytes, said, changed, outside, wrong }] }. seconds is CPU time; changed are the first of the paths beneath
      DIRECTORY that are not as before, outside those that are not the installation's; wrong what
      is not as the manifest says after a restore that ends with 0.

expect is "refused"; "harmless" for what may be an honest person's file, which may be restored, and
must be whatever the manifest says; or "whole". Shares no code with praxlua: tar, pax, zstd, the
canonical JSON and the comparison are written out here.
"""
import gzip
import hashlib
import json
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
import tempfile

TOP = b".praxis-os"
MARK = b"the text of an intruder\n"
GUIDE = b"guide 1\n"
GIB = 1 << 30

# ---- tar ------------------------------------------------------------------------------------------


def field(value, size):
    """An octal number, or base 256 where it is too large or negative."""
    digits = size - 1
    if 0 <= value < 8 ** digits:
        return b"%0*o\0" % (digits, value)
    return bytes([0x80 if value >= 0 else 0xff]) + (value % (1 << (8 * digits))).to_bytes(
        digits, "big")


def header(name, kind=b"0", size=0, mode=0o644, link=b"", prefix=b"", magic=b"ustar\x0000",
           device=(0, 0), sum_off=0, raw_size=None):
    block = bytearray(512)

    def put(at, room, data):
        block[at:at + room] = data[:room].ljust(room, b"\0")

    put(0, 100, name)
    put(100, 8, field(mode, 8))
    put(108, 8, field(0, 8))
    put(116, 8, field(0, 8))
    put(124, 12, field(size, 12) if raw_size is None else raw_size)
    put(136, 12, field(1700000000, 12))
    put(148, 8, b" " * 8)
    put(156, 1, kind)
    put(157, 100, link)
    put(257, 8, magic)
    put(329, 8, field(device[0], 8))
    put(337, 8, field(device[1], 8))
    put(345, 155, prefix)
    put(148, 8, b"%06o\0 " % ((sum(block) + sum_off) & 0o777777))
    return bytes(block)


def padded(data):
    return data + b"\0" * (-len(data) % 512)


def member(name, data=b"", **options):
    return header(name, size=len(data), **options) + padded(data)


def pax(records, kind=b"x"):
    text = b""
    for key, value in records:
        rest = b" " + key + b"=" + value + b"\n"
        length = len(rest) + 1
        while len(b"%d" % length) + len(rest) != length:
            length = len(b"%d" % length) + len(rest)
        text += b"%d" % length + rest
    return member(b"PaxHeaders/x", text, kind=kind)


def folder(path, **options):
    return header(path + b"/", kind=b"5", mode=0o755, **options)


def link(path, target):
    return header(path, kind=b"2", mode=0o777, link=target)


END = b"\0" * 1024

# ---- zstd -----------------------------------------------------------------------------------------

MAGIC = b"\x28\xb5\x2f\xfd"
ZSTD_BLOCK = 128 * 1024


def block(kind, size, data, last=False):
    return (size << 3 | kind << 1 | last).to_bytes(3, "little") + data


def frame(data, zeros=0, window=0x58, last=True, checksum=None):
    """A frame of raw blocks, then `zeros` zero bytes as blocks of one byte repeated."""
    out = [MAGIC, bytes([0x04 if checksum is not None else 0x00, window])]
    for at in range(0, len(data), ZSTD_BLOCK):
        out.append(block(0, len(data[at:at + ZSTD_BLOCK]), data[at:at + ZSTD_BLOCK]))
    out.append(block(1, ZSTD_BLOCK, b"\0") * (zeros // ZSTD_BLOCK))
    out.append(block(1, zeros % ZSTD_BLOCK, b"\0", last))
    return b"".join(out) + (checksum or b"")


# ---- manifests ------------------------------------------------------------------------------------

SHORT = {0x22: b'\\"', 0x5c: b"\\\\", 8: b"\\b", 12: b"\\f", 10: b"\\n", 13: b"\\r", 9: b"\\t"}


def is_deceptive(code):
    return (0x80 <= code <= 0x9f or code in (0x61c, 0xfeff) or 0x200b <= code <= 0x200f
            or 0x2028 <= code <= 0x202e or 0x2060 <= code <= 0x2069)


PLAIN = re.compile(rb"[ !#-\[\]-~]*")


def json_string(data):
    if PLAIN.fullmatch(data):
        return b'"' + data + b'"'
    out = bytearray(b'"')
    for char in data.decode("utf-8", "surrogateescape"):
        code = ord(char)
        if code in SHORT:
            out += SHORT[code]
        elif code < 0x20 or code == 0x7f or is_deceptive(code):
            out += b"\\u%04x" % code
        elif 0xdc80 <= code <= 0xdcff:
            out += b"\\udbff\\udf%02x" % (code - 0xdc00)
        else:
            out += char.encode()
    return bytes(out + b'"')


def json_text(value, depth=None):
    """Canonical: sorted keys; `depth` None for the compact form, else the level to indent from."""
    inner = None if depth is None else depth + 1
    line = b"" if inner is None else b"\n" + b"  " * inner
    end = b"" if depth is None else b"\n" + b"  " * depth
    colon = b":" if depth is None else b": "
    if isinstance(value, dict):
        if not value:
            return b"{}"
        items = [line + json_string(k) + colon + json_text(value[k], inner) for k in sorted(value)]
        return b"{" + b",".join(items) + end + b"}"
    return b"%d" % value if isinstance(value, int) else json_string(value)


def manifest(contents, archive):
    """contents: path -> (kind, mode, content or target)."""
    body = {
        b"format_version": 1,
        b"backup_path": b".praxis-os/.backups/2025-01-01-000000/",
        b"timestamp": b"2025-01-01T00:00:00Z",
        b"files": {}, b"links": {}, b"modes": {},
        b"total_size_bytes": 0,
        b"archive": {b"sha256": hashlib.sha256(archive).hexdigest().encode(),
                     b"bytes": len(archive)},
        b"session_id": b"12345678-1234-4234-8234-123456789abc",
        b"installed_version": b"1.0.0",
    }
    for path, (kind, mode, what) in contents.items():
        if kind == "link":
            body[b"links"][path] = what
            continue
        body[b"modes"][path] = b"%04o" % mode
        if kind == "file":
            size = what if isinstance(what, int) else len(what)
            hashed = b"" if isinstance(what, int) else what
            body[b"files"][path] = hashlib.sha256(hashed).hexdigest().encode()
            body[b"total_size_bytes"] += size
    body[b"manifest_sha256"] = hashlib.sha256(json_text(body)).hexdigest().encode()
    return json_text(body, 0) + b"\n"


# ---- the cases ------------------------------------------------------------------------------------

HONEST = {
    TOP: ("folder", 0o755, None),
    TOP + b"/standards": ("folder", 0o755, None),
    TOP + b"/standards/guide.md": ("file", 0o644, GUIDE),
}
HONEST_TAR = (folder(TOP) + folder(TOP + b"/standards")
              + member(TOP + b"/standards/guide.md", GUIDE))

FILE = ("file", 0o644, MARK)
FOLDER = ("folder", 0o755, None)
cases = []


def add(class_name, name, tar=None, more=None, expect="refused", archive=None, forged=True):
    """tar: members after the honest ones; more: what a forged manifest says beside the honest."""
    if archive is None:
        archive = frame(HONEST_TAR + tar + END)
    cases.append({"class": class_name, "name": class_name.replace(" ", "-") + "." + name,
                  "expect": expect, "archive": archive, "forged": forged, "more": more or {}})


def inside(path):
    return TOP + b"/" + path


def paths_out(outside):
    """traversal and absolute: a name in each way that a tar can say it."""
    bad = {
        "traversal": [b"../evil", b"..", inside(b".."), inside(b"../../evil"), inside(b"a/../b"),
                      b"./" + inside(b"a"), inside(b"./a"), inside(b"/a"), inside(b"a/.."),
                      inside(b"specs/../../../evil"), b"../" * 20 + outside[1:] + b"/evil"],
        "absolute": [b"/evil", b"//evil", outside + b"/evil", b"/" + inside(b"a"), b"/"],
    }
    for class_name, names in bad.items():
        for i, name in enumerate(names):
            add(class_name, "%d" % i, member(name, MARK), {name: FILE})
            if i > 2:
                continue
            add(class_name, "%d-pax" % i, pax([(b"path", name)]) + member(inside(b"a"), MARK),
                {name: FILE})
            add(class_name, "%d-folder" % i, folder(name), {name: FOLDER})
            add(class_name, "%d-link" % i, link(name, b"x"), {name: ("link", 0, b"x")})
        add(class_name, "prefix", header(b"evil", size=len(MARK), prefix=names[0].rstrip(b"/"))
            + padded(MARK), {names[0] + b"/evil": FILE})
        add(class_name, "global",
            pax([(b"path", names[0])], kind=b"g") + member(inside(b"a"), MARK),
            {inside(b"a"): FILE}, expect="harmless")


def links(outside):
    for i, target in enumerate([outside, b"../../outside", b"/", b"..", b"."]):
        there = {inside(b"a"): ("link", 0, target)}
        add("symlink then write", "%d" % i, link(inside(b"a"), target)
            + member(inside(b"a/evil"), MARK), {**there, inside(b"a/evil"): FILE})
        add("symlink then write", "%d-folder" % i, link(inside(b"a"), target) + folder(inside(b"a"))
            + member(inside(b"a/evil"), MARK), {**there, inside(b"a/evil"): FILE})
        add("symlink then write", "%d-poisoned" % i, folder(inside(b"a"))
            + member(inside(b"a/b"), MARK) + link(inside(b"a"), target)
            + member(inside(b"a/evil"), MARK), {**there, inside(b"a/evil"): FILE})
        add("symlink then write", "%d-late" % i, member(inside(b"a/evil"), MARK)
            + link(inside(b"a"), target), {**there, inside(b"a/evil"): FILE})
    through = outside + b"/kept.txt"
    add("symlink then write", "file", link(inside(b"a"), through) + member(inside(b"a"), MARK),
        {inside(b"a"): FILE})
    add("symlink then write", "chain", link(inside(b"a"), b"b") + link(inside(b"b"), outside)
        + member(inside(b"a/evil"), MARK), {inside(b"a/evil"): FILE})
    add("symlink then write", "the-top", link(TOP, outside) + member(inside(b"evil"), MARK),
        {inside(b"evil"): FILE})
    add("symlink then write", "case", link(inside(b"A"), outside) + member(inside(b"a/evil"), MARK),
        {inside(b"A"): ("link", 0, outside), inside(b"a"): FOLDER, inside(b"a/evil"): FILE},
        expect="harmless")
    for i, target in enumerate([through, b"../outside/kept.txt", inside(b"standards/guide.md"),
                                b"/etc/passwd", b""]):
        add("hard link", "%d" % i, header(inside(b"a"), kind=b"1", link=target),
            {inside(b"a"): FILE})
        add("hard link", "%d-content" % i, member(inside(b"a"), MARK, kind=b"1", link=target),
            {inside(b"a"): FILE})
    add("hard link", "pax", pax([(b"linkpath", through)])
        + header(inside(b"a"), kind=b"1", link=b"x"), {inside(b"a"): FILE})
    add("hard link", "to-a-link", link(inside(b"l"), through)
        + header(inside(b"a"), kind=b"1", link=inside(b"l")), {inside(b"a"): FILE})


def kinds():
    for name, kind in (("character", b"3"), ("block", b"4"), ("fifo", b"6"), ("contiguous", b"7"),
                       ("socket", b"s"), ("unknown", b"Z"), ("volume", b"V"), ("dump", b"D"),
                       ("continued", b"M"), ("long-name", b"L"), ("long-link", b"K")):
        # What a reader does not know counts as a file, as POSIX has it; a label is passed over.
        expect = "harmless" if kind in b"7sZVD" else "refused"
        add("special file", name, member(inside(b"a"), b"", kind=kind, device=(1, 3)),
            {inside(b"a"): ("file", 0o644, b"")}, expect=expect)
        add("special file", name + "-gnu", member(inside(b"a"), b"", kind=kind, device=(1, 3),
                                                  magic=b"ustar  \0"),
            {inside(b"a"): ("file", 0o644, b"")}, expect="harmless" if kind == b"V" else "refused")
    for mode in (0o4755, 0o2755, 0o6777, 0o1777):
        # A file of a person may have these bits; no restore gives them to one.
        add("setuid", "%o" % mode, member(inside(b"a"), MARK, mode=mode),
            {inside(b"a"): ("file", mode, MARK)}, expect="harmless")


def sizes():
    one = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name",
                                                                      inside(b"a"))]
    for name, real in (("8-eib", b"9223372036854775807"), ("1-pib", b"%d" % (1 << 50)),
                       ("negative", b"-1"), ("small", b"24")):
        add("sparse bomb", name, pax(one + [(b"GNU.sparse.realsize", real)])
            + member(inside(b"x"), b"1\n0\n24\n".ljust(512, b"\0") + MARK), {inside(b"a"): FILE},
            expect="harmless" if name == "small" else "refused")
        add("sparse bomb", name + "-old", pax([(b"GNU.sparse.size", real),
                                               (b"GNU.sparse.map", b"0,24")])
            + member(inside(b"a"), MARK), {inside(b"a"): FILE},
            expect="harmless" if name == "small" else "refused")
    add("sparse bomb", "gnu", member(inside(b"a"), MARK, kind=b"S", magic=b"ustar  \0"),
        {inside(b"a"): FILE})
    for name, size in (("10-gib", 10 * GIB), ("1-pib", 1 << 50), ("8-eib", (1 << 63) - 1)):
        head = HONEST_TAR + pax([(b"size", b"%d" % size)]) + header(inside(b"a"))
        add("ratio bomb", name, archive=frame(head, zeros=10 * GIB),
            more={inside(b"a"): ("file", 0o644, size)}, forged=size > 1 << 40)
    add("ratio bomb", "base-256", archive=frame(HONEST_TAR + header(inside(b"a"), size=1 << 62),
                                                zeros=10 * GIB),
        more={inside(b"a"): ("file", 0o644, 1 << 62)})
    add("ratio bomb", "behind-the-end", archive=frame(HONEST_TAR + END, zeros=40 * GIB))
    add("ratio bomb", "only-zeros", archive=frame(b"", zeros=40 * GIB))
    add("ratio bomb", "window", archive=frame(HONEST_TAR + END, zeros=GIB, window=17 << 3))
    add("ratio bomb", "wider-window", archive=frame(HONEST_TAR + END, window=31 << 3))
    add("ratio bomb", "pax-header", HONEST_TAR and header(b"p", kind=b"x", size=GIB)
        + b"1000 path=a\n")
    add("ratio bomb", "pax-header-full", archive=frame(
        HONEST_TAR + header(b"p", kind=b"x", size=GIB) + b"1073741824 path=", zeros=2 * GIB))
    for name, said in (("larger", b"1000"), ("smaller", b"5"), ("negative", b"-24"),
                       ("letters", b"24x"), ("huge", b"9" * 40), ("empty", b"")):
        add("pax size", name, pax([(b"size", said)]) + member(inside(b"a"), MARK),
            {inside(b"a"): FILE}, expect="harmless" if name in ("letters", "empty") else "refused")
    add("pax size", "folder", pax([(b"size", b"24")]) + folder(inside(b"a")) + padded(MARK),
        {inside(b"a"): FOLDER}, expect="harmless")
    add("pax size", "link", pax([(b"size", b"24")]) + link(inside(b"a"), b"x") + padded(MARK),
        {inside(b"a"): ("link", 0, b"x")}, expect="harmless")
    for name, raw in (("negative", field(-5, 12)), ("letters", b"00000000xyz\0"),
                      ("unended", b"777777777777"), ("blank", b" " * 12)):
        add("header size", name, header(inside(b"a"), raw_size=raw) + padded(MARK),
            {inside(b"a"): FILE}, expect="harmless" if name in ("letters", "blank") else "refused")


def names():
    twice = member(inside(b"a"), MARK)
    add("duplicate name", "file", twice + twice, {inside(b"a"): FILE})
    add("duplicate name", "other-content", twice + member(inside(b"a"), GUIDE), {inside(b"a"): FILE})
    add("duplicate name", "folder", folder(inside(b"a")) * 2, {inside(b"a"): FOLDER})
    add("duplicate name", "file-folder", twice + folder(inside(b"a")), {inside(b"a"): FILE})
    add("duplicate name", "folder-file", folder(inside(b"a")) + twice, {inside(b"a"): FILE})
    add("duplicate name", "implied", member(inside(b"a/b"), MARK) + twice, {inside(b"a"): FILE})
    add("duplicate name", "beneath", twice + member(inside(b"a/b"), MARK), {inside(b"a"): FILE})
    add("duplicate name", "honest", member(inside(b"standards/guide.md"), MARK))
    add("duplicate name", "pax-path-twice", pax([(b"path", inside(b"b")), (b"path", inside(b"a"))])
        + twice, {inside(b"a"): FILE}, expect="harmless")
    for name, first, second in (("ascii", b"GUIDE", b"guide"), ("sharp-s", b"\xc3\x9f", b"ss"),
                                ("forms", b"\xc3\xa4", b"a\xcc\x88"), ("dot", b"a", b"a."),
                                ("space", b"a", b"a ")):
        add("case-folding name", name, member(inside(first), MARK) + member(inside(second), GUIDE),
            {inside(first): FILE, inside(second): ("file", 0o644, GUIDE)}, expect="harmless")
    for name, text in (("newline", b"a\nb"), ("escape", b"\x1b[2J\x1b]0;x\x07"), ("bell", b"\x07"),
                       ("delete", b"\x7f"), ("reversed", "\u202egpj.exe".encode()),
                       ("c1", b"\xc2\x9b31m"), ("not-utf8", b"caf\xe9"), ("half", b"\xc3"),
                       ("surrogate", b"\xed\xa0\x80"), ("overlong", b"\xc0\xae\xc0\xae"),
                       ("private", "\U0010ff41".encode()), ("backslash", b"..\\evil"),
                       ("colon", b"C:evil"), ("dash", b"-rf"), ("255", b"n" * 255)):
        add("odd name", name, pax([(b"path", inside(text))]) + member(inside(b"x"), MARK),
            {inside(text): FILE}, expect="harmless")
    add("odd name", "nul", pax([(b"path", inside(b"a\0/../../evil"))]) + member(inside(b"x"), MARK),
        {inside(b"a"): FILE}, expect="harmless")
    add("odd name", "nul-in-manifest", pax([(b"path", inside(b"a\0b"))])
        + member(inside(b"x"), MARK), {inside(b"a\0b"): FILE})
    add("odd name", "empty", member(b"", MARK), {b"": FILE})
    add("odd name", "pax-empty", pax([(b"path", b"")]) + member(b"", MARK), {b"": FILE})
    add("odd name", "256", pax([(b"path", inside(b"n" * 256))]) + member(inside(b"x"), MARK),
        {inside(b"n" * 256): FILE})
    add("odd name", "5000", pax([(b"path", inside(b"n/" * 2500 + b"n"))]) + member(b"x", MARK),
        {inside(b"n/" * 2500 + b"n"): FILE})
    add("odd name", "long-target", pax([(b"linkpath", b"t" * 5000)]) + link(inside(b"a"), b"x"),
        {inside(b"a"): ("link", 0, b"t" * 5000)})
    add("odd name", "outside-the-scope", member(b"src/main.py", MARK), {b"src/main.py": FILE})
    add("odd name", "git-hook", member(b".git/hooks/post-commit", MARK, mode=0o755),
        {b".git/hooks/post-commit": ("file", 0o755, MARK)})
    add("odd name", "our-own", member(inside(b".upgrade/x/journal"), MARK),
        {inside(b".upgrade"): FOLDER, inside(b".upgrade/x/journal"): FILE})


def deep():
    path, tar, more = inside(b"a"), [], {}
    for _ in range(3000):
        tar.append(pax([(b"path", path + b"/")]) + folder(b"x"))
        more[path] = FOLDER
        path += b"/a"
    add("deep tree", "folders", b"".join(tar), more)
    add("deep tree", "file", pax([(b"path", path)]) + member(b"x", MARK), {path: FILE})
    path = inside(b"a" + b"/a" * 1500)
    more = {path[:at.start()]: FOLDER for at in re.finditer(b"/", path) if at.start() > len(TOP)}
    more[path] = FILE
    add("deep tree", "1500", pax([(b"path", path)]) + member(b"x", MARK), more, expect="harmless")


def damage():
    whole = frame(HONEST_TAR + member(inside(b"a"), MARK) + END)
    tar = HONEST_TAR + member(inside(b"a"), MARK) + END
    there = {inside(b"a"): FILE}
    for at in (0, 3, 5, 8, 400, len(whole) // 2, len(whole) - 600, len(whole) - 1):
        add("truncated", "file-%d" % at, archive=whole[:at] or b"\0", more=there)
    for at in (1, 300, 512, 1024, len(HONEST_TAR) + 512, len(HONEST_TAR) + 600):
        add("truncated", "tar-%d" % at, archive=frame(tar[:at]), more=there)
    add("truncated", "no-last-block", archive=frame(tar, last=False), more=there)
    for off in (1, -1, 4096):
        add("bad checksum", "header%+d" % off, member(inside(b"a"), MARK, sum_off=off), there)
        add("bad checksum", "first%+d" % off, archive=frame(
            folder(TOP, sum_off=off) + HONEST_TAR[512:] + END))
    add("bad checksum", "frame", archive=frame(tar, checksum=b"\1\2\3\4"), more=there)


def trailing():
    tar = HONEST_TAR + END
    evil = member(inside(b"a"), MARK) + END
    there = {inside(b"a"): FILE}
    add("trailing data", "second-archive", archive=frame(tar + evil))
    add("trailing data", "escaping-archive", archive=frame(tar + member(b"../evil", MARK) + END))
    add("trailing data", "garbage", archive=frame(tar + b"garbage" * 100))
    add("trailing data", "far-garbage", archive=frame(tar + b"\0" * 20480 + b"garbage" * 100))
    add("trailing data", "one-byte", archive=frame(tar) + b"x")
    add("trailing data", "zeros", archive=frame(tar) + b"\0" * 512)
    add("trailing data", "plain-tar", archive=frame(tar) + evil)
    add("trailing data", "second-frame", archive=frame(tar) + frame(evil))
    add("trailing data", "frame-in-two", archive=frame(HONEST_TAR) + frame(evil), more=there,
        expect="harmless")
    add("trailing data", "skippable", archive=frame(tar) + b"\x50\x2a\x4d\x18\x08\0\0\0" + b"x" * 8,
        expect="harmless")
    add("other format", "plain-tar", archive=tar)
    add("other format", "gzip", archive=gzip.compress(tar, mtime=0))
    add("other format", "gzip-in-zstd", archive=frame(gzip.compress(tar, mtime=0)))
    add("other format", "zstd-in-zstd", archive=frame(frame(tar)))
    add("other format", "cpio", archive=frame(b"070701" + b"0" * 104 + b"TRAILER!!!\0"))
    add("other format", "zip", archive=frame(b"PK\3\4" + b"\0" * 200))
    add("other format", "v7", archive=frame(b"".join(
        folder(p, magic=b"\0" * 8) for p in (TOP, TOP + b"/standards")) + member(
            inside(b"standards/guide.md"), GUIDE, magic=b"\0" * 8) + END))
    add("other format", "nothing", archive=b"\0")


def attributes():
    for name, key, value in (("xattr", b"SCHILY.xattr.user.evil", b"1"),
                             ("capability", b"SCHILY.xattr.security.capability",
                              b"\1\0\0\2\xff\xff\xff\xff" + b"\0" * 12),
                             ("acl", b"SCHILY.acl.access", b"user::rwx,group::rwx,other::rwx"),
                             ("flags", b"SCHILY.fflags", b"schg"), ("owner", b"uid", b"12345"),
                             ("time", b"mtime", b"99999999999999999999"),
                             ("unknown", b"EVIL.key", b"1"), ("charset", b"hdrcharset", b"BINARY")):
        add("attribute", name, pax([(key, value)]) + member(inside(b"a"), MARK),
            {inside(b"a"): FILE}, expect="harmless")
        add("attribute", name + "-link", pax([(key, value)]) + link(inside(b"a"), b"standards"),
            {inside(b"a"): ("link", 0, b"standards")}, expect="harmless")


def many(count):
    """Empty files, streamed through the zstd command: half a gigabyte of tar."""
    template = header(inside(b"0000000"))
    at = template.index(b"0000000")
    total = int(template[148:154], 8) - 7 * ord("0")
    with tempfile.TemporaryFile() as out:
        zstd = subprocess.Popen(["zstd", "-1", "-q", "-c"], stdin=subprocess.PIPE, stdout=out)
        zstd.stdin.write(HONEST_TAR)
        head, middle, tail = template[:at], template[at + 7:148], template[154:]
        for i in range(count):
            digits = b"%07d" % i
            zstd.stdin.write(head + digits + middle + b"%06o" % (total + sum(digits)) + tail)
        zstd.stdin.write(END)
        zstd.stdin.close()
        zstd.wait()
        out.seek(0)
        add("many entries", "%d" % count, archive=out.read(), forged=False)


# ---- making and trying ----------------------------------------------------------------------------


def collect(outside):
    add("control", "honest", b"", expect="whole")
    add("control", "more", member(inside(b"a"), MARK) + link(inside(b"l"), b"standards/guide.md"),
        {inside(b"a"): FILE, inside(b"l"): ("link", 0, b"standards/guide.md")}, expect="whole")
    paths_out(outside)
    links(outside)
    kinds()
    sizes()
    names()
    deep()
    damage()
    trailing()
    attributes()
    many(1000000)


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as out:
        out.write(data)


def make(directory):
    """An index beside the cases says what is in them, for a process that is as small as praxlua:
    the kernel counts the memory of the one that starts another as that one's."""
    os.makedirs(directory, exist_ok=True)
    with open(directory + "/index", "wb") as out:
        pickle.dump([{**{k: case[k] for k in ("class", "name", "expect", "forged")},
                      "more": case["more"] if case["expect"] != "refused" else {}}
                     for case in cases], out)
    for case in cases:
        at = os.path.join(directory, case["name"])
        write(at + "/backup.tar.zst", case["archive"])
        write(at + "/plain.json", manifest(HONEST, case["archive"]))
        if case["forged"]:
            write(at + "/forged.json", manifest({**HONEST, **case["more"]}, case["archive"]))


def digest(path):
    total = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(65536), b""):
            total.update(piece)
    return total.digest()


def listing(top, skip):
    """path -> everything about it, beneath `top`."""
    found = {}
    stack = [top]
    while stack:
        path = stack.pop()
        st = os.lstat(path)
        what = b""
        if stat.S_ISLNK(st.st_mode):
            what = os.readlink(path)
        elif stat.S_ISREG(st.st_mode):
            what = digest(path)
        elif stat.S_ISDIR(st.st_mode):
            stack += [path + b"/" + name for name in os.listdir(path) if path + b"/" + name
                      not in skip]
        found[path] = (st.st_mode, st.st_uid, st.st_gid, what,
                       sorted(os.listxattr(path, follow_symlinks=False)))
    return found


NAME = "2025-01-01-000000"


class Place:
    """A directory with an installation in it, and what an intruder would like to write outside."""

    def __init__(self, directory, praxlua):
        self.top, self.praxlua = directory, praxlua
        self.target = directory + "/project/.praxis-os"
        write(directory + "/outside/kept.txt", b"kept\n")
        os.chmod(directory + "/outside/kept.txt", 0o600)
        self.changed = True

    def reset(self):
        if not self.changed:
            return
        self.changed = False
        subprocess.run(["rm", "-rf", self.top + "/project"], check=True)
        write(self.top + "/project/src/main.py", b"print()\n")
        write(self.target + "/standards/guide.md", GUIDE)
        write(self.target + "/specs/mine.md", b"mine\n")

    def put(self, name, kind):
        backup = self.target + "/.backups/" + NAME
        os.makedirs(backup, exist_ok=True)
        for source, to in (("backup.tar.zst", "backup.tar.zst"), (kind + ".json", "MANIFEST.json")):
            shutil.copyfile(self.top + "/cases/" + name + "/" + source, backup + "/" + to)

    def look(self):
        return listing(self.top.encode(), {self.top.encode() + b"/cases"})

    def run(self, verb, kind):
        before = self.look()
        argv = [self.praxlua, "backup", verb, NAME, "--target", self.target]
        child = subprocess.Popen(argv + (["--yes"] if verb == "restore" else []), bufsize=0,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, cwd=self.top)
        said = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        after = self.look()
        self.changed = self.changed or before != after
        changed = [os.path.relpath(path, self.top.encode()).decode("utf-8", "backslashreplace")
                   for path in sorted({**before, **after}) if before.get(path) != after.get(path)]
        outside = [path for path in changed if not path.startswith("project/.praxis-os")]
        return {"verb": verb, "manifest": kind, "code": os.waitstatus_to_exitcode(status),
                "seconds": usage.ru_utime + usage.ru_stime, "kilobytes": usage.ru_maxrss,
                "said": said.decode("latin-1"), "changed": changed[:10], "outside": outside[:10],
                "wrong": [], "manifest_kilobytes":
                os.path.getsize(self.target + "/.backups/" + NAME + "/MANIFEST.json") // 1024}, after

    def wrong(self, contents, found):
        """What is restored and not as the manifest says, or not in it."""
        top, problems = self.top.encode() + b"/project/", []
        for path, (kind, mode, what) in contents.items():
            there = found.get(top + path)
            if not there:
                problems.append(path)
            elif kind == "link":
                if not stat.S_ISLNK(there[0]) or there[3] != what:
                    problems.append(path)
            elif (stat.S_IMODE(there[0]) != mode & (0o777 if kind == "file" else 0o7777) or stat.S_ISDIR(there[0]) != (kind == "folder")
                  or kind == "file" and there[3] != hashlib.sha256(what).digest()):
                problems.append(path)
            if there and (there[1:3] != (os.geteuid(), os.getegid()) or there[4]):
                problems.append(path)
        for path in found:
            inner = path[len(top):]
            if path.startswith(top + TOP) and inner not in contents and not inner.startswith(
                    (inside(b".backups"), inside(b".cache"))):
                problems.append(inner)
        return [path.decode("utf-8", "backslashreplace") for path in problems]


def try_case(place, case):
    runs = []
    place.reset()
    for kind in ["plain"] + (["forged"] if case["forged"] else []):
        place.put(case["name"], kind)
        # A restore verifies first; alone that is tried once more where it has to succeed.
        if kind == "plain" or case["expect"] == "whole":
            runs.append(place.run("verify", kind)[0])
    result, after = place.run("restore", kind)
    if result["code"] == 0:
        result["wrong"] = place.wrong({**HONEST, **case["more"]}, after)
    return runs + [result]


def try_two(place):
    """The trick with two archives: the first puts a link there, the second writes through it."""
    outside = place.top.encode() + b"/outside"
    aim = {inside(b"a"): ("link", 0, outside)}
    there = {inside(b"a"): FOLDER, inside(b"a/kept.txt"): FILE, inside(b"a/evil"): FILE}
    add("two archives", "link", link(inside(b"a"), outside), aim)
    add("two archives", "through", folder(inside(b"a")) + member(inside(b"a/kept.txt"), MARK)
        + member(inside(b"a/evil"), MARK), there)
    make(place.top + "/cases")
    runs = []
    place.reset()
    for name, more in (("link", aim), ("through", there), ("link", aim)):
        place.put("two-archives." + name, "forged")
        result, after = place.run("restore", "forged")
        result["wrong"] = place.wrong({**HONEST, **more}, after)
        runs.append(result)
    return {"class": "two archives", "name": "two-archives", "expect": "whole", "runs": runs}


def try_all(directory, praxlua):
    place = Place(directory, praxlua)
    subprocess.run([sys.executable, __file__, "make", directory + "/cases"], check=True)
    with open(directory + "/cases/index", "rb") as index:
        made = pickle.load(index)
    results = [{**{k: case[k] for k in ("class", "name", "expect")}, "runs": try_case(place, case)}
               for case in made]
    results.append(try_two(place))
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        top = os.path.abspath(sys.argv[2])
        collect(os.path.dirname(top).encode() + b"/outside")
        make(top)
    else:
        try_all(os.path.abspath(sys.argv[2]), sys.argv[3])
