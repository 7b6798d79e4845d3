"""Containers by websocket: the Docker SDK's attach_socket(ws=True), and a websocket client alone.

Arguments: a tar (unused) and the engine's address host:port, in clear text, for the SDK has no websockets elsewhere.
"""

import sys

import docker
import websocket

_, address = sys.argv[1:]
api = docker.APIClient(base_url=f"tcp://{address}", version="auto", timeout=30)


def make(script, **more):
    config = api.create_host_config(network_mode="none")
    made = api.create_container("busybox", ["sh", "-c", script], host_config=config, **more)
    return made["Id"]


def url(container, query, version="v1.43"):
    return f"ws://{address}/{version}/containers/{container}/attach/ws?{query}"


def messages(ws):
    """All of them to the end, as (opcode, bytes), and the code of the close."""
    found = []
    while True:
        opcode, data = ws.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return found, int.from_bytes(data[:2], "big")
        found.append((opcode, data))


def the_sdk_attaches():
    container = make("cat", stdin_open=True)
    params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
    ws = api.attach_socket(container, params, ws=True)
    api.start(container)
    ws.send("text\n")
    ws.send_binary(b"binary\n")
    seen = b""
    while len(seen) < 12:
        seen += ws.recv()
    assert seen == b"text\nbinary\n", seen
    # To leave is the end of the input.
    ws.close()
    assert api.wait(container)["StatusCode"] == 0
    api.remove_container(container)


def output_comes_without_frames_and_then_a_close():
    script = "echo out; echo err >&2; head -c 200000 /dev/zero | tr '\\0' x; exit 3"
    container = make(script)
    ws = websocket.create_connection(url(container, "stream=1&stdout=1&stderr=1"), timeout=30)
    api.start(container)
    found, code = messages(ws)
    assert code == 1000, code
    assert {opcode for opcode, _ in found} == {websocket.ABNF.OPCODE_BINARY}
    output = b"".join(data for _, data in found)
    # Errors come on a pipe of their own, anywhere between.
    assert output.count(b"err\n") == 1, output[:40]
    assert output.replace(b"err\n", b"") == b"out\n" + b"x" * 200000, len(output)
    # The past too, of one stream alone.
    ws = websocket.create_connection(url(container, "logs=1&stderr=1"), timeout=30)
    found, code = messages(ws)
    assert (b"".join(data for _, data in found), code) == (b"err\n", 1000), found
    # Of old, messages are text and all streams are meant.
    ws = websocket.create_connection(url(container, "logs=1", "v1.27"), timeout=30)
    found, code = messages(ws)
    assert {opcode for opcode, _ in found} == {websocket.ABNF.OPCODE_TEXT}, found[:3]
    assert len(b"".join(data for _, data in found)) == 200008
    api.remove_container(container)


def a_terminal_is_a_terminal():
    container = make("read line; echo got $line; exit 4", stdin_open=True, tty=True)
    ws = websocket.create_connection(
        url(container, "stream=1&stdin=1&stdout=1"), timeout=30, subprotocols=["console"]
    )
    assert ws.subprotocol == "console"
    api.start(container)
    ws.send("typed\r")
    found, _ = messages(ws)
    assert b"got typed\r\n" in b"".join(data for _, data in found), found
    assert api.wait(container)["StatusCode"] == 4
    api.remove_container(container)


def refuses(status, what, url, **more):
    try:
        websocket.create_connection(url, timeout=30, **more)
    except websocket.WebSocketBadStatusException as error:
        assert error.status_code == status, error
        assert what in str(error.resp_body), error.resp_body
    else:
        raise AssertionError("it was accepted")


def refusals_are_answers():
    refuses(404, "No such container: nosuch", url("nosuch", "stream=1"))
    container = make("true")
    refuses(400, "missing or bad WebSocket-Protocol", url(container, "stream=1"), subprotocols=["a", "b"])
    plain = api._get(api._url(f"/containers/{container}/attach/ws"))
    assert (plain.status_code, plain.json()["message"]) == (400, "not websocket protocol"), plain.text
    refuses(400, "Invalid detach keys", url(container, "stream=1&detachKeys=nosuch"))
    api.remove_container(container)


def keeps_its_limits():
    # To be cut off is the end of the input too, which this one does not read.
    container = make("exec sleep 1000", stdin_open=True)
    api.start(container)
    one = websocket.create_connection(url(container, "stream=1&stdin=1&stdout=1"), timeout=30)
    # Larger than a message may be: this client is cut off, the container is not hurt.
    try:
        one.send_binary(b"x" * (1 << 21))
        while one.recv():
            pass
    except (OSError, websocket.WebSocketException):
        pass
    # Pings are answered, and rest is left alone.
    two = websocket.create_connection(url(container, "stream=1&stdout=1"), timeout=30)
    two.ping("are you there")
    opcode, frame = two.recv_data_frame(control_frame=True)
    assert (opcode, frame.data) == (websocket.ABNF.OPCODE_PONG, b"are you there"), (opcode, frame)
    two.close()
    api.kill(container)
    api.remove_container(container, force=True)


for case in [
    the_sdk_attaches,
    output_comes_without_frames_and_then_a_close,
    a_terminal_is_a_terminal,
    refusals_are_answers,
    keeps_its_limits,
]:
    case()
    print(case.__name__)
