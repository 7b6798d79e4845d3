//! Tests of the write side: splitting, rotation, and what a full disk does.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::json_file::{Batch, Progress, Query, Reader};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::process::Command;

const SECOND: i128 = 1_000_000_000;

fn log_path(root: &tempfile::TempDir) -> PathBuf {
    root.path().join("c-json.log")
}

fn options(max_size_bytes: u64, max_file: u32, compress: bool) -> Options {
    Options {
        max_size_bytes: Some(max_size_bytes),
        max_file,
        compress,
        ..Options::default()
    }
}

fn messages(path: &Path) -> Vec<(Stream, String)> {
    let (mut reader, mut batch) = (Reader::open(path, Query::default()).unwrap(), Batch::new());
    let mut all = Vec::new();
    loop {
        let progress = reader.next_batch(&mut batch).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        all.extend(batch.iter().map(|entry| (entry.stream, text(entry.text))));
        if progress != Progress::More {
            assert_eq!(reader.garbage_lines(), 0);
            return all;
        }
    }
}

fn texts(path: &Path) -> Vec<String> {
    messages(path).into_iter().map(|(_, text)| text).collect()
}

#[test]
fn a_file_is_byte_for_byte_dockers() {
    let root = tempfile::tempdir().unwrap();
    let path = log_path(&root);
    let mut options = Options::default();
    options.attrs.insert("tag".to_owned(), "web".to_owned());
    let mut writer = Writer::open(&path, &options).unwrap();
    writer
        .write(Stream::Stdout, b"one\ntwo <3\n", SECOND)
        .unwrap();
    writer
        .write(Stream::Stderr, b"\xff\n", SECOND + 10)
        .unwrap();
    writer.finish().unwrap();
    let line = |text: &str, stream: &str, time: &str| {
        format!(
            r#"{{"log":"{text}","stream":"{stream}","attrs":{{"tag":"web"}},"time":"1970-01-01T00:00:01{time}Z"}}"#
        ) + "\n"
    };
    let want = [
        line("one\\n", "stdout", ""),
        line("two \\u003c3\\n", "stdout", ""),
        line("\\ufffd\\n", "stderr", ".00000001"),
    ];
    assert_eq!(fs::read_to_string(&path).unwrap(), want.concat());
}

#[test]
fn lines_are_put_together_per_stream_however_the_pipe_cut_them() {
    let root = tempfile::tempdir().unwrap();
    let path = log_path(&root);
    let mut writer = Writer::open(&path, &Options::default()).unwrap();
    for (stream, chunk) in [
        (Stream::Stdout, &b"he"[..]),
        (Stream::Stderr, b"oo"),
        (Stream::Stdout, b"llo\nwor"),
        (Stream::Stderr, b"ps\n\n"),
        (Stream::Stdout, b""),
        (Stream::Stdout, b"ld"),
    ] {
        writer.write(stream, chunk, 0).unwrap();
    }
    assert_eq!(
        texts(&path),
        ["hello\n", "oops\n", "\n"],
        "no end, no message yet"
    );
    writer.finish().unwrap();
    assert_eq!(
        messages(&path)[3..],
        [(Stream::Stdout, "world".to_owned())],
        "the last one has no newline, as the container wrote none"
    );
}

#[test]
fn lines_are_split_at_sixteen_kibibytes() {
    for (len, parts) in [
        (MAX_MESSAGE_BYTES - 1, vec![MAX_MESSAGE_BYTES]),
        (MAX_MESSAGE_BYTES, vec![MAX_MESSAGE_BYTES, 1]),
        (
            2 * MAX_MESSAGE_BYTES + 5,
            vec![MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES, 6],
        ),
    ] {
        let line = ["x".repeat(len), "\n".to_owned()].concat();
        for cut in [1, 1000, MAX_MESSAGE_BYTES, len, len + 1] {
            let root = tempfile::tempdir().unwrap();
            let path = log_path(&root);
            let mut writer = Writer::open(&path, &Options::default()).unwrap();
            if cut == 1 {
                writer
                    .write(Stream::Stdout, &line.as_bytes()[..1], 0)
                    .unwrap();
                writer
                    .write(Stream::Stdout, &line.as_bytes()[1..], 0)
                    .unwrap();
            } else {
                for chunk in line.as_bytes().chunks(cut) {
                    writer.write(Stream::Stdout, chunk, 0).unwrap();
                }
            }
            let found = texts(&path);
            assert_eq!(
                found.iter().map(String::len).collect::<Vec<_>>(),
                parts,
                "{len} by {cut}"
            );
            assert_eq!(found.concat(), line);
            let unfinished = &found[..found.len() - 1];
            assert!(unfinished.iter().all(|text| !text.ends_with('\n')));
        }
    }
}

