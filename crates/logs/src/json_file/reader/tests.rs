//! Tests of the read side: choosing, tails, damage, and following a writer that rotates.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::driver::Options;
use crate::json_file::{Watched, Writer, consume_watch, rotate};
use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, poll};
use std::fs::{self, OpenOptions};
use std::io::Write;

const SECOND: i128 = 1_000_000_000;

fn log_path(root: &tempfile::TempDir) -> PathBuf {
    root.path().join("c-json.log")
}

fn writer(path: &Path, max_size_bytes: u64, max_file: u32, compress: bool) -> Writer {
    let max_size_bytes = Some(max_size_bytes);
    Writer::open(
        path,
        &Options {
            max_size_bytes,
            max_file,
            compress,
            ..Options::default()
        },
    )
    .unwrap()
}

/// Reads on until there is nothing more, and returns the texts.
fn drain(reader: &mut Reader) -> (Vec<String>, Progress) {
    let (mut batch, mut all) = (Batch::new(), Vec::new());
    loop {
        let progress = reader.next_batch(&mut batch).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        all.extend(batch.iter().map(|entry| text(entry.text)));
        if progress != Progress::More {
            return (all, progress);
        }
    }
}

fn read(path: &Path, query: Query) -> Vec<String> {
    drain(&mut Reader::open(path, query).unwrap()).0
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("{number}\n")).collect()
}

/// A log of `lines` numbered lines, one a second, over several files.
fn log_of(path: &Path, lines: usize, compress: bool) {
    let mut writer = writer(path, 1000, 1000, compress);
    for (number, line) in numbered(0..lines).into_iter().enumerate() {
        let stream = if number % 2 == 0 {
            Stream::Stdout
        } else {
            Stream::Stderr
        };
        writer
            .write(stream, line.as_bytes(), number as i128 * SECOND)
            .unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn a_log_without_files_is_empty() {
    let root = tempfile::tempdir().unwrap();
    let mut reader = Reader::open(&log_path(&root), Query::default()).unwrap();
    assert_eq!(drain(&mut reader), (vec![], Progress::AtEnd));
}

#[test]
fn what_is_before_a_mark_is_read_whatever_became_of_the_files() {
    for (compress, dropped) in [(false, false), (true, false), (false, true)] {
        let root = tempfile::tempdir().unwrap();
        let path = log_path(&root);
        let max_file = if dropped { 2 } else { 1000 };
        let mut writer = writer(&path, 1000, max_file, compress);
        let write = |writer: &mut Writer, range| {
            for line in numbered(range) {
                writer
                    .write(Stream::Stdout, line.as_bytes(), SECOND)
                    .unwrap();
            }
        };
        write(&mut writer, 0..30);
        writer.write(Stream::Stdout, b"prompt> ", SECOND).unwrap();
        assert_eq!(writer.held_text(Stream::Stdout), b"prompt> ");
        let mark = writer.mark().unwrap();
        writer.write(Stream::Stdout, b"\n", SECOND).unwrap();
        write(&mut writer, 31..90);
        writer.finish().unwrap();
        let mut reader = Reader::open_before(&path, Query::default(), mark).unwrap();
        let (lines, _) = drain(&mut reader);
        if dropped {
            // Only the marked file itself is still to be had.
            assert!(lines.len() < 30 && numbered(0..30).ends_with(&lines));
            assert_eq!(lines.last().unwrap(), "29\n");
        } else {
            assert_eq!(lines, numbered(0..30));
        }
    }
}

#[test]
fn all_files_are_read_from_the_oldest_on() {
    for compress in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let path = log_path(&root);
        log_of(&path, 100, compress);
        assert!(super::super::existing_files(&path).unwrap().len() > 5);
        assert_eq!(read(&path, Query::default()), numbered(0..100));
    }
}

#[test]
fn a_tail_reaches_over_as_many_files_as_it_needs() {
    for compress in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let path = log_path(&root);
        log_of(&path, 100, compress);
        for tail in [0, 1, 2, 13, 14, 15, 28, 50, 99, 100, 101, usize::MAX] {
            let query = Query {
                tail: Some(tail),
                ..Query::default()
            };
            assert_eq!(
                read(&path, query),
                numbered(100_usize.saturating_sub(tail)..100),
                "{tail}"
            );
        }
    }
}

