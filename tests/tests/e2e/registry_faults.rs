//! Pulls that go wrong in the middle: nothing is half named, and the next pull goes on where the last one stopped.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use conex_tests::client::{Cli, Client};
use conex_tests::engine::Engine;
use conex_tests::http;
use conex_tests::process::Output;
use conex_tests::proxy::{Asked, Fault, Proxy};
use conex_tests::registry::{Access, Registry, noise, tar_of};
use serde_json::Value;

/// Bytes of the layer's content; it does not compress.
const CONTENT_BYTES: usize = 4_000_000;
/// Where an answer stops.
const STOP_BYTES: usize = 1_500_000;

/// An engine, a registry, and a proxy between them.
struct Room {
    engine: Engine,
    /// Runs as long as the room is there.
    _registry: Registry,
    proxy: Proxy,
    /// What is pulled, by the proxy.
    name: String,
    digest: String,
    /// The blob of its one layer.
    layer: String,
}

impl Room {
    fn new() -> Option<Room> {
        Room::with(Engine::start())
    }

    fn with(engine: Option<Engine>) -> Option<Room> {
        let engine = engine?;
        let registry = Registry::start(Access::Open)?;
        let digest = registry.push("big:1", &[tar_of(&[("big", &noise(CONTENT_BYTES, 1))])]);
        let proxy = Proxy::start(&registry.address);
        Some(Room {
            name: format!("{}/big:1", proxy.address),
            layer: registry.layers(&digest).remove(0),
            engine,
            _registry: registry,
            proxy,
            digest,
        })
    }

    fn cli(&self) -> Cli<'_> {
        self.engine.cli(Client::Conex)
    }

    fn pull(&self) -> Output {
        self.cli().run(&["pull", &self.name])
    }

    /// Decides about answers with the layer's bytes; they are counted from 0.
    fn judge(&self, judge: impl Fn(usize) -> Fault + Send + Sync + 'static) {
        let (layer, count) = (self.layer.clone(), AtomicUsize::new(0));
        self.proxy.judge(move |asked| match is_of(asked, &layer) {
            true => judge(count.fetch_add(1, Ordering::Relaxed)),
            false => Fault::None,
        });
    }

    /// From which byte on the layer was asked for, each time.
    fn starts(&self) -> Vec<usize> {
        let fetched = self.proxy.fetched();
        let of_layer = fetched.iter().filter(|asked| is_of(asked, &self.layer));
        of_layer
            .map(|asked| {
                let range = asked.range.trim_start_matches("bytes=");
                range.trim_end_matches('-').parse().unwrap_or(0)
            })
            .collect()
    }

    /// The image is here, with nothing left of its way.
    fn is_complete(&self) {
        let digests = self.cli().inspect(&self.name, "{{.RepoDigests}}");
        assert!(digests.contains(&self.digest), "{digests}");
        assert_eq!(self.partial(), Vec::<u64>::new());
    }

    /// Nothing has a name, and no layer is half here.
    fn is_nothing(&self) {
        assert_eq!(self.cli().ok(&["images", "-qa"]), "");
        assert_eq!(self.engine.layer_directories(), Vec::<String>::new());
    }

    /// Lengths of blobs that are on their way.
    fn partial(&self) -> Vec<u64> {
        let directory = self.engine.data_root().join("image/partial");
        let entries = std::fs::read_dir(directory).expect("the engine made it");
        entries
            .map(|entry| entry.and_then(|e| e.metadata()).map(|m| m.len()))
            .collect::<Result<_, _>>()
            .expect("it can be read")
    }

    /// Pulls until the layer stalls, then ends the client as Ctrl-C does.
    fn pull_until_it_stalls(&self) {
        self.judge(|number| match number {
            0 => Fault::StallAfter(STOP_BYTES),
            _ => Fault::None,
        });
        let mut client = self
            .cli()
            .command(&["pull", &self.name])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a client can be started");
        self.proxy.wait_for_stall();
        self.engine
            .wait_for_length("image/partial", STOP_BYTES as u64);
        let pid = rustix::process::Pid::from_child(&client);
        rustix::process::kill_process(pid, rustix::process::Signal::INT)
            .expect("a child can be signalled");
        client.wait().expect("a child can be reaped");
        // The engine has noticed, and let go.
        self.proxy.wait_for_stall();
    }
}

fn is_of(asked: &Asked, layer: &str) -> bool {
    asked.line.starts_with("GET") && asked.line.ends_with(layer)
}

#[test]
fn a_pull_that_was_interrupted_goes_on_where_it_stopped() {
    let Some(room) = Room::new() else { return };
    room.pull_until_it_stalls();
    let again = room.pull();
    assert_eq!(again.code, Some(0), "{again}");
    assert_eq!(room.starts(), [0, STOP_BYTES]);
    room.is_complete();
}

