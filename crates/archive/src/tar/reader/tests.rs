//! Hand-made archives; what real tools write is in `differential.rs`.
#![allow(clippy::unwrap_used)]

mod differential;

use super::*;
use crate::tar::{Timestamp, Writer, pax};
use proptest::prelude::*;

/// A sealed header block in the given magic.
fn block(name: &[u8], flag: u8, size: u64, magic: &[u8; 8]) -> Block {
    let mut block = [0; BLOCK_BYTES];
    field::put_string(&mut block, field::NAME, name);
    field::put_octal(&mut block, field::MODE, 0o644);
    field::put_octal(&mut block, field::SIZE, size);
    field::put_octal(&mut block, field::MTIME, 7);
    block[field::TYPE] = flag;
    block[field::MAGIC_VERSION].copy_from_slice(magic);
    field::seal(&mut block);
    block
}

const USTAR: &[u8; 8] = b"ustar\x0000";
const GNU: &[u8; 8] = b"ustar  \0";

fn padded(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(BLOCK_BYTES), 0);
    data
}

/// A header and its padded data.
fn member(name: &[u8], flag: u8, data: &[u8], magic: &[u8; 8]) -> Vec<u8> {
    [
        block(name, flag, data.len() as u64, magic).to_vec(),
        padded(data),
    ]
    .concat()
}

fn records(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut records = Vec::new();
    for (key, value) in pairs {
        pax::put_record(&mut records, key.as_bytes(), value.as_bytes());
    }
    records
}

type Members = Vec<(Header, Vec<u8>)>;

fn read_all(archive: &[u8]) -> Result<Members, Error> {
    let mut reader = Reader::new(archive);
    let mut members = Vec::new();
    while let Some(mut entry) = reader.next_entry()? {
        let mut data = Vec::new();
        entry
            .read_to_end(&mut data)
            .map_err(|error| error.downcast::<Error>().unwrap())?;
        members.push((entry.header, data));
    }
    Ok(members)
}

fn names(archive: &[u8]) -> Result<Vec<String>, Error> {
    Ok(read_all(archive)?
        .into_iter()
        .map(|(header, _)| String::from_utf8(header.path).unwrap())
        .collect())
}

#[test]
fn an_empty_stream_and_a_bare_trailer_are_empty_archives() {
    assert!(names(b"").unwrap().is_empty());
    assert!(names(&[0; 1024]).unwrap().is_empty());
    assert!(names(&[0; 10240]).unwrap().is_empty());
}

#[test]
fn the_trailer_may_be_missing_or_followed_by_anything() {
    let file = member(b"a", b'0', b"hello", USTAR);
    assert_eq!(names(&file).unwrap(), ["a"]);
    assert_eq!(
        names(&file[..BLOCK_BYTES + 5]).unwrap(),
        ["a"],
        "no padding"
    );
    let lone = [&file[..], &[0; 512], &[0xff; 700]].concat();
    assert_eq!(names(&lone).unwrap(), ["a"]);
    let garbage = [&file[..], &[0; 1024], &[0xff; 700]].concat();
    assert_eq!(names(&garbage).unwrap(), ["a"]);
    let mut reader = Reader::new(&garbage[..]);
    while reader.next_entry().unwrap().is_some() {}
    assert_eq!(reader.finish().unwrap(), garbage.len() as u64);
}

#[test]
fn a_cut_archive_names_the_member_it_was_cut_in() {
    let file = member(b"dir/file", b'0', b"hello", USTAR);
    let error = read_all(&file[..BLOCK_BYTES + 2]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the archive ends inside \"dir/file\", 3 bytes before its end"
    );
    let mut reader = Reader::new(&file[..BLOCK_BYTES + 2]);
    reader.next_entry().unwrap().unwrap();
    assert!(matches!(reader.next_entry(), Err(Error::Truncated { .. })));
    assert!(matches!(
        read_all(&file[..100]),
        Err(Error::TruncatedHeader { offset: 0 })
    ));
    let long = member(b"././@LongLink", b'L', &[b'n'; 300], GNU);
    assert!(matches!(
        read_all(&long[..BLOCK_BYTES + 200]),
        Err(Error::Truncated { .. })
    ));
    assert!(matches!(
        read_all(&long),
        Err(Error::DanglingExtension { offset: 0 })
    ));
}

