"""An engine under TLS through the Docker SDK for Python: who is let in, streams, and a socket of one's own.

Arguments: a tar (unused), the engine's address host:port, and the directories of three clients: one that is let in,
one whose certificate is over, one of a foreign authority.
"""

import sys

import docker
from docker.tls import TLSConfig

_, address, good, late, stranger = sys.argv[1:]


def client(directory, **more):
    pair = (f"{directory}/cert.pem", f"{directory}/key.pem")
    config = TLSConfig(client_cert=pair, **{"ca_cert": f"{good}/ca.pem", "verify": True, **more})
    return docker.DockerClient(base_url=f"https://{address}", tls=config, version="auto", timeout=30)


def refuses(what):
    try:
        what().ping()
    except docker.errors.DockerException as error:
        return str(error)
    except OSError as error:
        return str(error)
    raise AssertionError("it was let in")


def lets_in_whom_it_knows():
    assert client(good).ping()
    config = TLSConfig(ca_cert=f"{good}/ca.pem", verify=True)
    assert "certificate required" in refuses(
        lambda: docker.DockerClient(base_url=f"https://{address}", tls=config, version="auto")
    ).lower().replace("_", " ")
    assert "alert" in refuses(lambda: client(late)).lower()
    assert "alert" in refuses(lambda: client(stranger)).lower()
    assert "certificate verify failed" in refuses(
        lambda: client(good, ca_cert=f"{stranger}/ca.pem")
    ).lower().replace("_", " ")


def streams():
    it = client(good).containers
    script = "for n in 1 2 3; do echo out $n; done; head -c 300000 /dev/zero"
    output = it.run("busybox", ["sh", "-c", script], network_mode="none", remove=True)
    assert output.startswith(b"out 1\nout 2\nout 3\n") and len(output) == 18 + 300000, len(output)


def speaks_through_a_socket():
    one = client(good).containers.run(
        "busybox", ["sleep", "1000"], detach=True, network_mode="none", stop_signal="KILL"
    )
    _, stream = one.exec_run("cat", stdin=True, socket=True)
    raw = getattr(stream, "_sock", stream)
    raw.sendall(b"hello\n")
    seen = b""
    while len(seen) < 14:
        seen += raw.recv(14 - len(seen))
    assert seen == b"\x01\0\0\0\0\0\0\x06hello\n", seen
    raw.close()
    one.remove(force=True)


for case in [lets_in_whom_it_knows, streams, speaks_through_a_socket]:
    case()
    print(case.__name__)
