"""Execs and volumes through the Docker SDK for Python: output whole, in pieces, as a socket.

Speaks to the engine of DOCKER_HOST, which has the image busybox and no containers.
"""

import json
import socket

import docker
from docker.errors import APIError, NotFound

client = docker.from_env(version="auto", timeout=30)
it = client.containers.run("busybox", ["sleep", "1000"], detach=True, name="home")


def until_its_end(raw):
    return b"".join(iter(lambda: raw.recv(65536), b""))


def tells_output_and_exit_code():
    assert it.exec_run(["sh", "-c", "echo out; exit 7"]) == (7, b"out\n")
    code, both = it.exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True)
    assert (code, both) == (0, (b"out\n", b"err\n")), both
    code, text = it.exec_run("id -un", user="nobody", environment={"A": "b"}, workdir="/tmp")
    assert (code, text) == (0, b"nobody\n"), text
    code, text = it.exec_run(["sh", "-c", "pwd; echo $A"], environment=["A=b"], workdir="/tmp")
    assert (code, text) == (0, b"/tmp\nb\n"), text
    code, text = it.exec_run("nosuch")
    assert code == 127 and b"executable file not found in $PATH" in text, text


def streams_in_pieces():
    script = "for n in 1 2 3; do echo out $n; echo err $n >&2; done"
    code, pieces = it.exec_run(["sh", "-c", script], stream=True)
    # A stream has no exit code yet.
    assert code is None
    assert sorted(b"".join(pieces).split(b"\n"))[1:] == sorted(
        b"%s %d" % (word, n) for word in (b"out", b"err") for n in (1, 2, 3)
    )
    code, pieces = it.exec_run(["sh", "-c", script], stream=True, demux=True)
    pieces = list(pieces)
    assert b"".join(out or b"" for out, _ in pieces) == b"out 1\nout 2\nout 3\n", pieces
    assert b"".join(err or b"" for _, err in pieces) == b"err 1\nerr 2\nerr 3\n", pieces


def speaks_through_a_socket():
    _, stream = it.exec_run("cat", stdin=True, socket=True)
    raw = stream._sock
    raw.sendall(b"hello\n")
    raw.shutdown(socket.SHUT_WR)
    assert until_its_end(raw) == b"\x01\0\0\0\0\0\0\x06hello\n"
    raw.close()
    # A megabyte both ways at once.
    _, stream = it.exec_run(["sh", "-c", "head -c 1000000 | wc -c"], stdin=True, socket=True)
    raw = stream._sock
    raw.sendall(b"x" * 1000000)
    raw.shutdown(socket.SHUT_WR)
    assert until_its_end(raw).endswith(b"1000000\n")
    raw.close()


def has_a_terminal_of_any_size():
    api = client.api
    made = api.exec_create(it.id, ["sh"], stdin=True, tty=True)["Id"]
    raw = api.exec_start(made, tty=True, socket=True)._sock
    api.exec_resize(made, height=33, width=111)
    raw.sendall(b"stty size; exit 5\n")
    said = until_its_end(raw)
    assert b"33 111" in said, said
    raw.close()
    about = api.exec_inspect(made)
    assert (about["ExitCode"], about["Running"], about["OpenStdin"]) == (5, False, True), about
    assert about["ProcessConfig"] == {
        "tty": True,
        "entrypoint": "sh",
        "arguments": [],
        "privileged": False,
    }, about


def goes_on_detached():
    made = client.api.exec_create(it.id, ["sh", "-c", "mkfifo /gone; read x < /gone; exit $x"])["Id"]
    assert client.api.exec_start(made, detach=True) == ""
    assert client.api.exec_inspect(made)["Running"]
    assert it.exec_run(["sh", "-c", "until [ -p /gone ]; do :; done; echo 9 > /gone"])[0] == 0
    died = client.events(decode=True, since=0, filters={"event": "exec_die"})
    codes = (e["Actor"]["Attributes"]["exitCode"] for e in died if e["Actor"]["Attributes"]["execID"] == made)
    assert next(codes) == "9"
    died.close()


def is_refused_where_it_cannot_be():
    it.pause()
    try:
        it.exec_run("true")
    except APIError as error:
        assert error.status_code == 409 and "is paused" in error.explanation, error
    else:
        raise AssertionError("a paused container takes no exec")
    it.unpause()


def keeps_volumes():
    volume = client.volumes.create("kept", labels={"tier": "1"})
    assert client.volumes.create("kept").id == volume.id
    mounted = {"kept": {"bind": "/data", "mode": "rw"}}
    client.containers.run("busybox", ["touch", "/data/file"], volumes=mounted, remove=True)
    mounted["kept"]["mode"] = "ro"
    user = client.containers.create("busybox", ["ls", "/data"], volumes=mounted)
    assert [v.name for v in client.volumes.list(filters={"label": "tier=1"})] == ["kept"]
    assert client.volumes.list(filters={"dangling": True}) == []
    try:
        volume.remove()
    except APIError as error:
        assert error.status_code == 409, error
        assert error.explanation == "remove kept: volume is in use - [%s]" % user.id
    else:
        raise AssertionError("a volume in use stays")
    user.start()
    assert (user.wait()["StatusCode"], user.logs()) == (0, b"file\n")
    user.remove()
    client.volumes.create()
    pruned = client.volumes.prune()
    assert len(pruned["VolumesDeleted"]) == 1 and pruned["SpaceReclaimed"] > 0, pruned
    volume.remove()
    try:
        client.volumes.get("kept")
    except NotFound as error:
        assert error.explanation == "get kept: no such volume", error
    else:
        raise AssertionError("it was removed")


CASES = [
    tells_output_and_exit_code,
    streams_in_pieces,
    speaks_through_a_socket,
    has_a_terminal_of_any_size,
    goes_on_detached,
    is_refused_where_it_cannot_be,
    keeps_volumes,
]

for case in CASES:
    case()
print(json.dumps([case.__name__ for case in CASES]))
