#!/usr/bin/env python3
"""Packs one static program as an image: the archive that `docker save` would write. The same input
gives the same bytes. usage: pack-image.py PROGRAM NAME OUTPUT"""
import hashlib
import io
import json
import sys
import tarfile

program, name, target = sys.argv[1:]

PASSWD = b"root:x:0:0:root:/:/bin/false\napp:x:1000:1000:app:/:/bin/false\n"
GROUP = b"root:x:0:\napp:x:1000:\n"


def add(archive, path, content=None, mode=0o644):
    entry = tarfile.TarInfo(path)
    entry.mode = mode
    if content is None:
        entry.type = tarfile.DIRTYPE
        archive.addfile(entry)
    else:
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))


def pack(fill):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        fill(archive)
    return buffer.getvalue()


def fill_layer(archive):
    add(archive, "etc", mode=0o755)
    add(archive, "etc/passwd", PASSWD)
    add(archive, "etc/group", GROUP)
    add(archive, "tmp", mode=0o1777)
    with open(program, "rb") as file:
        add(archive, name, file.read(), 0o755)


layer = pack(fill_layer)
config = json.dumps({
    "architecture": "amd64", "os": "linux", "created": "1970-01-01T00:00:00Z",
    "config": {"Entrypoint": ["/" + name], "Env": ["PATH=/"], "User": "1000:1000",
               "WorkingDir": "/", "ExposedPorts": {"8080/tcp": {}}},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "tools/pack-image.py"}],
}, sort_keys=True).encode()
config_path = hashlib.sha256(config).hexdigest() + ".json"
manifest = json.dumps([{"Config": config_path, "RepoTags": [name + ":latest"],
                        "Layers": ["layer.tar"]}]).encode()


def fill_image(archive):
    add(archive, "manifest.json", manifest)
    add(archive, config_path, config)
    add(archive, "layer.tar", layer)


with open(target, "wb") as file:
    file.write(pack(fill_image))
