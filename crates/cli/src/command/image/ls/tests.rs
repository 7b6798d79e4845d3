//! `images` from fixed answers.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::output::Output;

const DIGEST: &str = "sha256:e12aa8d11246e1370c4f491751a49624baadf3fed9fda0e660a15ee0a964e564";

fn printed(format: &str, with_digests: bool) -> String {
    let answer = format!(
        r#"[
          {{"Id": "{DIGEST}", "Containers": -1, "Created": 1000, "Size": 3124100, "SharedSize": -1, "ParentId": "",
            "RepoTags": ["bench/busybox:latest", "busybox:latest", "busybox:1"],
            "RepoDigests": ["busybox@{DIGEST}", "far.example/x@{DIGEST}"]}},
          {{"Id": "sha256:0123456789abcdef", "Containers": 2, "Created": 0, "Size": 10, "SharedSize": 4,
            "RepoTags": null, "RepoDigests": []}}
        ]"#
    );
    let summaries: Vec<Summary> = serde_json::from_str(&answer).unwrap();
    let listing = Listing::new(&full_format(format, false, with_digests)).unwrap();
    let digests = Digests {
        of_tags: with_digests || format.contains("{{.Digest}}"),
        alone: with_digests,
    };
    let look = Look {
        shorten: true,
        now_s: 4600.0,
    };
    let rows: Vec<ImageRow<'_>> = summaries
        .iter()
        .flat_map(|summary| rows(summary, digests, look))
        .collect();
    let mut out = Output::keeping();
    listing.print(&mut out, HEADERS, &rows).unwrap();
    String::from_utf8(out.kept().to_vec()).unwrap()
}

#[test]
fn each_name_of_an_image_is_a_line() {
    let expected = "\
REPOSITORY      TAG       IMAGE ID       CREATED             SIZE
bench/busybox   latest    e12aa8d11246   About an hour ago   3.12MB
busybox         latest    e12aa8d11246   About an hour ago   3.12MB
busybox         1         e12aa8d11246   About an hour ago   3.12MB
far.example/x   <none>    e12aa8d11246   About an hour ago   3.12MB
<none>          <none>    0123456789ab   N/A                 10B
";
    assert_eq!(printed("", false), expected);
}

#[test]
fn digests_stand_beside_the_tags_of_their_repository() {
    let text = printed("{{.Repository}} {{.Tag}} {{.Digest}}", true);
    let expected = format!(
        "bench/busybox latest <none>\nbusybox latest {DIGEST}\nbusybox 1 {DIGEST}\nfar.example/x <none> {DIGEST}\n<none> <none> <none>\n"
    );
    assert_eq!(text, expected);
}

#[test]
fn what_was_not_counted_is_not_shown_as_a_number() {
    let text = printed("{{.Containers}} {{.SharedSize}} {{.UniqueSize}}", false);
    assert_eq!(text.lines().next(), Some("N/A N/A N/A"));
    assert_eq!(text.lines().last(), Some("2 4B 6B"));
}

#[test]
fn a_custom_table_is_given_the_digest_column_that_was_asked_for() {
    assert_eq!(
        full_format("table {{.ID}}", false, true),
        "table {{.ID}}\t{{.Digest}}"
    );
    assert_eq!(full_format("table {{.ID}}", true, true), "{{.ID}}");
}

#[test]
fn the_argument_is_one_more_filter() {
    let words = ["-a", "-f", "dangling=true", "busy*"].map(str::to_owned);
    let matches = crate::flag::parse(COMMAND.flags, &words, true).unwrap();
    assert_eq!(
        request(&matches),
        "/images/json?filters=%7B%22dangling%22%3A%5B%22true%22%5D%2C%22reference%22%3A%5B%22busy%2A%22%5D%7D&all=1"
    );
}
