//! The writer's bytes and refusals; round trips are in the reader's tests.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::tar::Reader;

fn archive(headers: &[Header]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for header in headers {
        writer.append_empty(header).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn what_fits_ustar_takes_one_block_and_no_extension() {
    let path = [vec![b'p'; 150], b"/".to_vec(), vec![b'n'; 100]].concat();
    let header = Header {
        uid: 0o7_777_777,
        ..Header::new(path.clone(), EntryKind::Directory)
    };
    let archive = archive(std::slice::from_ref(&header));
    assert_eq!(archive.len(), 3 * BLOCK_BYTES);
    let mut reader = Reader::new(&archive[..]);
    assert_eq!(reader.next_entry().unwrap().unwrap().header, header);
}

#[test]
fn paths_split_at_a_slash_that_leaves_both_parts_short_enough() {
    assert_eq!(split_path(b"short"), Some((&b""[..], &b"short"[..])));
    let directory = [vec![b'd'; 99], b"/e/".to_vec()].concat();
    let (prefix, name) = split_path(&directory).unwrap();
    assert_eq!((prefix.len(), name), (99, &b"e/"[..]));
    assert_eq!(split_path(&[b'n'; 101]), None);
    assert_eq!(split_path(&[b"/".to_vec(), vec![b'n'; 100]].concat()), None);
    assert_eq!(split_path("ü".as_bytes()), None);
}

#[test]
fn the_same_headers_give_the_same_bytes() {
    let header = Header {
        mtime: Timestamp {
            seconds: -5,
            nanoseconds: 1,
        },
        xattrs: vec![(b"user.a".to_vec(), b"1".to_vec())],
        ..Header::new("a".repeat(200), EntryKind::Fifo)
    };
    let headers = [header.clone(), header];
    assert_eq!(archive(&headers), archive(&headers));
}

#[test]
fn content_that_ends_early_is_an_error_and_more_is_left() {
    let header = Header {
        size: 10,
        ..Header::new("f", EntryKind::Regular)
    };
    let mut writer = Writer::new(Vec::new());
    let error = writer.append(&header, &mut &b"123"[..]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the content of \"f\" ended 7 bytes before its size"
    );
    let mut content = &b"0123456789rest"[..];
    writer.append(&header, &mut content).unwrap();
    assert_eq!(content, b"rest");
}

#[test]
fn values_that_no_archive_can_hold_are_refused() {
    let mut writer = Writer::new(Vec::new());
    for header in [
        Header::new("", EntryKind::Directory),
        Header::new("a\0b", EntryKind::Directory),
        Header::new("a", EntryKind::Other(b'Q')),
        Header {
            mode: 0o100_644,
            ..Header::new("a", EntryKind::Fifo)
        },
        Header {
            link: b"a\0".to_vec(),
            ..Header::new("a", EntryKind::Symlink)
        },
        Header {
            xattrs: vec![(b"user.a=b".to_vec(), Vec::new())],
            ..Header::new("a", EntryKind::Fifo)
        },
    ] {
        assert!(matches!(
            writer.append_empty(&header),
            Err(Error::Unstorable { .. })
        ));
    }
    assert!(
        writer.finish().unwrap().len() == 1024,
        "nothing was written"
    );
}