#[test]
fn times_are_inclusive_and_streams_are_chosen() {
    let root = tempfile::tempdir().unwrap();
    let path = log_path(&root);
    log_of(&path, 100, true);
    let query = Query {
        since_ns: Some(20 * SECOND),
        until_ns: Some(30 * SECOND),
        ..Query::default()
    };
    assert_eq!(read(&path, query.clone()), numbered(20..31));
    let stderr = Query {
        stdout: false,
        ..query.clone()
    };
    assert_eq!(
        read(&path, stderr),
        ["21\n", "23\n", "25\n", "27\n", "29\n"]
    );
    let late = Query {
        since_ns: Some(99 * SECOND + 1),
        ..Query::default()
    };
    assert_eq!(read(&path, late), Vec::<String>::new());
    let mut reader = Reader::open(&path, query).unwrap();
    assert_eq!(drain(&mut reader).1, Progress::PastUntil);
    assert_eq!(
        drain(&mut reader),
        (vec![], Progress::PastUntil),
        "and it stays so"
    );
}

#[test]
fn a_tail_is_counted_before_streams_are_chosen() {
    let root = tempfile::tempdir().unwrap();
    let path = log_path(&root);
    log_of(&path, 100, false);
    let query = Query {
        tail: Some(4),
        stderr: false,
        ..Query::default()
    };
    assert_eq!(read(&path, query), ["96\n", "98\n"]);
}

#[test]
fn a_reader_that_does_not_follow_stops_where_the_log_ended() {
    let root = tempfile::tempdir().unwrap();
    let path = log_path(&root);
    let mut writer = writer(&path, 1 << 20, 1, false);
    writer.write(Stream::Stdout, b"before\n", 0).unwrap();
    let mut reader = Reader::open(&path, Query::default()).unwrap();
    writer.write(Stream::Stdout, b"after\n", 0).unwrap();
    assert_eq!(
        drain(&mut reader),
        (vec!["before\n".to_owned()], Progress::AtEnd)
    );
}

#[test]
fn half_a_line_is_waited_for() {
    let root = tempfile::tempdir().unwrap();
    let path = log_path(&root);
    log_of(&path, 3, false);
    let mut line = fs::read(&path).unwrap();
    line.truncate(line.len() / 3);
    let (first, second) = line.split_at(20);
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(first).unwrap();
    let mut reader = Reader::open(
        &path,
        Query {
            follow: true,
            ..Query::default()
        },
    )
    .unwrap();
    assert_eq!(drain(&mut reader).0, numbered(0..3));
    assert_eq!(drain(&mut reader).0, Vec::<String>::new());
    file.write_all(second).unwrap();
    assert_eq!(drain(&mut reader).0, numbered(0..1));
    assert_eq!(reader.garbage_lines(), 0);
}

#[test]
fn garbage_is_left_out_and_counted() {
    let root = tempfile::tempdir().unwrap();
    let path = log_path(&root);
    log_of(&path, 1, false);
    let good = fs::read(&path).unwrap();
    let long = vec![b'x'; 3 * MAX_LINE_BYTES];
    let parts: [&[u8]; 8] = [
        &good,
        b"garbage\n",
        &long,
        b"\n",
        &good,
        b"{\"log\":\"a\n",
        b"\0\0\0\n",
        &good,
    ];
    fs::write(&path, parts.concat()).unwrap();
    let mut reader = Reader::open(&path, Query::default()).unwrap();
    assert_eq!(drain(&mut reader).0, ["0\n", "0\n", "0\n"]);
    assert_eq!(reader.garbage_lines(), 4);
}

#[test]
fn a_damaged_archive_does_not_hide_the_rest() {
    let root = tempfile::tempdir().unwrap();
    let path = log_path(&root);
    log_of(&path, 40, true);
    let oldest = super::super::existing_files(&path).unwrap().pop().unwrap();
    fs::write(&oldest, b"\x1f\x8b not gzip").unwrap();
    let found = read(&path, Query::default());
    assert_eq!(found, numbered(40 - found.len()..40));
    assert!(found.len() > 20);
}

