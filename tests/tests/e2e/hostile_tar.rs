//! Tar files made to harm: each is refused in words or confined to its root,
//! and a refused one leaves no trace.

use std::io::Write;
use std::path::Path;

use conex_tests::archive::{self, end, header};
use conex_tests::client::{Client, with_busybox};
use conex_tests::engine::Engine;
use conex_tests::http::{self, Response};

fn file(name: &str, text: &str) -> Vec<u8> {
    archive::file(name, text.as_bytes())
}

fn import(engine: &Engine, tar: &[u8]) -> Response {
    http::request(
        &engine.socket(),
        "POST",
        "/images/create?fromSrc=-&repo=hostile",
        &[("Content-Type", "application/x-tar")],
        Some(tar),
    )
    .unwrap_or_else(|e| panic!("{e}\n{}", engine.log()))
}

/// The error an import ended with: its status or, once the answer had begun,
/// the error in its stream.
fn error_of(response: &Response) -> Option<String> {
    if response.status >= 400 {
        return Some(response.message());
    }
    response
        .text()
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| {
            message["errorDetail"]["message"]
                .as_str()
                .map(str::to_owned)
        })
}

fn on_an_engine(case: impl FnOnce(&Engine)) {
    with_busybox(Client::Conex, |cli| {
        let layers = cli.engine.layer_directories();
        case(cli.engine);
        if cli.engine.api("GET", "/images/hostile/json", None).status == 200 {
            cli.ok(&["rmi", "-f", "hostile"]);
        }
        assert_eq!(cli.engine.layer_directories(), layers, "something stayed");
        assert_eq!(cli.ok(&["images", "-q", "-a"]).lines().count(), 1);
        assert_eq!(
            cli.ok(&[
                "run",
                "--rm",
                "--network",
                "none",
                "busybox",
                "echo",
                "alive"
            ]),
            "alive"
        );
    });
}

#[track_caller]
fn refused(engine: &Engine, tar: &[u8]) -> String {
    let response = import(engine, tar);
    error_of(&response).unwrap_or_else(|| panic!("taken: {} {}", response.status, response.text()))
}

/// Nothing outside the root may exist afterwards, whether refused or confined.
fn cannot_reach(target: &Path, tar: &[u8]) {
    on_an_engine(|engine| {
        let response = import(engine, tar);
        assert!(
            !target.exists(),
            "{} was written: {}",
            target.display(),
            response.text()
        );
    });
}

/// A place outside every root that an attack would hit.
fn outside() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().to_string_lossy().into_owned();
    (dir, path)
}

#[test]
fn names_with_dots_do_not_climb_out() {
    let (dir, path) = outside();
    let climb = "../".repeat(14) + path.trim_start_matches('/') + "/evil";
    let tar = [file(&climb, "x"), end()].concat();
    cannot_reach(&dir.path().join("evil"), &tar);
}

#[test]
fn absolute_names_stay_inside() {
    let (dir, path) = outside();
    let tar = [file(&format!("{path}/evil"), "x"), end()].concat();
    cannot_reach(&dir.path().join("evil"), &tar);
}

#[test]
fn a_symbolic_link_is_not_a_way_out() {
    let (dir, path) = outside();
    let tar = [header("way", b'2', 0, &path), file("way/evil", "x"), end()].concat();
    cannot_reach(&dir.path().join("evil"), &tar);
    let relative = "../".repeat(14) + path.trim_start_matches('/');
    let tar = [
        header("way", b'2', 0, &relative),
        file("way/evil", "x"),
        end(),
    ]
    .concat();
    cannot_reach(&dir.path().join("evil"), &tar);
}

#[test]
fn a_file_is_not_written_through_a_link_of_its_own_name() {
    let (dir, path) = outside();
    let victim = dir.path().join("victim");
    std::fs::write(&victim, "mine").expect("a fresh file");
    let tar = [
        header("name", b'2', 0, &format!("{path}/victim")),
        file("name", "yours"),
        end(),
    ]
    .concat();
    on_an_engine(|engine| {
        import(engine, &tar);
        assert_eq!(
            std::fs::read_to_string(&victim).ok().as_deref(),
            Some("mine")
        );
    });
}