#[test]
fn garbage_fails_by_its_checksum() {
    let error = read_all(&[7; 4096]).unwrap_err();
    assert!(matches!(error, Error::Checksum { offset: 0 }));
}

#[test]
fn a_pax_size_moves_the_reader_and_the_header_size_does_not() {
    // The header claims one block, the record three: a reader that follows the
    // header would find the smuggled member inside the data.
    let smuggled = member(b"smuggled", b'0', b"", USTAR);
    let data = [&smuggled[..], &[b'x'; 1024]].concat();
    let archive = [
        member(b"pax", b'x', &records(&[("size", "1536")]), USTAR),
        block(b"outer", b'0', 0, USTAR).to_vec(),
        data.clone(),
        member(b"last", b'0', b"end", USTAR),
    ]
    .concat();
    let members = read_all(&archive).unwrap();
    assert_eq!(members.len(), 2);
    assert_eq!(members[0].1, data);
    assert_eq!(members[1].1, b"end");
}

#[test]
fn a_pax_size_does_not_apply_to_the_extension_after_it() {
    let archive = [
        member(b"pax", b'x', &records(&[("size", "3")]), USTAR),
        member(b"././@LongLink", b'L', &[b'n'; 600], GNU),
        member(b"pax", b'x', &records(&[("uid", "5")]), USTAR),
        block(b"n", b'0', 0, USTAR).to_vec(),
        padded(b"abc"),
    ]
    .concat();
    let members = read_all(&archive).unwrap();
    assert_eq!(members.len(), 1);
    assert_eq!(members[0].0.path, vec![b'n'; 600]);
    assert_eq!(members[0].0.uid, 5);
    assert_eq!(members[0].1, b"abc");
}

#[test]
fn kinds_without_data_ignore_their_size() {
    for flag in *b"123456" {
        let archive = [
            block(b"no-data", flag, 512, USTAR).to_vec(),
            member(b"next", b'0', b"", USTAR),
        ]
        .concat();
        assert_eq!(names(&archive).unwrap(), ["no-data", "next"]);
    }
}

#[test]
fn global_records_last_and_local_ones_do_not() {
    let archive = [
        member(
            b"g",
            b'g',
            &records(&[("uid", "9"), ("comment", "x")]),
            USTAR,
        ),
        member(b"a", b'0', b"", USTAR),
        member(
            b"x",
            b'x',
            &records(&[("uid", "3"), ("path", "b/long")]),
            USTAR,
        ),
        member(b"b", b'0', b"", USTAR),
        member(b"c", b'0', b"", USTAR),
    ]
    .concat();
    let seen: Vec<_> = read_all(&archive)
        .unwrap()
        .into_iter()
        .map(|(header, _)| (header.path, header.uid))
        .collect();
    assert_eq!(
        seen,
        [
            (b"a".to_vec(), 9),
            (b"b/long".to_vec(), 3),
            (b"c".to_vec(), 9)
        ]
    );
}

#[test]
fn extensions_are_bounded() {
    let archive = block(b"x", b'x', 2 << 20, USTAR);
    assert!(matches!(
        read_all(&archive),
        Err(Error::ExtensionTooLarge { .. })
    ));
    let archive = block(b"L", b'L', u64::from(u32::MAX), GNU);
    assert!(matches!(
        read_all(&archive),
        Err(Error::ExtensionTooLarge { .. })
    ));
}