#[test]
fn a_pull_goes_on_where_a_killed_daemon_stopped() {
    let Some(mut room) = Room::new() else { return };
    room.judge(|number| match number {
        0 => Fault::StallAfter(STOP_BYTES),
        _ => Fault::None,
    });
    let mut client = room
        .cli()
        .command(&["pull", &room.name])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a client can be started");
    room.proxy.wait_for_stall();
    room.engine
        .wait_for_length("image/partial", STOP_BYTES as u64);
    room.engine.kill9();
    client.wait().expect("a child can be reaped");
    room.engine.resume();
    room.is_nothing();
    let again = room.pull();
    assert_eq!(again.code, Some(0), "{again}");
    assert_eq!(room.starts(), [0, STOP_BYTES]);
    room.is_complete();
}

#[test]
fn a_connection_that_breaks_is_made_again_within_the_pull() {
    let Some(room) = Room::new() else { return };
    room.judge(|number| match number {
        0 => Fault::CutAfter(STOP_BYTES),
        _ => Fault::None,
    });
    let pulled = room.pull();
    assert_eq!(pulled.code, Some(0), "{pulled}");
    assert!(pulled.stdout.contains("Retrying in 1 second"), "{pulled}");
    assert_eq!(room.starts(), [0, STOP_BYTES]);
    room.is_complete();
}

#[test]
fn a_layer_that_came_damaged_is_fetched_once_more() {
    let Some(room) = Room::new() else { return };
    room.judge(|number| match number {
        0 => Fault::Corrupt(STOP_BYTES),
        _ => Fault::None,
    });
    let pulled = room.pull();
    assert_eq!(pulled.code, Some(0), "{pulled}");
    assert_eq!(room.starts(), [0, 0]);
    room.is_complete();
}

#[test]
fn a_layer_that_always_comes_damaged_is_never_named() {
    let Some(room) = Room::new() else { return };
    room.judge(|_| Fault::Corrupt(STOP_BYTES));
    let pulled = room.pull();
    assert_eq!(pulled.code, Some(1), "{pulled}");
    let told = format!(
        "filesystem layer verification failed for digest {}",
        room.layer
    );
    assert!(pulled.stderr.contains(&told), "{pulled}");
    room.is_nothing();
    assert_eq!(room.partial(), Vec::<u64>::new(), "nothing damaged is kept");
}

#[test]
fn answers_that_are_none_are_told_and_leave_nothing() {
    let Some(room) = Room::new() else { return };
    let html = "HTTP/1.1 200 OK\r\ncontent-type: text/html";
    let looping = "HTTP/1.1 302 Found\r\nlocation: /v2/big/manifests/1";
    let limited = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 3600";
    for (answer, body, text) in [
        (html, b"<html>login</html>".to_vec(), "manifest for "),
        (html, vec![b' '; 10 << 20], "longer than 4194304 bytes"),
        (looping, Vec::new(), "stopped after 10 redirects"),
        (limited, Vec::new(), "toomanyrequests"),
    ] {
        room.proxy
            .judge(move |asked| match asked.line.contains("/manifests/") {
                true => Fault::Answer(answer.to_owned(), body.clone()),
                false => Fault::None,
            });
        let pulled = room.pull();
        assert_eq!(pulled.code, Some(1), "{text}: {pulled}");
        assert!(pulled.stderr.contains(text), "{text}: {pulled}");
        room.is_nothing();
    }
}

#[test]
fn four_pulls_of_one_image_fetch_its_layer_once() {
    let Some(room) = Room::new() else { return };
    room.judge(|number| match number {
        // Held until the others have come, and then broken.
        0 => Fault::CutAfter(STOP_BYTES),
        _ => Fault::None,
    });
    let room = Arc::new(room);
    let pulls: Vec<_> = (0..4)
        .map(|_| {
            let room = Arc::clone(&room);
            std::thread::spawn(move || room.pull())
        })
        .collect();
    for pull in pulls {
        let output = pull.join().expect("no pull panics");
        assert_eq!(output.code, Some(0), "{output}");
    }
    assert_eq!(room.starts(), [0, STOP_BYTES]);
    room.is_complete();
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_half_named() {
    let Some(room) = Room::with(Engine::start_on_disk(24)) else {
        return;
    };
    let filler = room.engine.data_root().join("filler");
    let left = 3 << 20;
    let size = room.engine.free_bytes().saturating_sub(left);
    let file = std::fs::File::create(&filler).expect("there is room");
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size)
        .expect("there is room");
    drop(file);
    let pulled = room.pull();
    assert_eq!(pulled.code, Some(1), "{pulled}");
    assert!(
        pulled
            .stderr
            .to_lowercase()
            .contains("no space left on device"),
        "{pulled}"
    );
    room.engine.settle();
    room.is_nothing();
    std::fs::remove_file(filler).expect("it can be removed");
    let again = room.pull();
    assert_eq!(again.code, Some(0), "{again}");
    assert!(
        room.starts().last().is_some_and(|start| *start > 0),
        "it goes on"
    );
    room.is_complete();
}

