//! Messages as clients and servers write them, and such as nobody would.
#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

/// A query as a client writes it, with EDNS if a size is given.
fn query(name: &str, kind: u16, room: Option<u16>) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&INTERNET.to_be_bytes());
    if let Some(room) = room {
        message[11] = 1;
        message.extend_from_slice(&[0, 0, 41]);
        message.extend_from_slice(&room.to_be_bytes());
        message.extend_from_slice(&[0, 0, 0, 0, 0, 4, 0, 10, 0, 0]);
    }
    message
}

fn address(text: &str) -> Record {
    Record::Address(text.parse().unwrap())
}

#[test]
fn a_question_is_read_whatever_its_case() {
    let read = Query::parse(&query("DB.Net", A, None)).unwrap();
    assert_eq!(read.name.as_deref(), Some("db.net"));
    assert_eq!((read.kind, read.class), (A, INTERNET));
    assert_eq!(read.datagram(), 512);
    let read = Query::parse(&query("db", AAAA, Some(4096))).unwrap();
    assert_eq!(read.datagram(), 4096);
    // Less than everybody takes means nothing.
    assert_eq!(
        Query::parse(&query("db", A, Some(10))).unwrap().datagram(),
        512
    );
    assert_eq!(
        Query::parse(&query("", A, None)).unwrap().name.as_deref(),
        Some("")
    );
}

#[test]
fn a_name_no_container_can_have_is_nobodys() {
    for label in [&b"a.b"[..], b"a b", b"\xff", b"\0"] {
        let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label);
        message.extend_from_slice(&[0, 0, 1, 0, 1]);
        assert_eq!(Query::parse(&message).unwrap().name, None, "{label:?}");
    }
}