#[test]
fn a_long_line_is_not_split_inside_a_character() {
    let root = tempfile::tempdir().unwrap();
    let path = log_path(&root);
    let line = format!("x{}\n", "€".repeat(20_000));
    let mut writer = Writer::open(&path, &Options::default()).unwrap();
    for chunk in line.as_bytes().chunks(65_536) {
        writer.write(Stream::Stdout, chunk, 0).unwrap();
    }
    assert_eq!(texts(&path).concat(), line);
}

#[test]
fn a_new_file_begins_when_the_old_one_has_reached_its_size() {
    let root = tempfile::tempdir().unwrap();
    let path = log_path(&root);
    // Each line is 67 bytes in the file, so two of them reach 100.
    let mut writer = Writer::open(&path, &options(100, 3, false)).unwrap();
    writer
        .write(Stream::Stdout, b"1\n2\n3\n4\n5\n6\n7\n8\n9\n", 0)
        .unwrap();
    let lines_in = |path: PathBuf| fs::read_to_string(path).unwrap().lines().count();
    assert_eq!(lines_in(path.clone()), 1);
    assert_eq!(lines_in(rotate::rotated(&path, 1)), 2);
    assert_eq!(lines_in(rotate::rotated(&path, 2)), 2);
    assert!(!rotate::rotated(&path, 3).exists());
    assert_eq!(texts(&path), ["5\n", "6\n", "7\n", "8\n", "9\n"]);
    assert_eq!(super::super::existing_files(&path).unwrap().len(), 3);
    // A writer that takes over continues in the same file.
    drop(writer);
    let mut writer = Writer::open(&path, &options(100, 3, false)).unwrap();
    writer.write(Stream::Stdout, b"10\n11\n", 0).unwrap();
    assert_eq!(texts(&path), ["7\n", "8\n", "9\n", "10\n", "11\n"]);
}

#[test]
fn a_single_file_starts_over_when_it_is_full() {
    let root = tempfile::tempdir().unwrap();
    let path = log_path(&root);
    let mut writer = Writer::open(&path, &options(100, 1, false)).unwrap();
    writer.write(Stream::Stdout, b"1\n2\n3\n", 0).unwrap();
    assert_eq!(texts(&path), ["3\n"]);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
}

#[test]
fn rotated_files_are_compressed_with_dockers_header() {
    let root = tempfile::tempdir().unwrap();
    let path = log_path(&root);
    let mut writer = Writer::open(&path, &options(100, 4, true)).unwrap();
    for number in 1..=7_i32 {
        let line = format!("{number}\n");
        writer
            .write(Stream::Stdout, line.as_bytes(), i128::from(number) * SECOND)
            .unwrap();
    }
    writer.finish().unwrap();
    let mut names: Vec<_> = fs::read_dir(root.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "c-json.log",
            "c-json.log.1.gz",
            "c-json.log.2.gz",
            "c-json.log.3.gz"
        ]
    );
    assert_eq!(
        texts(&path),
        ["1\n", "2\n", "3\n", "4\n", "5\n", "6\n", "7\n"]
    );
    let file = fs::File::open(rotate::rotated_gz(&path, 1)).unwrap();
    let decoder = flate2::read::GzDecoder::new(file);
    let extra: serde_json::Value =
        serde_json::from_slice(decoder.header().unwrap().extra().unwrap()).unwrap();
    assert_eq!(extra["lastTime"], "1970-01-01T00:00:06Z");
}

