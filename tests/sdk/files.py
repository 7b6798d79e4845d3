"""Files of containers through the Docker SDK for Python: archives both ways,
export, diff and commit, as testcontainers and others use them.

Speaks to the engine of DOCKER_HOST, which has the image busybox alone.
"""

import io
import json
import tarfile

import docker
from docker.errors import APIError, NotFound

client = docker.from_env(version="auto", timeout=60)


def tar_of(files):
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as tar:
        for name, (text, mode) in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text), mode
            tar.addfile(info, io.BytesIO(text))
    return memory.getvalue()


def members(stream):
    memory = io.BytesIO(b"".join(stream))
    with tarfile.open(fileobj=memory) as tar:
        return {
            member.name: tar.extractfile(member).read() if member.isfile() else None
            for member in tar
        }


def a_created_container_takes_a_script_and_runs_it():
    container = client.containers.create("busybox", ["/run.sh"], volumes=["/vol"])
    files = {"run.sh": (b"#!/bin/sh\ncat /vol/a/b\n", 0o755), "vol/a/b": (b"hello\n", 0o644)}
    assert container.put_archive("/", tar_of(files))
    container.start()
    assert container.wait(timeout=30)["StatusCode"] == 0
    assert container.logs() == b"hello\n"
    stream, stat = container.get_archive("/vol/a")
    assert members(stream) == {"a": None, "a/b": b"hello\n"}
    assert (stat["name"], stat["linkTarget"]) == ("a", ""), stat
    assert stat["mode"] & (1 << 31), stat
    assert container.diff() == [{"Path": "/run.sh", "Kind": 1}]
    container.remove(v=True)


def files_come_out_of_a_running_container():
    container = client.containers.run(
        "busybox", ["sleep", "1000"], detach=True, tmpfs={"/scratch": ""}, network_mode="none"
    )
    try:
        assert container.put_archive("/scratch", tar_of({"x": (b"tmpfs", 0o600)}))
        assert container.exec_run(["cat", "/scratch/x"]).output == b"tmpfs"
        stream, stat = container.get_archive("/scratch/x")
        assert (members(stream), stat["size"]) == ({"x": b"tmpfs"}, 5)
        for path in ("/no/such", "/scratch/no"):
            try:
                container.get_archive(path)
            except NotFound as error:
                assert path in error.explanation, error
            else:
                raise AssertionError(path)
        try:
            container.put_archive("/scratch/x", tar_of({"y": (b"", 0o600)}))
        except APIError as error:
            assert error.status_code == 400, error
        else:
            raise AssertionError("a file is no directory")
    finally:
        container.remove(force=True)


def a_container_is_committed_and_exported():
    container = client.containers.run(
        "busybox", ["sh", "-c", "echo made >/made; rm /etc/group"], detach=True, labels={"a": "b"}
    )
    container.wait(timeout=30)
    changes = {(change["Path"], change["Kind"]) for change in container.diff()}
    assert changes == {("/etc", 0), ("/etc/group", 2), ("/made", 1)}, changes
    image = container.commit(
        repository="made",
        tag="1",
        message="why",
        author="me",
        changes="CMD cat /made",
        conf={"Labels": {"c": "d"}},
    )
    assert (image.tags, image.labels) == (["made:1"], {"a": "b", "c": "d"})
    assert (image.attrs["Author"], image.attrs["Comment"]) == ("me", "why")
    assert client.containers.run("made:1", remove=True) == b"made\n"
    exported = members(container.export())
    assert exported["made"] == b"made\n" and "etc/group" not in exported
    assert "etc/passwd" in exported and "bin/busybox" in exported
    container.remove()
    client.images.remove("made:1")
    assert [tag for image in client.images.list() for tag in image.tags] == ["busybox:latest"]


CASES = [
    a_created_container_takes_a_script_and_runs_it,
    files_come_out_of_a_running_container,
    a_container_is_committed_and_exported,
]

for case in CASES:
    case()
print(json.dumps([case.__name__ for case in CASES]))
