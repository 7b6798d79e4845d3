#!/usr/bin/env python3
"""eight-layers.py OUT.tar ROOT.tar DIRECTORY...: a Docker archive of eight layers.

The first layer is the archive of a root file system; the others are slices of
about 38 MB of the real files below the directories, in plain tar. Streams, so
that it needs no memory for what it packs.
"""
import hashlib
import io
import json
import os
import stat
import sys
import tarfile
import tempfile

SLICE = 38_500_000
LARGEST = 10_000_000


def slices(roots, count):
    """Lists of paths whose sizes add up to a slice each."""
    paths, size = [], 0
    for root in roots:
        for directory, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(directory, name)
                status = os.lstat(path)
                if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
                    continue
                paths.append(path)
                size += status.st_size
                if size >= SLICE:
                    yield paths
                    paths, size, count = [], 0, count - 1
                    if count == 0:
                        return
    sys.exit("the directories hold too little")


def pack(paths, number):
    packed = tempfile.TemporaryFile()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in paths:
            member = archive.gettarinfo(path, "opt/l%d%s" % (number, path))
            if not member.isreg():
                continue
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime = int(member.mtime)
            with open(path, "rb") as content:
                archive.addfile(member, content)
    packed.seek(0)
    return packed


def main():
    out, root, *directories = sys.argv[1:]
    names, diff_ids = [], []
    with tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as archive:

        def add(name, content, size):
            member = tarfile.TarInfo(name)
            member.size = size
            archive.addfile(member, content)

        def layer(content):
            digest = hashlib.sha256()
            while piece := content.read(1 << 20):
                digest.update(piece)
            size = content.tell()
            content.seek(0)
            names.append(digest.hexdigest() + "/layer.tar")
            diff_ids.append("sha256:" + digest.hexdigest())
            add(names[-1], content, size)

        with open(root, "rb") as content:
            layer(content)
        for number, paths in enumerate(slices(directories, 7), 2):
            with pack(paths, number) as content:
                layer(content)
        config = json.dumps({
            "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
            "config": {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }).encode()
        add("config.json", io.BytesIO(config), len(config))
        manifest = json.dumps([{
            "Config": "config.json", "RepoTags": ["bench/eight:latest"], "Layers": names,
        }]).encode()
        add("manifest.json", io.BytesIO(manifest), len(manifest))


main()
