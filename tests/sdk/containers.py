"""Containers through the Docker SDK for Python: run, lifecycle, logs, attach, wait, events.

Speaks to the engine of DOCKER_HOST, which has the image busybox and no containers.
"""

import json
import socket
import threading
import time

import docker
from docker.errors import APIError, ContainerError, NotFound

client = docker.from_env(version="auto", timeout=30)


def runs_in_the_foreground():
    run = client.containers.run
    assert run("busybox", ["echo", "hello"], remove=True) == b"hello\n"
    both = ["sh", "-c", "echo out; echo err >&2; exit 3"]
    try:
        run("busybox", both, remove=True)
    except ContainerError as error:
        assert (error.exit_status, error.stderr) == (3, b"err\n"), error
    else:
        raise AssertionError("an exit code of 3 is no success")
    try:
        run("busybox", ["nosuch"], remove=True)
    except APIError as error:
        assert error.status_code == 400, error
        assert "executable file not found in $PATH" in error.explanation
    else:
        raise AssertionError("a missing command is no success")
    # The SDK leaves what it could not start.
    (left,) = client.containers.list(all=True)
    left.reload()
    assert (left.status, left.attrs["State"]["ExitCode"]) == ("created", 127)
    left.remove()


def goes_through_its_states():
    it = client.containers.run(
        "busybox",
        ["sleep", "1000"],
        detach=True,
        name="sdk",
        labels={"k": "v"},
        environment={"A": "b"},
        mem_limit="64m",
        tmpfs={"/scratch": ""},
        stop_signal="SIGKILL",
    )
    it.reload()
    assert (it.name, it.status, it.labels) == ("sdk", "running", {"k": "v"})
    assert it.image.tags == ["busybox:latest"]
    assert it.attrs["HostConfig"]["Memory"] == 64 << 20

    def listed(**filters):
        return [c.name for c in client.containers.list(all=True, filters=filters)]

    assert listed(label="k=v") == listed(name="sd", status="running") == ["sdk"]
    assert listed(ancestor="busybox") == ["sdk"]
    assert listed(label="k=w") == listed(status="exited") == []

    try:
        it.remove()
    except APIError as error:
        assert error.status_code == 409
    else:
        raise AssertionError("a running container is not removed")
    it.restart(timeout=0)
    it.stop()
    it.stop()
    assert it.wait()["StatusCode"] == 137
    it.start()
    it.kill()
    assert it.wait() == {"StatusCode": 137}
    it.reload()
    assert it.status == "exited"
    it.remove(v=True)
    try:
        client.containers.get("sdk")
    except NotFound as error:
        assert error.explanation == "No such container: sdk"
    else:
        raise AssertionError("it was removed")


def waits_for_the_next_exit_and_the_removal():
    it = client.containers.create("busybox", ["sh", "-c", "read x; exit 9"], stdin_open=True)

    def waiting(condition):
        results = []
        thread = threading.Thread(target=lambda: results.append(it.wait(condition=condition)))
        thread.start()
        return thread, results

    thread, results = waiting("next-exit")
    stdin = it.attach_socket(params={"stdin": 1, "stream": 1})
    it.start()
    stdin._sock.sendall(b"go\n")
    thread.join(30)
    assert results == [{"StatusCode": 9}], results
    stdin.close()
    thread, results = waiting("removed")
    it.remove()
    thread.join(30)
    # A wait that comes too late finds nothing to wait for.
    assert results in ([{"StatusCode": 9}], []), results


def logs_can_be_cut_and_followed():
    script = "for i in 1 2 3; do echo out$i; echo err$i >&2; done"
    it = client.containers.run("busybox", ["sh", "-c", script], detach=True)
    followed = b"".join(it.logs(stream=True, follow=True))
    assert sorted(followed.split()) == [b"err1", b"err2", b"err3", b"out1", b"out2", b"out3"]
    assert it.logs(stderr=False) == b"out1\nout2\nout3\n"
    assert it.logs(tail=2).count(b"\n") == 2
    assert it.logs(since=int(time.time()) + 60) == b""
    stamped = it.logs(timestamps=True, stderr=False).splitlines()[0]
    assert stamped.endswith(b"Z out1") and stamped[4:5] == b"-", stamped
    assert it.attach(logs=True, stream=False, stderr=False) == b"out1\nout2\nout3\n"
    it.remove()


def attaches_to_the_streams():
    it = client.containers.create("busybox", ["sh", "-c", "echo out; echo err >&2"])
    stream = it.attach(stream=True, demux=True)
    it.start()
    pieces = list(stream)
    assert b"".join(out or b"" for out, _ in pieces) == b"out\n", pieces
    assert b"".join(err or b"" for _, err in pieces) == b"err\n", pieces
    it.remove()

    it = client.containers.create("busybox", ["cat"], stdin_open=True)
    raw = it.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})._sock
    it.start()
    raw.sendall(b"hello\n")
    raw.shutdown(socket.SHUT_WR)
    assert b"".join(iter(lambda: raw.recv(4096), b"")) == b"\x01\0\0\0\0\0\0\x06hello\n"
    raw.close()
    assert it.wait()["StatusCode"] == 0
    it.remove()

    it = client.containers.create("busybox", ["sh"], stdin_open=True, tty=True)
    raw = it.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})._sock
    it.start()
    it.resize(33, 111)
    raw.sendall(b"stty size; exit 5\n")
    said = b"".join(iter(lambda: raw.recv(4096), b""))
    assert b"33 111" in said, said
    raw.close()
    assert it.wait()["StatusCode"] == 5
    it.remove()


def events_tell_it_all_again():
    past = client.events(
        decode=True,
        since=0,
        until=int(time.time()) + 1,
        filters={"type": "container", "container": "sdk"},
    )
    actions = [event["Action"] for event in past]
    assert actions[:2] == ["create", "start"] and actions[-1] == "destroy", actions
    assert actions.count("start") == 3 and actions.count("die") == 3, actions


CASES = [
    runs_in_the_foreground,
    goes_through_its_states,
    waits_for_the_next_exit_and_the_removal,
    logs_can_be_cut_and_followed,
    attaches_to_the_streams,
    events_tell_it_all_again,
]

for case in CASES:
    case()
print(json.dumps([case.__name__ for case in CASES]))
