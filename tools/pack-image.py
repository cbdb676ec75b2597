#!/usr/bin/env python3
"""Packs one static program as an image, in the format of `docker save`. The same program gives the
same bytes. usage: pack-image.py NAME PROGRAM OUTPUT.tar"""
import hashlib
import io
import json
import sys
import tarfile

PASSWD = b"root:x:0:0:root:/root:/sbin/nologin\napp:x:1000:1000:app:/tmp:/sbin/nologin\n"
GROUP = b"root:x:0:\napp:x:1000:\n"


def add(tar, name, content=None, mode=0o644):
    """A file, or a directory when there is no content; of root, of the year 1970."""
    info = tarfile.TarInfo(name)
    info.mode = mode
    if content is None:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    else:
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


def make_tar(entries):
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for entry in entries:
            add(tar, *entry)
    return memory.getvalue()


def main():
    name, program, output = sys.argv[1:]
    with open(program, "rb") as file:
        content = file.read()
    layer = make_tar([
        (name, content, 0o755), ("etc", None, 0o755), ("etc/passwd", PASSWD),
        ("etc/group", GROUP), ("tmp", None, 0o1777)])
    digest = hashlib.sha256(layer).hexdigest()
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "created": "1970-01-01T00:00:00Z",
        "config": {"Entrypoint": [f"/{name}"], "Env": ["PATH=/"], "User": "1000",
                   "WorkingDir": "/tmp"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "pack-image.py"}],
    }, sort_keys=True).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [f"{name}:latest"],
                            "Layers": [f"{digest}/layer.tar"]}]).encode()
    image = make_tar([
        (config_name, config), (digest, None, 0o755), (f"{digest}/layer.tar", layer),
        ("manifest.json", manifest)])
    with open(output, "wb") as file:
        file.write(image)


if __name__ == "__main__":
    main()
