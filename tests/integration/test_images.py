"""`plane image`: every kind of source, and archives that mean harm."""

import gzip
import hashlib
import json
import lzma
import os
import pathlib
import stat
import subprocess
import tarfile

import pytest

from archives import docker_archive, member, tar, write
from serve import EXAMPLES, PLANE

pytestmark = pytest.mark.timeout(60)


class Store:
    def __init__(self, directory):
        self.directory = directory / "data"

    def run(self, *words):
        return subprocess.run([str(PLANE), "image", *map(str, words), "--data-dir",
                               str(self.directory)], capture_output=True, text=True, timeout=60)

    def add(self, name, path, *flags):
        result = self.run("import", name, path, "--json", *flags)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def refuse(self, path, *words, flags=("--entrypoint", "/x")):
        result = self.run("import", "bad", path, *flags)
        assert result.returncode == 1, result.stdout
        assert "error: import bad: " in result.stderr
        for word in words:
            assert word in result.stderr, result.stderr
        assert json.loads(self.run("list", "--json").stdout) == []
        left = [p for p in (self.directory / "images" / "tmp").glob("*")]
        left += [p for p in (self.directory / "images" / "trees").glob("*")]
        assert left == []
        return result.stderr


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


PASSWD = member("etc/passwd", b"root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
GROUP = member("etc/group", b"root:x:0:\napp:x:1000:\nextra:x:2000:app\n")
SIMPLE = (member("bin", kind=tarfile.DIRTYPE), member("bin/x", b"program", mode=0o4755),
          PASSWD, GROUP, member("link", kind=tarfile.SYMTYPE, linkname="/bin/x"),
          member("hard", kind=tarfile.LNKTYPE, linkname="bin/x"))


@pytest.mark.parametrize("pack", [lambda d: d, gzip.compress, lzma.compress])
def test_a_root_file_system_as_a_tar(store, tmp_path, pack):
    image = store.add("one", write(tmp_path, "x", pack(tar(*SIMPLE))), "--entrypoint", "/bin/x",
                      "--cmd", "a", "--cmd", "b", "--env", "A=1", "--user", "app", "--workdir", "/w")
    assert image["argv"] == ["/bin/x", "a", "b"] and "A=1" in image["env"]
    assert (image["uid"], image["gid"], image["groups"]) == (1000, 1000, [2000])
    assert image["home"] == "/home/app" and image["workdir"] == "/w"
    root = pathlib.Path(image["rootfs"])
    assert (root / "bin/x").read_bytes() == b"program"
    assert stat.S_IMODE((root / "bin/x").stat().st_mode) == 0o4755
    assert os.readlink(root / "link") == "/bin/x"
    assert (root / "hard").stat().st_ino == (root / "bin/x").stat().st_ino


def test_a_zstd_tar(store, tmp_path):
    plain = write(tmp_path, "x.tar", tar(*SIMPLE))
    packed = tmp_path / "x.tar.zst"
    subprocess.run(["bsdtar", "--zstd", "-cf", packed, f"@{plain}"], check=True)
    assert store.add("z", packed, "--entrypoint", "/bin/x")["argv"] == ["/bin/x"]


def test_a_directory_and_a_name_for_the_same_content(store, tmp_path):
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "x").write_text("x")
    first = store.add("a", root, "--entrypoint", "/bin/x")
    second = store.add("b:v2", root, "--entrypoint", "/bin/x")
    assert first["digest"] == second["digest"] and first["rootfs"] == second["rootfs"]
    assert [i["name"] for i in json.loads(store.run("list", "--json").stdout)] == [
        "a:latest", "b:v2"]
    assert store.run("remove", "a").returncode == 0
    assert pathlib.Path(second["rootfs"]).exists()
    assert store.run("remove", "b:v2").returncode == 0
    assert not pathlib.Path(second["rootfs"]).exists()
    gone = store.run("show", "a")
    assert gone.returncode == 1 and "plane image import" in gone.stderr


def test_the_examples_are_docker_archives(store):
    image = store.add("echo", EXAMPLES / "echo.tar")
    assert image["argv"] == ["/echo"] and image["uid"] == 1000