#[test]
fn a_hard_link_does_not_reach_the_host() {
    let (dir, path) = outside();
    let victim = dir.path().join("victim");
    std::fs::write(&victim, "mine").expect("a fresh file");
    for target in [
        format!("{path}/victim"),
        "../".repeat(14) + path.trim_start_matches('/') + "/victim",
    ] {
        let tar = [
            header("linked", b'1', 0, &target),
            file("linked", "yours"),
            end(),
        ]
        .concat();
        on_an_engine(|engine| {
            import(engine, &tar);
            assert_eq!(
                std::fs::read_to_string(&victim).ok().as_deref(),
                Some("mine")
            );
        });
    }
}

#[test]
fn garbage_and_cut_files_are_refused() {
    on_an_engine(|engine| {
        let garbage: Vec<u8> = (0..4096u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        let error = refused(engine, &garbage);
        assert!(!error.is_empty());
        let whole = file("file", &"x".repeat(5000));
        refused(engine, &whole[..2000]);
        refused(engine, &whole[..300]);
        let mut wrong = [file("file", "x"), end()].concat();
        wrong[0] = b'g';
        refused(engine, &wrong);
    });
}

#[test]
fn a_broken_compressed_stream_is_refused() {
    on_an_engine(|engine| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder
            .write_all(&[file("file", "text"), end()].concat())
            .expect("memory takes bytes");
        let good = encoder.finish().expect("memory takes bytes");
        assert_eq!(error_of(&import(engine, &good)), None);
        refused(engine, &good[..good.len() / 2]);
        let mut flipped = good.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0xff;
        refused(engine, &flipped);
    });
}

#[test]
fn sizes_and_extensions_beyond_reason_are_refused() {
    on_an_engine(|engine| {
        // A file of almost eight gigabytes with no bytes behind it.
        refused(
            engine,
            &[header("huge", b'0', 0o77_777_777_777, ""), end()].concat(),
        );
        // A negative size, base-256.
        let mut negative = header("minus", b'0', 0, "");
        negative[124..136].fill(0xff);
        negative[148..156].fill(b' ');
        let sum: u32 = negative.iter().map(|&b| u32::from(b)).sum();
        negative[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        refused(engine, &[negative, end()].concat());
        // An extended header of many megabytes, all there.
        let record = vec![b'a'; 64 << 20];
        let mut long = header("PaxHeader", b'x', record.len() as u64, "");
        long.extend_from_slice(&record);
        refused(engine, &[long, file("file", "x"), end()].concat());
        // A record whose length reaches beyond its header.
        let mut lying = header("PaxHeader", b'x', 20, "");
        lying.extend_from_slice(b"999999 path=evil\n\0\0\0");
        lying.resize(1024, 0);
        refused(engine, &[lying, file("file", "x"), end()].concat());
    });
}

#[test]
fn a_client_that_vanishes_in_the_middle_of_an_import_leaves_nothing() {
    on_an_engine(|engine| {
        let mut stream = http::connect(&engine.socket()).expect("the engine listens");
        stream
            .write_all(b"POST /images/create?fromSrc=-&repo=hostile HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\nContent-Length: 100000000\r\n\r\n")
            .expect("the engine reads");
        stream
            .write_all(&file("file", &"x".repeat(1 << 20)))
            .expect("the engine reads");
        drop(stream);
        // The next import waits for nothing of the dead one, and both end.
        assert_eq!(
            error_of(&import(engine, &[file("a", "b"), end()].concat())),
            None
        );
        let names = engine.api("GET", "/images/json", None).json();
        assert_eq!(names.as_array().map(Vec::len), Some(2), "{names}");
    });
}
