"""testcontainers for Python: containers of tests, with their ports, logs, files and networks.

Speaks to the engine of DOCKER_HOST, which has the image busybox and no containers. Without
Ryuk, whose image is not here.
"""

import io
import json
import os
import tarfile
import tempfile
import urllib.request
from pathlib import Path

import docker
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import (
    ExecWaitStrategy,
    FileExistsWaitStrategy,
    HealthcheckWaitStrategy,
    HttpWaitStrategy,
    LogMessageWaitStrategy,
    PortWaitStrategy,
)

client = docker.from_env()
PAGE = "echo a page > /www; httpd -f -v -p 8080 -h /"


def get(container, path):
    address = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(8080)}/{path}"
    with urllib.request.urlopen(address, timeout=10) as answer:
        return answer.read()


def a_port_is_published_at_random_and_answers():
    it = DockerContainer("busybox").with_command(["sh", "-c", PAGE]).with_exposed_ports(8080)
    with it.waiting_for(HttpWaitStrategy(8080, "/www")) as container:
        assert get(container, "www") == b"a page\n"
        one, two = container.get_exposed_port(8080), container.get_wrapped_container().ports
        assert {binding["HostPort"] for binding in two["8080/tcp"]} == {str(one)}, two
    with DockerContainer("busybox").with_command(["sh", "-c", PAGE]).with_bind_ports(8080, 28080) as container:
        container.waiting_for(PortWaitStrategy(8080))
        assert container.get_exposed_port(8080) == 28080
    assert client.containers.list(all=True) == []


def output_is_waited_for_and_kept_apart():
    command = ["sh", "-c", "echo starting >&2; sleep 0.2; echo it is ready; exec sleep 1000"]
    it = DockerContainer("busybox").with_command(command).waiting_for(LogMessageWaitStrategy("is ready"))
    with it as container:
        assert container.get_logs() == (b"it is ready\n", b"starting\n")
        assert container.get_wrapped_container().status in ("created", "running")
        container.reload()
        assert container.status == "running"
        assert container.get_container_info().State.Running


def a_program_that_ends_is_no_container_that_waits():
    container = DockerContainer("busybox").with_command(["sh", "-c", "exit 3"]).start()
    try:
        assert container.wait() == 3
        assert container.get_container_info().State.ExitCode == 3
    finally:
        container.stop()


def settings_reach_the_container():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "given").write_text("by the host\n")
        Path(folder, "env").write_text("FROM_FILE=yes\n")
        it = (
            DockerContainer("busybox")
            .with_command(["sleep", "1000"])
            .with_name("named")
            .with_env("ONE", "1")
            .with_envs(TWO="2")
            .with_env_file(Path(folder, "env"))
            .with_volume_mapping(folder, "/given", "ro")
            .with_tmpfs_mount("/scratch", "size=1m")
            .with_kwargs(labels={"kind": "test"}, hostname="host-of-tests", init=True, mem_limit="64m")
            .waiting_for(ExecWaitStrategy(["test", "-f", "/given/given"]))
        )
        with it as container:
            env = container.exec("env").output.decode()
            assert {"ONE=1", "TWO=2", "FROM_FILE=yes"} <= set(env.splitlines()), env
            assert container.exec(["cat", "/given/given", "/etc/hostname"]).output == b"by the host\nhost-of-tests\n"
            refused = container.exec(["touch", "/given/new"])
            assert refused.exit_code == 1 and b"Read-only" in refused.output, refused
            assert b"size=1024k" in container.exec(["grep", "/scratch", "/proc/mounts"]).output
            wrapped = container.get_wrapped_container()
            assert (wrapped.name, wrapped.labels["kind"]) == ("named", "test")
            assert wrapped.labels["org.testcontainers.lang"] == "python"
            assert wrapped.attrs["HostConfig"]["Init"] is True
            assert container.get_container_info().HostConfig.Memory == 64 << 20


def health_and_files_are_waited_for():
    with tempfile.TemporaryDirectory() as folder:
        made = f"{folder}/made"
        health = {"test": ["CMD", "test", "-f", "/made"], "interval": 10**8, "retries": 100}
        it = (
            DockerContainer("busybox")
            .with_command(["sh", "-c", "sleep 0.2; touch /made /out/made; exec sleep 1000"])
            .with_volume_mapping(folder, "/out", "rw")
            .with_kwargs(healthcheck=health, init=True)
        )
        with it.waiting_for(HealthcheckWaitStrategy()) as container:
            container.waiting_for(FileExistsWaitStrategy(made))
            assert os.path.exists(made)


def files_go_in_and_come_out():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "file").write_text("of the host\n")
        it = (
            DockerContainer("busybox")
            .with_command(["sh", "-c", "cat /in/bytes; exec sleep 1000"])
            .with_kwargs(init=True)
            .with_copy_into_container(b"before the start\n", "/in/bytes", 0o600)
            .with_copy_into_container(Path(folder, "file"), "/in/file", 0o644)
        )
        with it.waiting_for(LogMessageWaitStrategy("before the start")) as container:
            assert container.exec(["cat", "/in/file"]).output == b"of the host\n"
            assert container.exec(["stat", "-c", "%a", "/in/bytes"]).output == b"600\n"
            container.copy_into_container(b"while it runs\n", "/in/later", 0o644)
            back = Path(folder, "back")
            container.copy_from_container("/in/later", back)
            assert back.read_bytes() == b"while it runs\n"
            stream, _ = container.get_wrapped_container().get_archive("/in")
            archive = tarfile.open(fileobj=io.BytesIO(b"".join(stream)))
            assert sorted(archive.getnames()) == ["in", "in/bytes", "in/file", "in/later"]


def a_network_joins_containers_and_goes():
    with Network() as network:
        server = (
            DockerContainer("busybox")
            .with_command(["sh", "-c", PAGE])
            .with_network(network)
            .with_network_aliases("server", "other")
            .with_exposed_ports(8080)
            .waiting_for(HttpWaitStrategy(8080, "/www"))
        )
        with server as container:
            container.reload()
            info = container.get_wrapped_container().attrs["NetworkSettings"]["Networks"][network.name]
            assert {"server", "other"} <= set(info["Aliases"]), info
            fetch = ["wget", "-q", "-O", "-", "http://server:8080/www"]
            neighbour = DockerContainer("busybox").with_command(["sleep", "1000"]).with_network(network)
            with neighbour.with_kwargs(init=True) as reader:
                assert reader.exec(fetch).output == b"a page\n"
    assert client.networks.list(names=[network.name]) == []


CASES = [
    a_port_is_published_at_random_and_answers,
    output_is_waited_for_and_kept_apart,
    a_program_that_ends_is_no_container_that_waits,
    settings_reach_the_container,
    health_and_files_are_waited_for,
    files_go_in_and_come_out,
    a_network_joins_containers_and_goes,
]

for case in CASES:
    case()
assert client.containers.list(all=True) == []
print(json.dumps([case.__name__ for case in CASES]))