#[test]
fn negative_and_malformed_numbers_are_refused() {
    for (range, name) in [
        (field::SIZE, "size"),
        (field::UID, "uid"),
        (field::GID, "gid"),
        (field::MODE, "mode"),
    ] {
        for bytes in [[0xff; 12], *b"12x456789012"] {
            let mut block = block(b"a", b'0', 0, GNU);
            let length = range.len();
            block[range.clone()].copy_from_slice(&bytes[..length]);
            field::seal(&mut block);
            let error = read_all(&block).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("the header at byte 0 has an invalid {name}")
            );
        }
    }
}

#[test]
fn times_before_the_epoch_are_read() {
    let mut block = block(b"a", b'0', 0, GNU);
    block[field::MTIME].fill(0xff);
    field::seal(&mut block);
    assert_eq!(read_all(&block).unwrap()[0].0.mtime.seconds, -1);
}

#[test]
fn a_v7_name_with_a_slash_is_a_directory() {
    let mut header = block(b"dir/", 0, 0, &[0; 8]);
    header[field::PREFIX].fill(b'p');
    field::seal(&mut header);
    let members = read_all(&header).unwrap();
    assert_eq!(members[0].0.kind, EntryKind::Directory);
    assert_eq!(members[0].0.path, b"dir/", "v7 has no prefix");
}

#[test]
fn the_prefix_of_old_docker_archives_is_found_in_gnu_headers() {
    let mut header = block(b"file", b'0', 0, GNU);
    field::put_string(&mut header, field::PREFIX, b"some/directory");
    field::seal(&mut header);
    assert_eq!(names(&header).unwrap(), ["some/directory/file"]);
    let mut header = block(b"file", b'0', 0, GNU);
    field::put_octal(&mut header, field::GNU_ATIME, 12345);
    field::put_octal(&mut header, field::GNU_CTIME, 12345);
    field::seal(&mut header);
    assert_eq!(names(&header).unwrap(), ["file"]);
}

#[test]
fn sparse_maps_that_do_not_fit_the_data_are_refused() {
    for (map, size) in [
        ("0,4,2,4", "100"),
        ("0,4", "100"),
        ("96,8", "100"),
        ("0,18446744073709551615", "100"),
        ("0,8", "9223372036854775808"),
    ] {
        let pairs = [("GNU.sparse.size", size), ("GNU.sparse.map", map)];
        let archive = [
            member(b"x", b'x', &records(&pairs), USTAR),
            member(b"file", b'0', b"12345678", USTAR),
        ]
        .concat();
        assert!(
            matches!(read_all(&archive), Err(Error::Sparse { .. })),
            "{map} of {size}"
        );
    }
}

#[test]
fn a_text_map_longer_than_its_data_is_refused() {
    let pairs = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.realsize", "1000"),
    ];
    let head = member(b"x", b'x', &records(&pairs), USTAR);
    for data in [&b"5\n1\n"[..], &[b'\n'; 512], &padded(b"1\n0\n")] {
        let archive = [head.clone(), member(b"file", b'0', data, USTAR)].concat();
        assert!(matches!(read_all(&archive), Err(Error::Sparse { .. })));
    }
}