def test_layers_hide_what_is_below(store, tmp_path):
    lower = tar(member("x", b"1"), member("d/a", b"a"), member("d/b", b"b"), member("gone", b"g"))
    upper = tar(member("d/new", b"n"), member("d/.wh..wh..opq", b""), member(".wh.gone", b""),
                member("x", b"2"))
    image = store.add("l", write(tmp_path, "i.tar", docker_archive([lower, upper])))
    root = pathlib.Path(image["rootfs"])
    assert (root / "x").read_bytes() == b"2"
    assert sorted(os.listdir(root)) == ["d", "x"] and os.listdir(root / "d") == ["new"]


@pytest.mark.parametrize("as_tar", [False, True])
def test_an_oci_layout(store, tmp_path, as_tar):
    layer = gzip.compress(tar(member("x", b"1")))
    config = json.dumps({"config": {"Cmd": ["/x"], "Env": ["B=2"], "WorkingDir": "/d"}}).encode()

    def blob(data):
        digest = hashlib.sha256(data).hexdigest()
        files[f"blobs/sha256/{digest}"] = data
        return {"digest": "sha256:" + digest, "size": len(data)}
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    manifest = json.dumps({"config": blob(config), "layers": [blob(layer)]}).encode()
    files["index.json"] = json.dumps({"manifests": [blob(manifest)]}).encode()
    if as_tar:
        path = write(tmp_path, "oci.tar", tar(*[member(n, d) for n, d in files.items()]))
    else:
        path = tmp_path / "oci"
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    image = store.add("o", path)
    assert image["argv"] == ["/x"] and "B=2" in image["env"] and image["workdir"] == "/d"
    if not as_tar:
        blob_path = path / "blobs/sha256" / hashlib.sha256(layer).hexdigest()
        blob_path.write_bytes(layer[:-1] + b"?")
        result = store.run("import", "o2", path)
        assert result.returncode == 1 and "digest" in result.stderr


# ---- archives that mean harm ----

def test_names_that_climb_are_refused(store, tmp_path):
    for name in ("../outside", "a/../../outside", "a/.."):
        store.refuse(write(tmp_path, "t.tar", tar(member(name, b"x"))), "..")
    assert not (tmp_path / "outside").exists()