#[test]
fn a_log_truncated_by_hand_is_followed_from_its_new_start() {
    let root = tempfile::tempdir().unwrap();
    let path = log_path(&root);
    let mut writer = writer(&path, 1 << 20, 1, false);
    writer.write(Stream::Stdout, b"a\nb\nc\n", 0).unwrap();
    let mut reader = Reader::open(
        &path,
        Query {
            follow: true,
            ..Query::default()
        },
    )
    .unwrap();
    assert_eq!(drain(&mut reader).0, ["a\n", "b\n", "c\n"]);
    OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(0)
        .unwrap();
    writer.write(Stream::Stdout, b"d\n", 0).unwrap();
    assert_eq!(drain(&mut reader).0, ["d\n"]);
}

#[test]
fn a_follower_finishes_what_was_rotated_away_between_two_looks() {
    for (max_file, compress) in [(10, false), (10, true), (1, false)] {
        let root = tempfile::tempdir().unwrap();
        let path = log_path(&root);
        let mut writer = writer(&path, 300, max_file, compress);
        writer.write(Stream::Stdout, b"0\n1\n2\n", 0).unwrap();
        let mut reader = Reader::open(
            &path,
            Query {
                follow: true,
                ..Query::default()
            },
        )
        .unwrap();
        assert_eq!(drain(&mut reader).0, numbered(0..3));
        let lines = numbered(3..if max_file == 1 { 6 } else { 30 }).concat();
        writer.write(Stream::Stdout, lines.as_bytes(), 0).unwrap();
        writer.finish().unwrap();
        let want = numbered(3..lines.lines().count() + 3);
        assert_eq!(
            drain(&mut reader).0,
            want,
            "max-file {max_file}, compress {compress}"
        );
    }
}

#[test]
fn a_follower_goes_on_with_what_is_left_when_its_file_was_dropped() {
    let root = tempfile::tempdir().unwrap();
    let path = log_path(&root);
    let mut writer = writer(&path, 300, 3, true);
    writer.write(Stream::Stdout, b"0\n", 0).unwrap();
    let mut reader = Reader::open(
        &path,
        Query {
            follow: true,
            ..Query::default()
        },
    )
    .unwrap();
    writer
        .write(Stream::Stdout, numbered(1..1000).concat().as_bytes(), 0)
        .unwrap();
    writer.finish().unwrap();
    let found = drain(&mut reader).0;
    let kept = read(&path, Query::default());
    assert_eq!(
        found[..5],
        numbered(0..5),
        "the file that was open is finished"
    );
    assert_eq!(found[5..], kept, "then what the writer kept");
    assert_eq!(kept.last().unwrap(), "999\n");
}

#[test]
fn a_log_that_appears_later_is_followed_from_its_start() {
    let root = tempfile::tempdir().unwrap();
    let path = log_path(&root);
    let query = Query {
        follow: true,
        tail: Some(0),
        ..Query::default()
    };
    let mut reader = Reader::open(&path, query).unwrap();
    let watch = reader.watch().unwrap();
    assert_eq!(drain(&mut reader), (vec![], Progress::AtEnd));
    log_of(&path, 3, false);
    assert_eq!(consume_watch(&watch, &path).unwrap(), Watched::Changed);
    assert_eq!(drain(&mut reader).0, numbered(0..3));
}

/// Follows `lines` lines of a writer in another thread and returns what came.
fn follow_while_writing(max_size_bytes: u64, compress: bool, lines: usize) -> Vec<String> {
    let root = tempfile::tempdir().unwrap();
    let path = log_path(&root);
    let mut reader = Reader::open(
        &path,
        Query {
            follow: true,
            ..Query::default()
        },
    )
    .unwrap();
    let watch = reader.watch().unwrap();
    let (path_of_writer, all) = (path.clone(), numbered(0..lines).concat());
    let thread = std::thread::spawn(move || {
        let mut writer = writer(&path_of_writer, max_size_bytes, 1000, compress);
        for (step, chunk) in all.as_bytes().chunks(777).enumerate() {
            writer.write(Stream::Stdout, chunk, step as i128).unwrap();
        }
        writer.finish().unwrap();
    });
    let mut found = Vec::new();
    while found.len() < lines {
        found.extend(drain(&mut reader).0);
        if found.len() < lines {
            poll(&mut [PollFd::new(&watch, PollFlags::IN)], None).unwrap();
            consume_watch(&watch, &path).unwrap();
        }
    }
    thread.join().unwrap();
    assert_eq!(reader.garbage_lines(), 0);
    assert_eq!(drain(&mut reader).0, Vec::<String>::new());
    found
}