#[test]
fn a_mirror_serves_any_registry_and_is_passed_over_when_it_fails() {
    let Some(registry) = Registry::start(Access::Open) else {
        return;
    };
    let digest = registry.push("team/app:1", &[tar_of(&[("a", b"x")])]);
    let mirror = Proxy::start(&registry.address);
    let rule = format!("registry.example/team=http://{}/team", mirror.address);
    let dead = "registry.example=http://127.0.0.1:1";
    let flags = ["--mirror", rule.as_str(), "--mirror", dead];
    let Some(engine) = Engine::start_with(&flags, &[]) else {
        return;
    };
    let cli = engine.cli(Client::Conex);
    let said = cli.ok(&["pull", "registry.example/team/app:1"]);
    assert!(said.contains(&format!("Digest: {digest}")), "{said}");
    let digests = cli.inspect("registry.example/team/app:1", "{{.RepoDigests}}");
    assert_eq!(digests, format!("[registry.example/team/app@{digest}]"));
    // The mirror has not everything, and neither has anybody else.
    let error = cli.fails(1, &["pull", "registry.example/team/other:1"]);
    assert!(error.contains("registry.example"), "{error}");
    assert!(
        mirror
            .seen()
            .iter()
            .any(|asked| asked.line.contains("/v2/team/other/"))
    );
}

/// A pull through the API, and what it has told so far.
struct Telling {
    lines: std::io::Lines<BufReader<std::os::unix::net::UnixStream>>,
    heard: Vec<Value>,
}

impl Telling {
    fn of(room: &Room) -> Telling {
        let mut stream = http::connect(&room.engine.socket()).expect("the engine answers");
        let (image, tag) = room.name.rsplit_once(':').expect("it has a tag");
        let request = format!(
            "POST /images/create?fromImage={image}&tag={tag} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        );
        stream
            .write_all(request.as_bytes())
            .expect("the engine reads");
        Telling {
            lines: BufReader::new(stream).lines(),
            heard: Vec::new(),
        }
    }

    /// Until such a message comes; the stream's sizes of chunks and headers are passed over.
    fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) {
        for line in self.lines.by_ref() {
            let line = line.unwrap_or_else(|e| panic!("{what}: {e} after {:?}", self.heard));
            let Ok(message @ Value::Object(_)) = serde_json::from_str(&line) else {
                continue;
            };
            let is_it = wanted(&message);
            self.heard.push(message);
            if is_it {
                return;
            }
        }
        panic!("no {what} in {:?}", self.heard);
    }

    fn until_status(&mut self, text: &str) {
        self.until(text, |message| {
            let status = message["status"].as_str().unwrap_or_default();
            status.starts_with(text)
        });
    }
}

#[test]
fn who_joins_a_pull_sees_how_far_it_is_and_its_end() {
    let Some(room) = Room::new() else { return };
    room.judge(|_| Fault::HoldAfter(STOP_BYTES));
    let mut first = Telling::of(&room);
    first.until_status("Downloading");
    room.proxy.wait_for_stall();
    let mut second = Telling::of(&room);
    second.until("progress of the other's download", |message| {
        message["progressDetail"]["current"].as_u64() > Some(0)
    });
    room.proxy.release();
    let id = &room.layer.trim_start_matches("sha256:")[..12];
    for telling in [&mut first, &mut second] {
        for status in [
            "Download complete",
            "Extracting",
            "Pull complete",
            "Digest: ",
        ] {
            telling.until_status(status);
        }
        telling.until_status("Status: Downloaded newer image");
        let complete = telling
            .heard
            .iter()
            .filter(|message| message["id"] == id && message["status"] == "Pull complete");
        assert_eq!(complete.count(), 1, "{:?}", telling.heard);
    }
    assert_eq!(room.starts(), [0], "the layer came once");
    room.is_complete();
}

#[test]
fn who_joins_a_pull_hears_why_it_failed() {
    let engine = Engine::start_with(&["--max-download-attempts", "1"], &[]);
    let Some(room) = Room::with(engine) else {
        return;
    };
    room.judge(|_| Fault::HoldAndCutAfter(STOP_BYTES));
    let mut first = Telling::of(&room);
    room.proxy.wait_for_stall();
    let mut second = Telling::of(&room);
    second.until_status("Downloading");
    room.proxy.release();
    let mut errors = Vec::new();
    for telling in [&mut first, &mut second] {
        telling.until("error", |message| !message["error"].is_null());
        errors.push(telling.heard.last().cloned());
    }
    assert_eq!(errors[0], errors[1]);
    room.judge(|_| Fault::None);
    let pulled = room.pull();
    assert_eq!(pulled.code, Some(0), "{pulled}");
    room.is_complete();
}
