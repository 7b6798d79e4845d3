"""Registries through the Docker SDK for Python.

Speaks to the engine of DOCKER_HOST, which has the image busybox; the second
argument is the address of a registry that has the image there:1, the third one
that wants the user ann with the password secret.
"""

import sys
import urllib.request

import docker
from docker.errors import APIError, ImageNotFound, NotFound

client = docker.from_env(version="auto", timeout=60)
HOST, PRIVATE = sys.argv[2], sys.argv[3]


def pulls_an_image_and_runs_it():
    image = client.images.pull(f"{HOST}/there", tag="1")
    assert image.tags == [f"{HOST}/there:1"], image.tags
    assert image.attrs["RepoDigests"][0].startswith(f"{HOST}/there@sha256:")
    out = client.containers.run(image, ["echo", "hi"], network_mode="none", remove=True)
    assert out == b"hi\n"


def pulls_what_a_run_misses():
    client.images.remove(f"{HOST}/there:1")
    out = client.containers.run(
        f"{HOST}/there:1", ["echo", "again"], network_mode="none", remove=True
    )
    assert out == b"again\n"


def tells_progress_as_it_comes():
    client.images.remove(f"{HOST}/there:1")
    steps = list(client.api.pull(f"{HOST}/there", tag="1", stream=True, decode=True))
    words = [step.get("status", "") for step in steps]
    assert words[0] == "Pulling from there" and steps[0]["id"] == "1"
    for word in ("Pulling fs layer", "Download complete", "Pull complete"):
        assert word in words, words
    assert words[-1] == f"Status: Downloaded newer image for {HOST}/there:1"


def pushes_and_reads_what_the_registry_has():
    image = client.images.get(f"{HOST}/there:1")
    assert image.tag(f"{HOST}/mine", "2")
    steps = list(client.api.push(f"{HOST}/mine", tag="2", stream=True, decode=True))
    assert not [step for step in steps if "error" in step], steps
    aux = [step["aux"] for step in steps if "aux" in step][0]
    data = client.images.get_registry_data(f"{HOST}/mine:2")
    assert data.id == aux["Digest"], (data.id, aux)
    assert data.has_platform("linux/amd64") or data.has_platform("linux/arm64")


def makes_the_tour():
    """A service is pulled, run, asked, changed, kept, sent, removed, fetched again and asked again."""

    def serve(image, before=""):
        words = f"{before} httpd -h /srv; echo ready; exec sleep infinity"
        box = client.containers.run(
            image, ["sh", "-c", words], detach=True, ports={"80/tcp": ("127.0.0.1", None)}
        )
        for line in box.logs(stream=True, follow=True):
            if b"ready" in line:
                break
        box.reload()
        return box, box.ports["80/tcp"][0]["HostPort"]

    def page(port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            return answer.read()

    name, tag = f"{HOST}/site", "2"
    client.images.pull(f"{HOST}/there", tag="1")
    box, port = serve(f"{HOST}/there:1", "mkdir -p /srv; echo first > /srv/index.html;")
    assert page(port) == b"first\n"
    code, _ = box.exec_run(["sh", "-c", "echo changed > /srv/index.html"])
    assert code == 0 and page(port) == b"changed\n"
    kept = box.commit(repository=name, tag=tag, message="a page", author="me")
    box.remove(force=True)
    steps = list(client.images.push(name, tag=tag, stream=True, decode=True))
    assert not [step for step in steps if "error" in step], steps
    client.images.remove(f"{name}:{tag}", force=True)
    try:
        client.images.get(f"{name}:{tag}")
        raise AssertionError("the image is still here")
    except ImageNotFound:
        pass
    image = client.images.pull(name, tag=tag)
    assert image.id == kept.id and image.attrs["Author"] == "me", image.attrs
    box, port = serve(image)
    assert page(port) == b"changed\n"
    box.remove(force=True)


def logs_in_and_uses_it():
    name = f"{PRIVATE}/private"
    try:
        client.images.pull(name, tag="1")
        raise AssertionError("nobody asked who it is")
    except APIError as error:
        assert "no basic auth credentials" in str(error), error
    try:
        client.login("ann", "wrong", registry=PRIVATE, reauth=True)
        raise AssertionError("a wrong password was believed")
    except APIError as error:
        assert error.response.status_code == 401, error
    answer = client.login("ann", "secret", registry=PRIVATE, reauth=True)
    assert answer["Status"] == "Login Succeeded", answer
    assert f"{PRIVATE}/private:1" in client.images.pull(name, tag="1").tags


def tells_what_is_not_there():
    for error, call in (
        (NotFound, lambda: client.images.pull(f"{HOST}/nosuch", tag="1")),
        (NotFound, lambda: client.images.get_registry_data(f"{HOST}/nosuch:1")),
    ):
        try:
            call()
            raise AssertionError("something was found")
        except (error, ImageNotFound) as failure:
            assert "manifest unknown" in str(failure), failure


for case in (
    pulls_an_image_and_runs_it,
    pulls_what_a_run_misses,
    tells_progress_as_it_comes,
    pushes_and_reads_what_the_registry_has,
    makes_the_tour,
    logs_in_and_uses_it,
    tells_what_is_not_there,
):
    case()
    print("ok", case.__name__)