#[test]
fn a_follower_loses_and_repeats_nothing_while_the_log_rotates() {
    assert_eq!(
        follow_while_writing(5_000, false, 30_000),
        numbered(0..30_000)
    );
}

#[test]
fn a_follower_loses_and_repeats_nothing_while_files_are_compressed() {
    assert_eq!(
        follow_while_writing(20_000, true, 30_000),
        numbered(0..30_000)
    );
}

#[test]
fn readers_that_start_while_the_log_rotates_see_no_hole() {
    let root = tempfile::tempdir().unwrap();
    let path = log_path(&root);
    let path_of_writer = path.clone();
    let thread = std::thread::spawn(move || {
        let mut writer = writer(&path_of_writer, 2_000, 1000, true);
        for line in numbered(0..3_000) {
            writer.write(Stream::Stdout, line.as_bytes(), 0).unwrap();
        }
        writer.finish().unwrap();
    });
    while !thread.is_finished() {
        let found = read(&path, Query::default());
        assert_eq!(found, numbered(0..found.len()));
        let tail = read(
            &path,
            Query {
                tail: Some(60),
                ..Query::default()
            },
        );
        let first: usize = tail.first().map_or(0, |line| line.trim().parse().unwrap());
        assert_eq!(tail, numbered(first..first + tail.len()));
    }
    thread.join().unwrap();
    assert_eq!(read(&path, Query::default()), numbered(0..3_000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_a_container_writes_is_what_is_read(
        lines in proptest::collection::vec("[a-zé€😀<\"\\\\ ]{0,60}", 1..60),
        repeat in 1..400_usize,
        cut in 1..5_000_usize,
        max_size_bytes in 200..20_000_u64,
        compress in any::<bool>(),
    ) {
        let root = tempfile::tempdir().unwrap();
        let path = log_path(&root);
        let mut text: String = lines.join("\n");
        text.push_str(&"long".repeat(repeat * 20));
        let mut writer = writer(&path, max_size_bytes, 10_000, compress);
        for (step, chunk) in text.as_bytes().chunks(cut).enumerate() {
            writer.write(Stream::Stdout, chunk, step as i128).unwrap();
        }
        writer.finish().unwrap();
        prop_assert_eq!(read(&path, Query::default()).concat(), text);
    }
}

/// Rates for whoever changes the hot paths: `cargo test --release -p conex-logs -- --ignored --nocapture rates`.
#[test]
#[ignore = "a measurement, of use in release builds only"]
fn rates_of_writing_reading_and_tailing() {
    let root = tempfile::tempdir().unwrap();
    let path = log_path(&root);
    let line = [&[b'x'; 99][..], b"\n"].concat();
    let chunk = line.repeat(655);
    let bytes = chunk.len() as f64 * 4096.0 / 1e6;
    let mut writer = writer(&path, u64::MAX, 1, false);
    let start = std::time::Instant::now();
    for step in 0..4096 {
        writer.write(Stream::Stdout, &chunk, step * SECOND).unwrap();
    }
    eprintln!("write: {:.0} MB/s", bytes / start.elapsed().as_secs_f64());
    let mut reader = Reader::open(&path, Query::default()).unwrap();
    let (mut batch, mut found, start) = (Batch::new(), 0, std::time::Instant::now());
    while reader.next_batch(&mut batch).unwrap() == Progress::More {
        found += batch.iter().map(|entry| entry.text.len()).sum::<usize>();
    }
    eprintln!("read: {:.0} MB/s", bytes / start.elapsed().as_secs_f64());
    assert_eq!(found, chunk.len() * 4096);
    let start = std::time::Instant::now();
    assert_eq!(
        read(
            &path,
            Query {
                tail: Some(10),
                ..Query::default()
            }
        )
        .len(),
        10
    );
    eprintln!(
        "tail of {} MB: {:?}",
        fs::metadata(&path).unwrap().len() / 1_000_000,
        start.elapsed()
    );
    assert!(!rotate::rotated(&path, 1).exists());
}
