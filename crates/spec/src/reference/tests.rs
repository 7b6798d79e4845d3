//! The upstream project's cases, retold, and Docker's own messages.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const HEX: &str = "4fb1c0a7d2e8936f5a1bcd0e72f48396a5b0c1d2e3f405162738495a6b7c8d9e";

fn parse(text: &str) -> Reference {
    Reference::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error(text: &str) -> String {
    Reference::parse(text).expect_err(text).to_string()
}

#[test]
fn a_short_name_is_an_official_image_on_docker_io() {
    let reference = parse("busybox");
    assert_eq!(reference.domain(), "docker.io");
    assert_eq!(reference.path(), "library/busybox");
    assert_eq!(reference.name(), "docker.io/library/busybox");
    assert_eq!(reference.tag(), None);
    assert_eq!(reference.digest(), None);
    assert_eq!(reference.familiar_name(), "busybox");
    assert_eq!(reference.to_string(), "docker.io/library/busybox");
}

#[test]
fn every_spelling_of_a_repository_has_one_full_and_one_familiar_name() {
    for (spellings, domain, path, familiar) in [
        (
            &[
                "redis",
                "library/redis",
                "docker.io/redis",
                "index.docker.io/redis",
                "docker.io/library/redis",
                "index.docker.io/library/redis",
            ][..],
            "docker.io",
            "library/redis",
            "redis",
        ),
        (
            &["some/app", "docker.io/some/app", "index.docker.io/some/app"],
            "docker.io",
            "some/app",
            "some/app",
        ),
        (
            &["other/library"],
            "docker.io",
            "other/library",
            "other/library",
        ),
        (
            &["library/a/b", "docker.io/library/a/b"],
            "docker.io",
            "library/a/b",
            "library/a/b",
        ),
        (
            &["ubuntu-12.04-base"],
            "docker.io",
            "library/ubuntu-12.04-base",
            "ubuntu-12.04-base",
        ),
        (
            &["under_score/app"],
            "docker.io",
            "under_score/app",
            "under_score/app",
        ),
        (
            &["127.0.0.1:8000/app"],
            "127.0.0.1:8000",
            "app",
            "127.0.0.1:8000/app",
        ),
        (
            &["127.0.0.1:8000/a/b"],
            "127.0.0.1:8000",
            "a/b",
            "127.0.0.1:8000/a/b",
        ),
        (
            &["example.com/app"],
            "example.com",
            "app",
            "example.com/app",
        ),
        (
            &["sub-1.example.com/a/b/c"],
            "sub-1.example.com",
            "a/b/c",
            "sub-1.example.com/a/b/c",
        ),
        (
            &["xn--n3h.com:18080/app"],
            "xn--n3h.com:18080",
            "app",
            "xn--n3h.com:18080/app",
        ),
        (&["host:5000/app"], "host:5000", "app", "host:5000/app"),
        (&["localhost/app"], "localhost", "app", "localhost/app"),
        (
            &["localhost:5000/app"],
            "localhost:5000",
            "app",
            "localhost:5000/app",
        ),
        (
            &["[2001:db8::1]/app"],
            "[2001:db8::1]",
            "app",
            "[2001:db8::1]/app",
        ),
        (&["[::1]:5000/app"], "[::1]:5000", "app", "[::1]:5000/app"),
        (&["Foo/bar"], "Foo", "bar", "Foo/bar"),
        (&["FOO/bar"], "FOO", "bar", "FOO/bar"),
    ] {
        for spelling in spellings {
            let reference = parse(spelling);
            assert_eq!(reference.domain(), domain, "{spelling}");
            assert_eq!(reference.path(), path, "{spelling}");
            assert_eq!(reference.name(), format!("{domain}/{path}"), "{spelling}");
            assert_eq!(reference.familiar_name(), familiar, "{spelling}");
            assert_eq!(parse(reference.familiar_name()), reference, "{spelling}");
            assert_eq!(parse(reference.name()), reference, "{spelling}");
        }
    }
}

#[test]
fn a_name_without_a_slash_is_never_a_domain() {
    for (text, path, tag) in [
        ("localhost", "library/localhost", None),
        ("test.com", "library/test.com", None),
        ("test.com:tag", "library/test.com", Some("tag")),
        ("test.com:5000", "library/test.com", Some("5000")),
        ("192.168.0.1:80", "library/192.168.0.1", Some("80")),
        ("foo_bar.com:8080", "library/foo_bar.com", Some("8080")),
    ] {
        let reference = parse(text);
        assert_eq!(reference.domain(), "docker.io", "{text}");
        assert_eq!(reference.path(), path, "{text}");
        assert_eq!(reference.tag(), tag, "{text}");
    }
}

#[test]
fn tag_and_digest_are_read_and_shown_back() {
    let digest = format!("sha256:{HEX}");
    let sha512 = format!("sha512:{HEX}{HEX}");
    for (text, tag, digest) in [
        (
            "b.gcr.io/test.example.com/app:test.example.com".to_owned(),
            Some("test.example.com"),
            None,
        ),
        ("192.168.1.1:5000/repo:5050".to_owned(), Some("5050"), None),
        (
            "lowercase:UPPER_case.1-2".to_owned(),
            Some("UPPER_case.1-2"),
            None,
        ),
        (format!("test:5000/repo@{digest}"), None, Some(&digest)),
        (
            format!("busybox:latest@{digest}"),
            Some("latest"),
            Some(&digest),
        ),
        (
            format!("[::1]:5000/repo:tag@{digest}"),
            Some("tag"),
            Some(&digest),
        ),
        (
            format!("xn--7o8h.com/image:xn--7o8h.com@{sha512}"),
            Some("xn--7o8h.com"),
            Some(&sha512),
        ),
    ] {
        let reference = parse(&text);
        assert_eq!(reference.tag(), tag, "{text}");
        assert_eq!(
            reference.digest().map(Digest::as_str),
            digest.map(String::as_str),
            "{text}"
        );
        assert_eq!(reference.familiar(), text);
        assert_eq!(reference.to_string().strip_prefix(reference.name()), {
            text.strip_prefix(reference.familiar_name())
        });
        assert_eq!(parse(&reference.to_string()), reference);
    }
}

#[test]
fn names_at_the_edges_of_the_grammar_are_taken() {
    for text in [
        "d/docker",
        "jess/t",
        "dock__er/docker",
        "docker---rules/docker",
        "thisisthesongthatneverendsitgoesonandonandonthisisthesongthatnev",
        "a.b_c__d-e---f",
        "0/1:2",
        "docker.io/4fb1c0a7d2e8936f5a1bcd0e72f48396a5b0c1d2e3f405162738495a6b7c8d9e",
        "[fc00:1:2:3:4:5:6:7]:5000/library/debian",
    ] {
        let reference = parse(text);
        assert_eq!(parse(&reference.to_string()), reference, "{text}");
    }
}

#[test]
fn what_is_not_of_the_grammar_is_an_invalid_reference() {
    for text in [
        "",
        ":justtag",
        "@sha256:4fb1c0a7d2e8936f5a1bcd0e72f48396a5b0c1d2e3f405162738495a6b7c8d9e",
        "name:",
        "name:tag:tag",
        "name@",
        "name@sha256",
        "name@sha256:4fb1",
        "name@sha256:4fb1c0a7d2e8936f5a1bcd0e72f48396a5b0c1d2e3f405162738495a6b7c8d9e:tag",
        "name:-tag",
        "name:.tag",
        "name:täg",
        "na me",
        "name\n",
        "aa/asdf$$^/aa",
        "https://github.com/docker/docker",
        "-docker",
        "docker-",
        "-docker/docker",
        "docker-/docker",
        "-docker.io/docker/docker",
        "docker///docker",
        "docker/",
        "/docker",
        "docker.io/",
        "____/____",
        "_docker/_docker",
        "a___b",
        "dock..er/docker",
        "dock_.er/docker",
        "dock-.er/docker",
        "test:port/name",
        "test:/name",
        "under_score:5000/name",
        "under_score.local/name",
        "[fc00::1]",
        "[fc00::1]:5000",
        "[2001:db8::1]:tag",
        "[]/name",
        "[::1/name",
        "[::1]x/name",
        "fc00::1:5000/debian",
        "[fe80::1%eth0]:5000/debian",
        "[2001:db8:3:4::192.0.2.33]:5000/debian",
    ] {
        assert_eq!(error(text), "invalid reference format", "{text:?}");
    }
}

#[test]
fn an_upper_case_path_is_named_in_the_message() {
    for (text, path) in [
        ("BAD", "library/BAD"),
        ("Bad:tag", "library/Bad"),
        ("Bad/Name", "Name"),
        ("docker/Docker", "docker/Docker"),
        ("docker.io/docker/Docker", "docker/Docker"),
        ("docker.io/Docker", "library/Docker"),
        ("test:5000/Upper/lower:tag", "Upper/lower"),
        ("É", "library/É"),
    ] {
        assert_eq!(
            error(text),
            format!("invalid reference format: repository name ({path}) must be lowercase"),
            "{text}"
        );
    }
}

#[test]
fn a_64_digit_hexadecimal_name_is_refused() {
    assert_eq!(
        error(HEX),
        format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings")
    );
    assert_eq!(parse(&HEX[1..]).familiar_name(), &HEX[1..]);
    assert_eq!(parse(&format!("{HEX}:tag")).familiar_name(), HEX);
}

#[test]
fn a_path_has_at_most_255_characters() {
    let path = "a".repeat(255);
    assert_eq!(parse(&format!("example.com/{path}:tag")).path(), path);
    let message = "repository name must not be more than 255 characters";
    assert_eq!(error(&format!("example.com/{path}a:tag")), message);
    // `library/` counts.
    assert_eq!(parse(&"a".repeat(247)).path().len(), 255);
    assert_eq!(error(&"a".repeat(248)), message);
}

#[test]
fn a_tag_has_at_most_128_characters() {
    let tag = "t".repeat(128);
    assert_eq!(parse(&format!("a:{tag}")).tag(), Some(tag.as_str()));
    assert_eq!(error(&format!("a:{tag}t")), "invalid reference format");
}

#[test]
fn a_wrong_digest_of_the_right_look_has_its_own_message() {
    let upper = HEX.to_uppercase();
    for (digest, message) in [
        (
            &format!("sha256:{}", &HEX[..34]),
            "invalid checksum digest length",
        ),
        (&format!("sha256:{upper}"), "invalid checksum digest format"),
        (&format!("invalid:{HEX}"), "unsupported digest algorithm"),
    ] {
        assert_eq!(error(&format!("name@{digest}")), message, "{digest}");
    }
}

#[test]
fn the_default_tag_is_added_only_where_nothing_is() {
    assert_eq!(parse("a").with_default_tag().familiar(), "a:latest");
    assert_eq!(parse("a:b").with_default_tag().familiar(), "a:b");
    let pinned = format!("a@sha256:{HEX}");
    assert_eq!(parse(&pinned).with_default_tag().familiar(), pinned);
}

#[test]
fn tag_and_digest_can_be_exchanged_and_dropped() {
    let digest = Digest::of(b"");
    let both = parse("a")
        .with_tag("B")
        .unwrap()
        .with_digest(digest.clone());
    assert_eq!(both.familiar(), format!("a:B@{digest}"));
    assert_eq!(both.clone().without_tag().familiar(), format!("a@{digest}"));
    assert_eq!(both.repository(), parse("a"));
    assert_eq!(parse("a").with_tag("-b"), Err(ParseError::Tag));
    assert_eq!(parse("a").with_tag(""), Err(ParseError::Tag));
}

#[test]
fn image_ids_are_told_from_names() {
    let full = format!("sha256:{HEX}");
    for (text, hex, is_id) in [
        (full.as_str(), Some(HEX), true),
        ("sha256:4fb", Some("4fb"), true),
        (HEX, Some(HEX), true),
        (&HEX[..12], Some(&HEX[..12]), true),
        (&HEX[..11], Some(&HEX[..11]), false),
        ("cafe", Some("cafe"), false),
        ("busybox", None, false),
        ("sha256:", None, false),
        ("sha256:xyz", None, false),
        ("", None, false),
        ("4FB1C0A7D2E8", None, false),
    ] {
        assert_eq!(image_id_prefix(text), hex, "{text}");
        assert_eq!(is_image_id(text), is_id, "{text}");
    }
    assert!(!is_image_id(&format!("{HEX}0")));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in ".*") {
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert_eq!(Reference::parse(&reference.to_string()), Ok(reference));
        }
    }

    #[test]
    fn a_full_reference_is_read_back(text in "([A-Za-z0-9.\\[\\]-]{1,6}(:[0-9]{1,3})?/)?[a-z0-9._-]{1,6}(/[a-z0-9_-]{1,4})?(:[\\w.-]{1,5})?") {
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert!(reference.path().len() <= MAX_PATH_LEN);
            prop_assert_eq!(reference.name(), format!("{}/{}", reference.domain(), reference.path()));
            prop_assert_eq!(Reference::parse(&reference.to_string()), Ok(reference));
        }
    }
}