#[test]
fn holes_are_read_as_zeros_and_stored_bytes_come_packed() {
    let pairs = [
        ("GNU.sparse.size", "12"),
        ("GNU.sparse.map", "2,3,7,2,12,0"),
    ];
    let archive = [
        member(b"x", b'x', &records(&pairs), USTAR),
        member(b"file", b'0', b"abcde", USTAR),
    ]
    .concat();
    let members = read_all(&archive).unwrap();
    assert_eq!(members[0].1, b"\0\0abc\0\0de\0\0\0");
    assert_eq!(members[0].0.size, 12);
    let mut reader = Reader::new(&archive[..]);
    let mut entry = reader.next_entry().unwrap().unwrap();
    let mut stored = Vec::new();
    entry.stored().read_to_end(&mut stored).unwrap();
    assert_eq!(stored, b"abcde");
    assert_eq!(entry.header.sparse.unwrap().len(), 3);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        // Most fail at the checksum; only that they end matters.
        prop_assert!(read_all(&bytes).map_or(true, |members| members.len() <= 8));
    }

    #[test]
    fn damaged_archives_never_panic(
        position in 0usize..3072,
        byte in any::<u8>(),
        flag in any::<u8>(),
        cut in 0usize..4096,
    ) {
        let pairs = [("GNU.sparse.size", "12"), ("GNU.sparse.map", "2,3,7,2,12,0")];
        let mut archive = [
            member(b"x", b'x', &records(&pairs), USTAR),
            member(b"file", flag, b"abcde", GNU),
            member(b"next", b'S', b"abcde", GNU),
        ]
        .concat();
        archive[position] = byte;
        // Checksums right again, so that the damage is looked at.
        for start in [0, 1024, 2048] {
            let header: &mut Block = (&mut archive[start..start + BLOCK_BYTES]).try_into().unwrap();
            field::seal(header);
        }
        archive.truncate(cut);
        match read_all(&archive) {
            Ok(members) => prop_assert!(members.len() <= 3),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn what_the_writer_wrote_is_read_back(headers in proptest::collection::vec(header(), 0..6)) {
        let mut writer = Writer::new(Vec::new());
        for header in &headers {
            let data: Vec<u8> = (0..header.size).map(|n| n as u8).collect();
            writer.append(header, &mut &data[..]).unwrap();
        }
        let archive = writer.finish().unwrap();
        let members = read_all(&archive).unwrap();
        prop_assert_eq!(members.len(), headers.len());
        for (header, (read, data)) in headers.iter().zip(&members) {
            prop_assert_eq!(header, read);
            prop_assert_eq!(header.size, data.len() as u64);
        }
    }
}

fn header() -> impl Strategy<Value = Header> {
    let name = || {
        prop_oneof![
            "[a-z/.]{1,20}".prop_map(String::into_bytes),
            "[a-z/]{90,300}".prop_map(String::into_bytes),
            proptest::collection::vec(1u8..=255, 1..150),
        ]
    };
    let kind = prop_oneof![
        Just(EntryKind::Regular),
        Just(EntryKind::HardLink),
        Just(EntryKind::Symlink),
        Just(EntryKind::CharacterDevice),
        Just(EntryKind::BlockDevice),
        Just(EntryKind::Directory),
        Just(EntryKind::Fifo),
    ];
    let xattrs = proptest::collection::btree_map(
        "[a-z.]{1,20}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..600),
        0..3,
    );
    let times = (
        prop_oneof![
            any::<i32>().prop_map(i64::from),
            -(1i64 << 40)..(1i64 << 40)
        ],
        prop_oneof![Just(0), 0u32..1_000_000_000],
    );
    let owners = (
        0..=u64::from(u32::MAX),
        0..=u64::from(u32::MAX),
        "[a-zé]{0,40}",
    );
    (
        name(),
        name(),
        kind,
        0u32..=0o7777,
        owners,
        times,
        (0u32..4096, 0u32..(1 << 20)),
        0u64..2000,
        xattrs,
    )
        .prop_map(
            |(path, link, kind, mode, (uid, gid, user), times, device, size, xattrs)| {
                let is_device = matches!(kind, EntryKind::CharacterDevice | EntryKind::BlockDevice);
                let is_link = matches!(kind, EntryKind::HardLink | EntryKind::Symlink);
                Header {
                    link: if is_link { link } else { Vec::new() },
                    mode,
                    uid,
                    gid,
                    group: user.clone().into_bytes(),
                    user: user.into_bytes(),
                    mtime: Timestamp {
                        seconds: times.0,
                        nanoseconds: times.1,
                    },
                    size: if kind.has_data() { size } else { 0 },
                    device: if is_device {
                        Device {
                            major: device.0,
                            minor: device.1,
                        }
                    } else {
                        Device::default()
                    },
                    xattrs: xattrs.into_iter().collect(),
                    ..Header::new(path, kind)
                }
            },
        )
}