#[test]
fn half_a_line_of_a_killed_writer_is_cut_off() {
    let root = tempfile::tempdir().unwrap();
    let path = log_path(&root);
    let mut writer = Writer::open(&path, &Options::default()).unwrap();
    writer.write(Stream::Stdout, b"whole\n", 0).unwrap();
    drop(writer);
    let whole = fs::read(&path).unwrap();
    let torn = [&whole[..], &b"{\"log\":\""[..], &vec![b'x'; 100_000]].concat();
    fs::write(&path, torn).unwrap();
    fs::write(
        rotate::rotated(&path, 1).with_extension("1.gz.new"),
        "left over",
    )
    .unwrap();
    drop(Writer::open(&path, &Options::default()).unwrap());
    assert_eq!(fs::read(&path).unwrap(), whole);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
}

#[test]
fn a_rotation_that_fails_loses_no_line_and_is_reported_once() {
    let root = tempfile::tempdir().unwrap();
    let path = log_path(&root);
    let mut writer = Writer::open(&path, &options(100, 2, false)).unwrap();
    // A directory in the way of the first rename.
    fs::create_dir_all(rotate::rotated(&path, 1).join("x")).unwrap();
    writer.write(Stream::Stdout, b"1\n2\n", 0).unwrap();
    assert!(writer.write(Stream::Stdout, b"3\n", 0).is_err());
    writer.write(Stream::Stdout, b"4\n", 0).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 4);
    fs::remove_dir_all(rotate::rotated(&path, 1)).unwrap();
    writer.write(Stream::Stdout, b"5\n6\n", 0).unwrap();
    assert_eq!(texts(&path).concat(), "1\n2\n3\n4\n5\n6\n");
    assert!(rotate::rotated(&path, 1).is_file());
}

/// Set for the run of this test binary that has a limit on the size of files.
const LIMITED: &str = "CONEX_LOGS_TEST_LIMITED";

#[test]
fn a_full_disk_costs_lines_but_neither_the_file_nor_the_container() {
    if let Some(path) = std::env::var_os(LIMITED) {
        return write_until_full(Path::new(&path));
    }
    let root = tempfile::tempdir().unwrap();
    let path = log_path(&root);
    let name =
        "json_file::writer::tests::a_full_disk_costs_lines_but_neither_the_file_nor_the_container";
    // The signal that goes with the limit must be ignored, which only the shell can do here.
    let status = Command::new("/bin/sh")
        .args([
            "-c",
            "trap '' XFSZ; exec \"$0\" --exact \"$1\" --test-threads=1",
        ])
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(LIMITED, &path)
        .output()
        .unwrap();
    assert!(
        status.status.success(),
        "{}",
        String::from_utf8_lossy(&status.stdout)
    );
    let found = messages(&path);
    let marker = found
        .iter()
        .position(|(_, text)| text.starts_with("conex: "))
        .unwrap();
    let (stream, text) = &found[marker];
    assert_eq!(*stream, Stream::Stderr);
    let lost = 300 - (found.len() - 2);
    assert_eq!(
        *text,
        format!("conex: {lost} log lines lost: file too large\n")
    );
    assert!(
        (1..200).contains(&marker),
        "{marker} lines before the disk was full"
    );
    for (number, (_, text)) in found[..marker].iter().enumerate() {
        assert_eq!(*text, format!("line {number}\n"));
    }
    assert_eq!(found[marker + 1].1, "space again\n");
    assert_eq!(found.len(), marker + 2);
}

/// Writes 300 lines to a file that may have 10,000 bytes, then one more when it may have more.
fn write_until_full(path: &Path) {
    let before = getrlimit(Resource::Fsize);
    setrlimit(
        Resource::Fsize,
        Rlimit {
            current: Some(10_000),
            maximum: before.maximum,
        },
    )
    .unwrap();
    let mut writer = Writer::open(path, &Options::default()).unwrap();
    let mut errors = Vec::new();
    for chunk in 0..30 {
        let lines: String = (0..10)
            .map(|line| format!("line {}\n", chunk * 10 + line))
            .collect();
        errors.extend(writer.write(Stream::Stdout, lines.as_bytes(), 0).err());
        assert!(
            fs::read(path).unwrap().ends_with(b"\n"),
            "half a line in the file"
        );
    }
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(writer.lost_lines() > 100);
    setrlimit(Resource::Fsize, before).unwrap();
    writer.write(Stream::Stdout, b"space again\n", 0).unwrap();
    assert_eq!(writer.lost_lines(), 0);
    writer.finish().unwrap();
}
