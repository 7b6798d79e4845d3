//! `ps` from fixed answers.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::output::Output;

const ANSWER: &str = r#"[
  {"Id": "18a4bf6a296f296272530151f4d8b06e4e9bf6b4f68d4cef151532c72bee632c", "Names": ["/other/alias", "/g1"],
   "Image": "busybox:1.36@sha256:e12aa8d11246e1370c4f491751a49624baadf3fed9fda0e660a15ee0a964e564",
   "ImageID": "sha256:e12aa8d11246e1370c4f491751a49624baadf3fed9fda0e660a15ee0a964e564",
   "ImageManifestDescriptor": {"platform": {"architecture": "arm", "os": "linux", "variant": "v7"}},
   "Command": "sh -c 'echo out; sleep 1000'", "Created": 1000, "SizeRw": 16384, "SizeRootFs": 2076672,
   "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 18080, "Type": "tcp"}, {"PrivatePort": 53, "Type": "udp"}],
   "Labels": {"x": "y", "a.b": "c"}, "State": "running", "Status": "Up 3 seconds (healthy)",
   "NetworkSettings": {"Networks": {"net2": {"IPAddress": ""}, "bridge": null}},
   "Mounts": [{"Type": "bind", "Source": "/a/very/long/source"}, {"Type": "volume", "Name": "v", "Driver": "local"}]},
  {"Id": "4f205a1e9467698b13d82771206f447517d218f853a5010fc57ea719c0ac34a5", "Names": null,
   "Image": "e12aa8d11246", "ImageID": "sha256:e12aa8d11246e1370c4f491751a49624baadf3fed9fda0e660a15ee0a964e564",
   "Command": "/bin/true", "Created": 4600, "Ports": null, "Labels": null, "State": "exited",
   "Status": "Exited (0) 1 second ago", "NetworkSettings": null, "Mounts": null}
]"#;

fn printed(format: &str, shorten: bool, with_size: bool) -> String {
    let summaries: Vec<Summary> = serde_json::from_str(ANSWER).unwrap();
    let rows: Vec<ContainerRow> = summaries
        .into_iter()
        .map(|summary| ContainerRow {
            summary,
            shorten,
            now_s: 4630.0,
        })
        .collect();
    let mut out = Output::keeping();
    let listing = Listing::new(&full_format(format, false, with_size)).unwrap();
    listing.print(&mut out, HEADERS, &rows).unwrap();
    String::from_utf8(out.kept().to_vec()).unwrap()
}

#[test]
fn the_default_is_a_table() {
    let expected = "\
CONTAINER ID   IMAGE          COMMAND                  CREATED             STATUS                    PORTS                           NAMES
18a4bf6a296f   busybox:1.36   \"sh -c 'echo out; sl…\"   About an hour ago   Up 3 seconds (healthy)    53/udp, 0.0.0.0:18080->80/tcp   g1
4f205a1e9467   e12aa8d11246   \"/bin/true\"              30 seconds ago      Exited (0) 1 second ago                                   \n";
    assert_eq!(printed("", true, false), expected);
}

#[test]
fn sizes_are_one_more_column() {
    let text = printed("table", true, true);
    assert!(
        text.lines().next().unwrap().ends_with("NAMES     SIZE"),
        "{text}"
    );
    assert!(
        text.lines()
            .nth(1)
            .unwrap()
            .ends_with("g1        16.4kB (virtual 2.08MB)"),
        "{text}"
    );
    assert!(text.lines().nth(2).unwrap().ends_with("0B"), "{text}");
}

#[test]
fn nothing_is_cut_where_cutting_is_off() {
    let text = printed(
        "{{.ID}} {{.Image}} {{.Command}} {{.Names}} {{.Mounts}}",
        false,
        false,
    );
    assert_eq!(
        text.lines().next().unwrap(),
        "18a4bf6a296f296272530151f4d8b06e4e9bf6b4f68d4cef151532c72bee632c busybox:1.36@sha256:e12aa8d11246e1370c4f491751a49624baadf3fed9fda0e660a15ee0a964e564 \"sh -c 'echo out; sleep 1000'\" other/alias,g1 /a/very/long/source,v"
    );
}

#[test]
fn every_field_is_a_string_for_templates() {
    let text = printed(
        "{{.Labels}}|{{.Label \"x\"}}|{{.Label \"no\"}}|{{.LocalVolumes}}|{{.Mounts}}|{{.Networks}}|{{.Platform}}|{{.State}}|{{.Size}}",
        true,
        false,
    );
    assert_eq!(
        text.lines().next().unwrap(),
        "a.b=c,x=y|y||1|/a/very/long/s…,v|bridge,net2|linux/arm/v7|running|16.4kB (virtual 2.08MB)"
    );
}

#[test]
fn json_lines_hold_every_field() {
    let text = printed("json", true, false);
    let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "Command",
            "CreatedAt",
            "ID",
            "Image",
            "Labels",
            "LocalVolumes",
            "Mounts",
            "Names",
            "Networks",
            "Platform",
            "Ports",
            "RunningFor",
            "Size",
            "State",
            "Status"
        ]
    );
    assert_eq!(
        line["Platform"],
        serde_json::json!({"architecture": "arm", "os": "linux", "variant": "v7"})
    );
    assert!(text.contains("0.0.0.0:18080-\\u003e80/tcp"), "{text}");
}

#[test]
fn flags_become_the_query() {
    let table: [(&str, &str); 6] = [
        ("", "/containers/json"),
        ("-a", "/containers/json?all=1"),
        ("-l", "/containers/json?limit=1"),
        ("-l -n 5", "/containers/json?limit=5"),
        ("-s", "/containers/json?size=1"),
        (
            "-f bad=x -f a=b",
            "/containers/json?filters=%7B%22bad%22%3A%5B%22x%22%5D%2C%22a%22%3A%5B%22b%22%5D%7D",
        ),
    ];
    for (line, path) in table {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let matches = crate::flag::parse(COMMAND.flags, &words, true).unwrap();
        assert_eq!(request(&matches, matches.bool("size")), path, "{line}");
    }
}

#[test]
fn a_template_that_cannot_work_is_refused_before_the_engine_is_asked() {
    assert!(check_template("{{.Size}}").unwrap() && !check_template("{{.ID}}").unwrap());
    let text = |template: &str| check_template(template).unwrap_err().text().unwrap();
    assert_eq!(
        text("{{.ID"),
        "failed to parse template: template: :1: unclosed action"
    );
    assert_eq!(
        text("{{.Nope}}"),
        "failed to execute template: template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type *formatter.ContainerContext"
    );
    assert_eq!(
        text("{{.Label}}"),
        "failed to execute template: template: :1:2: executing \"\" at <.Label>: wrong number of args for Label: want 1 got 0"
    );
}
