"""Archives made for tests, entry by entry."""

import hashlib
import io
import json
import tarfile


def member(name, content=None, kind=tarfile.REGTYPE, **more):
    entry = tarfile.TarInfo(name)
    entry.type = kind
    entry.mode = more.pop("mode", 0o755 if kind == tarfile.DIRTYPE else 0o644)
    for key, value in more.items():
        setattr(entry, key, value)
    if content is not None:
        entry.size = len(content)
    return entry, content


def tar(*members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry, content in members:
            archive.addfile(entry, io.BytesIO(content) if content is not None else None)
    return buffer.getvalue()


def write(directory, name, data):
    path = directory / name
    path.write_bytes(data)
    return path


def docker_archive(layers, config=None, repeat=1, digests=None, tags=None):
    config = {"architecture": "amd64", "os": "linux", "config": {"Entrypoint": ["/x"],
              **(config or {})}, "rootfs": {"type": "layers",
        "diff_ids": digests or ["sha256:" + hashlib.sha256(d).hexdigest() for d in layers]}}
    entry = {"Config": "config.json", "Layers": [f"{i}/layer.tar" for i in range(len(layers))],
             "RepoTags": tags}
    return tar(*[member(f"{i}/layer.tar", data) for i, data in enumerate(layers)],
               member("config.json", json.dumps(config).encode()),
               member("manifest.json", json.dumps([entry] * repeat).encode()))
