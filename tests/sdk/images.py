"""Images and the engine itself through the Docker SDK for Python.

Speaks to the engine of DOCKER_HOST, which has the image busybox alone; the
first argument is the tar it was made of.
"""

import json
import sys

import docker
from docker.errors import APIError, ImageNotFound

client = docker.from_env(version="auto", timeout=30)
TAR = sys.argv[1]


def tells_what_the_engine_is():
    assert client.ping() is True
    version, info = client.version(), client.info()
    assert version["Components"][0]["Name"] == "Engine"
    assert version["Version"] == info["ServerVersion"]
    assert info["OSType"] == "linux" and info["Images"] == 1


def imports_with_changes():
    answer = client.api.import_image_from_file(TAR, repository="made", tag="1")
    identity = json.loads(answer)["status"]
    image = client.images.get("made:1")
    assert (image.id, image.tags, image.labels) == (identity, ["made:1"], {})
    with open(TAR, "rb") as tar:
        client.api.import_image_from_data(
            tar.read(),
            repository="made",
            tag="2",
            changes=['CMD ["echo", "hi"]', "ENV A=b", "LABEL l=m"],
        )
    config = client.images.get("made:2").attrs["Config"]
    assert (config["Cmd"], config["Env"]) == (["echo", "hi"], ["A=b"]), config
    assert client.containers.run("made:2", remove=True) == b"hi\n"


def names_come_and_go():
    def listed(**options):
        return sorted(tag for image in client.images.list(**options) for tag in image.tags)

    assert listed() == ["busybox:latest", "made:1", "made:2"]
    assert listed(name="made:2") == listed(filters={"label": "l=m"}) == ["made:2"]
    assert listed(filters={"dangling": True}) == []
    image = client.images.get("made:1")
    assert image.tag("other/name", "x")
    image.reload()
    assert sorted(image.tags) == ["made:1", "other/name:x"]
    client.images.remove("other/name:x")
    for name in ("made:1", "made:2"):
        client.images.remove(name)
    assert listed() == ["busybox:latest"]
    for gone in (client.images.get, client.images.remove):
        try:
            gone("made:1")
        except ImageNotFound as error:
            assert error.explanation == "No such image: made:1", error
        else:
            raise AssertionError("it was removed")


def refuses_what_makes_no_sense():
    wrong = [
        dict(name="bad name"),
        dict(mem_limit=1024),
        dict(restart_policy={"Name": "sometimes"}),
    ]
    for options in wrong:
        try:
            client.containers.create("busybox", ["true"], **options)
        except APIError as error:
            assert error.status_code == 400, error
        else:
            raise AssertionError(f"accepted: {options}")


CASES = [
    tells_what_the_engine_is,
    imports_with_changes,
    names_come_and_go,
    refuses_what_makes_no_sense,
]

for case in CASES:
    case()
print(json.dumps([case.__name__ for case in CASES]))