#[test]
fn what_is_no_query_is_told_so_or_nothing() {
    let mut response = query("db", A, None);
    response[2] |= 0x80;
    assert_eq!(Query::parse(&response), Err(Refused::Silently));
    assert_eq!(Query::parse(&[0; 11]), Err(Refused::Silently));
    let mut notify = query("db", A, None);
    notify[2] |= 4 << 3;
    assert_eq!(Query::parse(&notify), Err(Refused::With(NOT_IMPLEMENTED)));
    let mut two = query("db", A, None);
    two[5] = 2;
    assert_eq!(Query::parse(&two), Err(Refused::With(FORMAT_ERROR)));
    // A name that points to itself.
    let mut pointing = query("", A, None);
    pointing.splice(12..13, [0xc0, 12]);
    assert_eq!(Query::parse(&pointing), Err(Refused::With(FORMAT_ERROR)));
    let long = "a.".repeat(130);
    let long = Query::parse(&query(&long, A, None));
    assert_eq!(long, Err(Refused::With(FORMAT_ERROR)));
    let told = failure(None, &two, FORMAT_ERROR).unwrap();
    assert_eq!(told, [0x12, 0x34, 0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn the_reverse_tree_leads_to_addresses() {
    let of = |name: &str| Query::parse(&query(name, PTR, None)).unwrap().address();
    assert_eq!(
        of("9.0.77.10.in-addr.arpa"),
        Some("10.77.0.9".parse().unwrap())
    );
    let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.F.ip6.arpa";
    assert_eq!(of(six), Some("fd00::1".parse().unwrap()));
    for bad in [
        "0.77.10.in-addr.arpa",
        "1.9.0.77.10.in-addr.arpa",
        "256.0.77.10.in-addr.arpa",
        "in-addr.arpa",
        "1.ip6.arpa",
        "x.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
        "db",
    ] {
        assert_eq!(of(bad), None, "{bad}");
    }
}

#[test]
fn an_answer_repeats_the_question_and_has_the_records() {
    let message = query("Db", A, None);
    let read = Query::parse(&message).unwrap();
    let records = [address("10.77.0.9"), address("10.77.0.10")];
    let answer = answers(&read, &message, &records, 512);
    assert_eq!(answer[..4], [0x12, 0x34, 0x81, 0x80]);
    assert_eq!(answer[4..12], [0, 1, 0, 2, 0, 0, 0, 0]);
    assert_eq!(answer[12..message.len()], message[12..]);
    let first = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0x02, 0x58, 0, 4, 10, 77, 0, 9];
    assert_eq!(answer[message.len()..message.len() + 16], first);
    assert!(is_answer_to(&read, &message, &answer));
}

#[test]
fn an_answer_about_an_address_is_a_name() {
    let message = query("9.0.77.10.in-addr.arpa", PTR, None);
    let read = Query::parse(&message).unwrap();
    let answer = answers(&read, &message, &[Record::Name("web.gnet".into())], 512);
    assert!(answer.ends_with(b"\0\x0a\x03web\x04gnet\0"), "{answer:?}");
    let nobody = answers(&read, &message, &[Record::Name("a..b".into())], 512);
    assert_eq!(nobody[7], 0);
}

#[test]
fn what_does_not_fit_is_left_out_and_told() {
    let records: Vec<Record> = (0..100).map(|n| address(&format!("10.77.1.{n}"))).collect();
    for (room, limit, fitting) in [(None, 512, 30), (Some(1232), 1232, 75), (None, 65535, 100)] {
        let message = query("db", A, room);
        let read = Query::parse(&message).unwrap();
        let answer = answers(&read, &message, &records, limit);
        assert!(answer.len() <= limit);
        assert_eq!(word(&answer, 6), Some(fitting));
        assert_eq!(answer[2] & 0x02 != 0, fitting < 100, "{limit}");
        // Its own options come last.
        assert_eq!(answer[11], u8::from(room.is_some()));
        if room.is_some() {
            assert!(answer.ends_with(&[0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]));
        }
    }
}

#[test]
fn an_answer_to_another_question_is_none() {
    let message = query("db", A, None);
    let read = Query::parse(&message).unwrap();
    let good = answers(&read, &message, &[address("10.0.0.1")], 512);
    let change = |at: usize, to: u8| {
        let mut other = good.clone();
        other[at] = to;
        is_answer_to(&read, &message, &other)
    };
    assert!(!change(0, 0), "another id");
    assert!(!change(2, 0x01), "a query");
    assert!(!change(13, b'x'), "another name");
    assert!(change(13, b'D'), "the case does not matter");
    assert!(!change(5, 0), "no question and no failure");
    assert!(!is_answer_to(&read, &message, &good[..10]));
    let refused = failure(None, &message, REFUSED).unwrap();
    assert!(is_answer_to(&read, &message, &refused));
    assert_eq!(code(&refused), REFUSED);
}

proptest! {
    /// Whatever comes, nothing panics, and what is answered is well formed.
    #[test]
    fn foreign_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..600), n in 0_u8..40) {
        let records: Vec<Record> = (0..n).map(|n| Record::Address(IpAddr::from([10, 0, 0, n]))).collect();
        match Query::parse(&bytes) {
            Ok(query) => {
                let _address = query.address();
                let limit = query.datagram();
                let answer = answers(&query, &bytes, &records, limit);
                prop_assert!(answer.len() <= limit);
                prop_assert!(is_answer_to(&query, &bytes, &answer));
                let _other = is_answer_to(&query, &bytes, &bytes);
            }
            Err(Refused::With(code)) => prop_assert!(failure(None, &bytes, code).is_some()),
            Err(Refused::Silently) => {}
        }
    }

    /// The same from the neighbourhood of what is right.
    #[test]
    fn a_damaged_query_does_no_harm(
        name in "[a-z0-9.-]{0,80}",
        room in prop::option::of(any::<u16>()),
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        prop_assume!(name.split('.').all(|label| label.len() < 64));
        let mut message = query(&name, A, room);
        prop_assert!(Query::parse(&message).is_ok());
        let at = at.index(message.len());
        message[at] = to;
        message.truncate(cut.index(message.len()) + 1);
        if let Ok(query) = Query::parse(&message) {
            let answer = answers(&query, &message, &[], 512);
            prop_assert!(answer.len() <= 512);
        }
    }
}