def test_absolute_names_and_links_stay_inside(store, tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("mine")
    image = store.add("abs", write(tmp_path, "t.tar", tar(
        member("/x", b"1"), member(str(victim)[1:], kind=tarfile.DIRTYPE),
        member("escape", kind=tarfile.SYMTYPE, linkname=str(victim)),
        member("escape/file", b"overwritten"),
        member("up", kind=tarfile.SYMTYPE, linkname="../../../../../../../.."),
        member("up/tmp/plane-test-escape", b"1"))), "--entrypoint", "/x")
    root = pathlib.Path(image["rootfs"])
    assert (root / "x").read_bytes() == b"1"
    assert (victim / "file").read_text() == "mine"
    assert not pathlib.Path("/tmp/plane-test-escape").exists()
    assert (root / "tmp/plane-test-escape").exists()
    assert (root / str(victim)[1:] / "file").read_bytes() == b"overwritten"


def test_nothing_is_put_below_a_link_to_nowhere(store, tmp_path):
    store.refuse(write(tmp_path, "t.tar", tar(
        member("escape", kind=tarfile.SYMTYPE, linkname=str(tmp_path)),
        member("escape/new", b"x"))), "link")
    assert not (tmp_path / "new").exists()


def test_hard_links_to_the_host_are_refused(store, tmp_path):
    store.refuse(write(tmp_path, "t.tar", tar(
        member("shadow", kind=tarfile.LNKTYPE, linkname="/etc/shadow"))), "link")
    store.refuse(write(tmp_path, "t.tar", tar(
        member("etc", kind=tarfile.SYMTYPE, linkname="/etc"),
        member("shadow", kind=tarfile.LNKTYPE, linkname="etc/shadow"))))


def test_device_nodes_are_left_out(store, tmp_path):
    path = write(tmp_path, "t.tar", tar(
        member("x", b"1"), member("disk", kind=tarfile.BLKTYPE, devmajor=8, devminor=0),
        member("mem", kind=tarfile.CHRTYPE, devmajor=1, devminor=1)))
    result = store.run("import", "dev", path, "--entrypoint", "/x", "--json")
    assert result.returncode == 0 and result.stderr.count("device nodes") == 2
    assert os.listdir(json.loads(result.stdout)["rootfs"]) == ["x"]


def test_bombs_are_refused(store, tmp_path):
    zeros = gzip.compress(tar(member("x", bytes(50 << 20))))
    assert len(zeros) < 100000
    store.refuse(write(tmp_path, "t.tar.gz", zeros), "limit",
                 flags=("--entrypoint", "/x", "--max-mib", "10"))
    layers = docker_archive([tar(member("x", bytes(20 << 20)))])
    store.refuse(write(tmp_path, "i.tar", layers), "limit", flags=("--max-mib", "10"))


def test_ids_without_a_place_in_a_sandbox_are_refused(store, tmp_path):
    store.refuse(write(tmp_path, "t.tar", tar(member("x", b"1", uid=70000))), "70000")


@pytest.mark.parametrize("data", [b"", b"no archive at all" * 100,
                                  gzip.compress(tar(*SIMPLE))[:-20], tar(*SIMPLE)[:700]])
def test_damaged_archives_are_refused(store, tmp_path, data):
    store.refuse(write(tmp_path, "t.tar", data))


def test_layouts_that_lie_are_refused(store, tmp_path):
    layer = tar(member("x", b"1"))
    for data, words in [
            (docker_archive([layer], digests=["sha256:" + "0" * 64]), ["digest"]),
            (docker_archive([layer], repeat=2), ["2 images"]),
            (docker_archive([layer], {"User": "nobody-knows"}), ["nobody-knows"]),
            (docker_archive([layer], {"Entrypoint": "text"}), ["Entrypoint"]),
            (docker_archive([layer], {"Env": ["novalue"]}), ["novalue"]),
            (docker_archive([layer], {"Entrypoint": []}), ["--entrypoint"]),
            (tar(member("manifest.json", b"[{]")), ["manifest.json"]),
            (tar(member("manifest.json", b'[{"Config":"../../etc/passwd","Layers":[]}]')), []),
            (tar(member("manifest.json", b'[{"Config":"c","Layers":[1]}]'), member("c", b"{}")),
             ["Layers"])]:
        store.refuse(write(tmp_path, "i.tar", data), *words, flags=())


def test_a_configuration_cannot_be_read_from_the_host(store, tmp_path):
    secret = write(tmp_path, "secret.json", json.dumps({"config": {"Cmd": ["/secret"]}}).encode())
    data = tar(member("c", kind=tarfile.SYMTYPE, linkname=str(secret)),
               member("manifest.json", b'[{"Config":"c","Layers":[]}]'))
    assert "/secret" not in store.refuse(write(tmp_path, "i.tar", data), flags=())


def test_bad_names_and_missing_sources_are_told(store, tmp_path):
    for name in ("", "UPPER CASE", "a" * 400, "../x", "a/../b", "x:"):
        result = store.run("import", name, tmp_path, "--entrypoint", "/x")
        assert result.returncode == 1 and result.stderr.startswith("error: "), name
    assert "No such file" in store.refuse(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    store.refuse(tmp_path / "pipe")


@pytest.mark.fault
def test_a_killed_import_leaves_nothing(store, tmp_path):
    path = write(tmp_path, "t.tar", tar(*[member(f"f{i}", os.urandom(1 << 20)) for i in range(200)]))
    process = subprocess.Popen([str(PLANE), "image", "import", "big", str(path), "--entrypoint",
                                "/x", "--data-dir", str(store.directory)],
                               stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    tmp = store.directory / "images" / "tmp"
    while process.poll() is None and not list(tmp.glob("*/tree/rootfs/f1")):
        pass
    process.kill()
    process.wait()
    small = store.add("small", write(tmp_path, "s.tar", tar(member("x", b"1"))), "--entrypoint", "/x")
    assert list(tmp.glob("*")) == []
    names = [i["name"] for i in json.loads(store.run("list", "--json").stdout)]
    assert small["name"] in names
