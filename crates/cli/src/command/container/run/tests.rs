//! `run` against an engine that is a few lines of this file.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex};

use super::*;
use crate::command::dispatch;
use crate::output::Output;

const ID: &str = "18a4bf6a296f296272530151f4d8b06e4e9bf6b4f68d4cef151532c72bee632c";

/// An engine with one container that ends with code 7 as soon as it is started.
struct Engine {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    requests: Mutex<Vec<String>>,
    started: Mutex<bool>,
    changed: Condvar,
    /// What the start answers instead of success.
    start_error: Option<&'static str>,
}

impl Engine {
    fn new(start_error: Option<&'static str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let state = Arc::new(State {
            start_error,
            ..State::default()
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream.unwrap(), &state));
            }
        });
        Self {
            _dir: dir,
            socket,
            state,
        }
    }

    fn run(&self, words: &[&str]) -> ExitCode {
        let host = format!("unix://{}", self.socket.display());
        let words: Vec<String> = ["-H", &host]
            .iter()
            .chain(words)
            .map(|w| (*w).to_owned())
            .collect();
        dispatch("conex", &words, Output::keeping(), Output::keeping())
    }

    fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }
}

fn serve(mut stream: UnixStream, state: &State) {
    loop {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.to_ascii_lowercase();
        let length = length.split("content-length: ").nth(1).map_or(0, |rest| {
            rest.split('\r').next().unwrap().parse::<usize>().unwrap()
        });
        stream.read_exact(&mut vec![0; length]).unwrap();
        let call = head.split(' ').nth(1).unwrap().replace(ID, "ID");
        state.requests.lock().unwrap().push(call.clone());
        let mut say = |text: &str| stream.write_all(text.as_bytes()).unwrap();
        let wait_for_start = || {
            let started = state.started.lock().unwrap();
            drop(
                state
                    .changed
                    .wait_while(started, |started| !*started)
                    .unwrap(),
            );
        };
        if call.contains("/create") {
            let body = format!("{{\"Id\":\"{ID}\",\"Warnings\":[]}}");
            say(&format!(
                "HTTP/1.1 201 Created\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ));
        } else if call.contains("/attach") {
            say("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
            wait_for_start();
            return;
        } else if call.contains("/wait") {
            say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            wait_for_start();
            say("10\r\n{\"StatusCode\":7}\r\n0\r\n\r\n");
        } else {
            match state.start_error {
                None => say("HTTP/1.1 204 No Content\r\n\r\n"),
                Some(text) => {
                    let body = format!("{{\"message\":\"{text}\"}}");
                    say(&format!(
                        "HTTP/1.1 400 Bad Request\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    ));
                }
            }
            *state.started.lock().unwrap() = true;
            state.changed.notify_all();
        }
    }
}

#[test]
fn attach_and_wait_are_answered_before_the_start() {
    let engine = Engine::new(None);
    assert_eq!(
        engine.run(&["run", "--rm", "--name", "n", "busybox", "true"]),
        ExitCode::from(7)
    );
    let mut requests = engine.requests();
    assert_eq!(requests.len(), 4);
    assert_eq!(requests[0], "/v1.56/containers/create?name=n");
    assert_eq!(requests[3], "/v1.56/containers/ID/start");
    requests[1..3].sort();
    assert_eq!(
        requests[1..3],
        [
            "/v1.56/containers/ID/attach?stream=1&stdout=1&stderr=1",
            "/v1.56/containers/ID/wait?condition=removed"
        ]
    );
}

#[test]
fn a_detached_run_is_two_calls() {
    let engine = Engine::new(None);
    assert_eq!(engine.run(&["run", "-d", "busybox"]), ExitCode::SUCCESS);
    assert_eq!(
        engine.requests(),
        ["/v1.56/containers/create", "/v1.56/containers/ID/start"]
    );
}

#[test]
fn a_start_that_fails_has_dockers_exit_code() {
    let engine = Engine::new(Some("exec: \\\"x\\\": executable file not found in $PATH"));
    assert_eq!(
        engine.run(&["run", "--rm", "busybox", "x"]),
        ExitCode::from(127)
    );
    let engine = Engine::new(Some("port is already allocated"));
    assert_eq!(engine.run(&["run", "-d", "busybox"]), ExitCode::from(125));
}

#[test]
fn what_the_client_refuses_reaches_no_engine() {
    let engine = Engine::new(None);
    for (words, code) in [
        (&["run", "--pull", "x", "busybox"][..], 125),
        (&["run", "Busybox"], 125),
        (&["run", "-d", "-a", "stdout", "busybox"], 1),
        (&["run", "--rm", "--restart", "always", "busybox"], 125),
        (&["create", "Busybox"], 1),
    ] {
        assert_eq!(engine.run(words), ExitCode::from(code), "{words:?}");
    }
    assert_eq!(engine.requests(), [""; 0]);
}

#[test]
fn the_engines_words_decide_the_exit_code() {
    for (text, code) in [
        ("exec: \"nosuch\": executable file not found in $PATH", 127),
        ("exec: \"/x\": stat /x: no such file or directory", 127),
        ("exec: \"/etc/passwd\": permission denied", 126),
        ("exec: \"/etc\": is a directory", 126),
        (
            "Conflict. The container name \"/web\" is already in use",
            125,
        ),
    ] {
        assert_eq!(exit_code_for(text), code, "{text}");
    }
}
