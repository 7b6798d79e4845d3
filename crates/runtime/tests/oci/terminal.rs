//! Terminals: sent to a console socket, or relayed to our own.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;

use conex_spec::runtime::ConsoleSize;

use crate::bundle::bundle_or_skip;
use crate::bundle::{stderr, stdout};

/// Reads from a terminal until a text came.
fn read_until(terminal: &OwnedFd, text: &str) -> String {
    let mut got = String::new();
    let mut buffer = [0; 4096];
    let mut file = std::fs::File::from(terminal.try_clone().unwrap());
    while !got.contains(text) {
        match file.read(&mut buffer) {
            Ok(0) | Err(_) => panic!("{text:?} did not come, only {got:?}"),
            Ok(n) => got.push_str(&String::from_utf8_lossy(&buffer[..n])),
        }
    }
    got
}

fn receive(listener: &UnixListener) -> OwnedFd {
    let (connection, _) = listener.accept().unwrap();
    let (length, mut fds) = conex_sys::socket::receive(connection.as_fd(), &mut [0; 64]).unwrap();
    assert!(length > 0);
    fds.pop().expect("a terminal comes with the message")
}

#[test]
fn a_terminal_goes_to_the_console_socket() {
    let mut bundle = bundle_or_skip!();
    // Deeper than an address of a socket may be.
    let deep = bundle.path().join("d".repeat(100)).join("console");
    std::fs::create_dir_all(deep.parent().unwrap()).unwrap();
    let listener = {
        let dir = std::fs::File::open(deep.parent().unwrap()).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&dir);
        UnixListener::bind(format!("/proc/self/fd/{fd}/console")).unwrap()
    };
    bundle.process().terminal = true;
    bundle.process().console_size = Some(ConsoleSize {
        height: 33,
        width: 77,
    });
    bundle.script("readlink /proc/self/fd/0 2>&1; busybox stty size; stat -c %t:%T:%u /dev/console; echo ready; read line; echo got $line; sleep 1000");
    bundle.process().user.uid = 12;
    let socket = deep.to_str().unwrap();
    let created = bundle.detached(&["create", "--console-socket", socket, &bundle.id]);
    assert!(created.status.success(), "{}", stderr(&created));
    let terminal = receive(&listener);
    assert!(bundle.oci(&["start", &bundle.id]).status.success());
    let text = read_until(&terminal, "ready\r\n");
    assert!(
        text.starts_with("/dev/pts/0\r\n33 77\r\n88:0:12\r\n"),
        "{text}"
    );
    std::fs::File::from(terminal.try_clone().unwrap())
        .write_all(b"word\n")
        .unwrap();
    read_until(&terminal, "got word");

    let exec = bundle.detached(&[
        "exec",
        "-t",
        "-d",
        "--console-socket",
        socket,
        &bundle.id,
        "sh",
        "-c",
        "busybox tty; sleep 1000",
    ]);
    assert!(exec.status.success(), "{}", stderr(&exec));
    read_until(&receive(&listener), "/dev/pts/1");
}

#[test]
fn a_terminal_without_a_socket_is_relayed() {
    let mut bundle = bundle_or_skip!();
    bundle.process().terminal = true;
    let text = bundle.run_script("busybox tty; echo done");
    assert_eq!(text, "/dev/pts/0\r\ndone\r\n");
    bundle.process().terminal = false;
    bundle.sleeper();
    let output = bundle.oci(&[
        "exec",
        "--tty",
        &bundle.id,
        "sh",
        "-c",
        "busybox tty; exit 3",
    ]);
    assert_eq!(
        (stdout(&output).as_str(), output.status.code()),
        ("/dev/pts/0\r\n", Some(3))
    );
}

#[test]
fn a_terminal_without_a_holder_is_refused() {
    let mut bundle = bundle_or_skip!();
    bundle.process().terminal = true;
    let created = bundle.detached(&["create", &bundle.id]);
    assert!(stderr(&created).starts_with("cannot allocate tty if the runtime will detach"));
    assert!(bundle.is_clean());
}
