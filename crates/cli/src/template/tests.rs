//! Templates against tables of results and error texts known from Go.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

fn data() -> Value {
    json!({
        "Name": "/web",
        "Id": "18a4bf6a296f",
        "State": {"Status": "running", "Running": true, "Pid": 13539, "ExitCode": 0, "Error": ""},
        "Config": {
            "Labels": {"x": "y", "a.b": "c"}, "Env": ["A=b", "C=d"], "Cmd": null,
            "Volumes": null, "Domainname": ""
        },
        "Mounts": [
            {"Type": "bind", "Source": "/src", "Destination": "/data", "RW": false},
            {"Type": "volume", "Source": "/v", "Destination": "/vol", "RW": true}
        ],
        "NetworkSettings": {
            "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "18080"}], "53/udp": null},
            "Networks": {"bridge": {"IPAddress": "172.17.0.2"}}
        },
        "Size": 4096, "Ratio": 1.5, "Empty": [], "Html": "<a href=\"x\">&'",
        "ApiVersion": "1.56"
    })
}

fn run(text: &str) -> Result<String, String> {
    let template = Template::parse(text).map_err(|error| error.to_string())?;
    template
        .execute_json(&data())
        .map_err(|error| error.to_string())
}

#[test]
fn templates_print_what_gos_print() {
    let table = [
        // Fields, maps and lists.
        ("plain", "plain"),
        ("{{.Name}}", "/web"),
        (
            "{{.State.Pid}} {{.State.Running}} {{.Ratio}}",
            "13539 true 1.5",
        ),
        ("{{.Config.Labels}}", "map[a.b:c x:y]"),
        ("{{.Config.Env}}", "[A=b C=d]"),
        ("{{.Config.Labels.x}}", "y"),
        ("{{.Config.Labels.nope}}", "<no value>"),
        (
            "{{.Config.Cmd}} {{.Config.Volumes}} {{.Config.Volumes.x}}",
            "[] map[] <no value>",
        ),
        (
            "{{.NetworkSettings.Networks.bridge.IPAddress}}",
            "172.17.0.2",
        ),
        ("{{.NetworkSettings.Networks.nope.IPAddress}}", "<no value>"),
        ("{{.APIVersion}}", "1.56"),
        ("{{(index .Mounts 1).Source}}", "/v"),
        ("{{index .Config.Labels \"a.b\"}}", "c"),
        ("[{{index .Config.Labels \"nope\"}}]", "[]"),
        (
            "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}",
            "18080",
        ),
        ("{{index .Config.Env 1}}", "C=d"),
        // Literals.
        ("{{\"quoted\\t\\x41\\u00e9\\101\"}}", "quoted\tA\u{e9}A"),
        ("{{`raw\\n`}}", "raw\\n"),
        (
            "{{1.5}} {{0x10}} {{1e3}} {{-7}} {{'a'}} {{true}}",
            "1.5 16 1000 -7 97 true",
        ),
        ("{{1_000}} {{1e21}} {{1e-7}}", "1000 1e+21 1e-07"),
        // Control.
        ("{{if .State.Running}}yes{{else}}no{{end}}", "yes"),
        (
            "{{if .State.Error}}a{{else if .Empty}}b{{else}}c{{end}}",
            "c",
        ),
        ("{{if and .State.Running (gt .State.Pid 0)}}up{{end}}", "up"),
        (
            "{{with .State}}{{.Status}}{{end}}{{with .Empty}}x{{else}}none{{end}}",
            "runningnone",
        ),
        ("{{with .Empty}}x{{else with .Name}}{{.}}{{end}}", "/web"),
        (
            "{{range .Mounts}}{{.Source}}:{{.Destination}} {{end}}",
            "/src:/data /v:/vol ",
        ),
        (
            "{{range $i, $m := .Mounts}}{{if $i}}, {{end}}{{$i}}={{$m.Type}}{{end}}",
            "0=bind, 1=volume",
        ),
        (
            "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}",
            "a.b=c;x=y;",
        ),
        (
            "{{range $p, $c := .NetworkSettings.Ports}}{{$p}} {{end}}",
            "53/udp 80/tcp ",
        ),
        ("{{range .Empty}}x{{else}}empty{{end}}", "empty"),
        ("{{range .Config.Cmd}}x{{else}}null{{end}}", "null"),
        (
            "{{range $i := 3}}{{$i}}{{end}} {{range 2}}.{{end}}",
            "012 ..",
        ),
        (
            "{{range .Mounts}}{{if eq .Type \"volume\"}}{{break}}{{end}}{{.Type}}{{end}}",
            "bind",
        ),
        (
            "{{range .Mounts}}{{if eq .Type \"bind\"}}{{continue}}{{end}}{{.Type}}{{end}}",
            "volume",
        ),
        // Variables.
        (
            "{{$x := .Name}}{{$x}} {{$y := 1}}{{if true}}{{$y = 2}}{{end}}{{$y}}",
            "/web 2",
        ),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{end}}{{$x}}", "1"),
        ("{{range .Mounts}}{{$.Name}}{{end}}", "/web/web"),
        ("{{with $s := .State}}{{$s.Pid}}{{end}}", "13539"),
        // Trimming and comments.
        ("a{{/* c */}}b {{- /* d */ -}} c {{- \"x\" -}} d", "abcxd"),
        ("a \n {{- .State.Pid -}} \n b", "a13539b"),
        ("{{3 -}} x", "3x"),
        // Named templates.
        (
            "{{define \"T\"}}<{{.}}>{{end}}{{template \"T\" .Name}}",
            "</web>",
        ),
        ("{{block \"B\" .State}}[{{.Pid}}]{{end}}", "[13539]"),
        // Pipelines and functions.
        ("{{.Name | upper | printf \"%s-%s\" \"a\"}}", "a-/WEB"),
        (
            "{{len .Mounts}} {{len .Name}} {{len .Config.Labels}} {{len .Config.Cmd}}",
            "2 4 2 0",
        ),
        (
            "{{lt 1 2}} {{le \"a\" \"b\"}} {{gt 2 2}} {{ge 2 2}} {{ne 1 1}} {{eq 3 1 2 3}}",
            "true true false true false true",
        ),
        (
            "{{not true}} {{or \"\" \"x\"}} {{and 1 0}} {{or .Empty 0}}",
            "false x 0 0",
        ),
        (
            "{{and false (index .Mounts 9)}} {{or 1 (index .Mounts 9)}}",
            "false 1",
        ),
        (
            "{{json .State.Status}} {{json .Config.Labels}} {{json .Html}}",
            "\"running\" {\"x\":\"y\",\"a.b\":\"c\"} \"<a href=\\\"x\\\">&'\"",
        ),
        ("{{json .Config.Cmd}}", "null"),
        (
            "{{split \"a,b,c\" \",\"}} {{join (split \"a,b\" \",\") \"-\"}} {{split \"ab\" \"\"}}",
            "[a b c] a-b [a b]",
        ),
        ("{{join .Config.Env \";\"}}", "A=b;C=d"),
        (
            "{{title \"hello big-world don't\"}} {{lower \"ABC\"}}",
            "Hello Big-World Don't abc",
        ),
        (
            "[{{pad \"x\" 1 2}}][{{pad \"\" 1 2}}][{{truncate \"hello\" 3}}][{{truncate \"hi\" 5}}]",
            "[ x  ][][hel][hi]",
        ),
        ("{{print .Id 1 2 \"x\" 3}} {{print}}", "18a4bf6a296f1 2x3 "),
        ("{{println .Name 1}}", "/web 1\n"),
        ("{{html .Html}}", "&lt;a href=&#34;x&#34;&gt;&amp;&#39;"),
        ("{{js \"it's <b>\"}}", "it\\'s \\u003Cb\\u003E"),
        ("{{urlquery \"a b&c/\u{e9}\"}}", "a+b%26c%2F%C3%A9"),
        (
            "{{slice .Id 0 4}} {{slice .Config.Env 1}} {{slice .Id 10}}",
            "18a4 [C=d] 6f",
        ),
        // printf.
        (
            "{{printf \"%-6s|%6s|%q|%x|%d\" .Name \"ab\" .Id \"hi\" 5}}",
            "/web  |    ab|\"18a4bf6a296f\"|6869|5",
        ),
        (
            "{{printf \"%05d|%+d|%x|%X|%o|%b|%c|%U\" 42 7 255 255 8 5 65 65}}",
            "00042|+7|ff|FF|10|101|A|U+0041",
        ),
        (
            "{{printf \"%.2f|%8.3f|%g|%e\" 1.5 2.0 1.5 1500.0}}",
            "1.50|   2.000|1.5|1.500000e+03",
        ),
        (
            "{{printf \"%v %v %v %T\" .Mounts nil true .Name}}",
            "[map[Destination:/data RW:false Source:/src Type:bind] map[Destination:/vol RW:true Source:/v Type:volume]] <nil> true string",
        ),
        (
            "{{printf \"%d %s %%\" \"x\"}}",
            "%!d(string=x) %!s(MISSING) %",
        ),
        (
            "{{printf \"a\" 1}} {{printf \"%\"}} {{printf \"%t\" 3}}",
            "a%!(EXTRA int=1) %!(NOVERB) %!t(int=3)",
        ),
        ("{{printf \"%*d|%.3s\" 5 42 \"abcdef\"}}", "   42|abc"),
        ("{{printf \"%s %v\" .Config.Env .Size}}", "[A=b C=d] 4096"),
    ];
    assert!(table.len() >= 60, "{}", table.len());
    for (text, expected) in table {
        assert_eq!(run(text), Ok(expected.to_owned()), "{text}");
    }
}

#[test]
fn wrong_templates_are_refused_in_gos_words() {
    let table = [
        ("{{.Name", "unclosed action"),
        ("{{.Name}", "bad character U+007D '}'"),
        ("{{.Name.}}", "unexpected <.> in operand"),
        ("{{nope}}", "function \"nope\" not defined"),
        ("{{$x}}", "undefined variable \"$x\""),
        ("{{$x = 1}}", "undefined variable \"$x\""),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{if}}x{{end}}", "missing value for if"),
        ("{{if .Name}}x", "unexpected EOF"),
        ("{{}}", "missing value for command"),
        ("{{|}}", "unexpected \"|\" in command"),
        ("{{#}}", "unexpected \"#\" in command"),
        ("{{1 | 2}}", "non executable command in pipeline stage 2"),
        ("{{\"unterminated}}", "unterminated quoted string"),
        ("{{`raw}}", "unterminated raw quoted string"),
        ("{{'a}}", "unterminated character constant"),
        ("{{(.Name}}", "unclosed left paren"),
        ("{{.Name)}}", "unexpected right paren"),
        ("{{12abc}}", "bad number syntax: \"12a\""),
        ("{{break}}", "{{break}} outside {{range}}"),
        (
            "{{range $a, $b, $c := .Mounts}}{{end}}",
            "too many declarations in range",
        ),
        ("{{/* open", "unclosed comment"),
        ("{{/* c */ x}}", "comment ends before closing delimiter"),
        ("{{\"\\q\"}}", "invalid syntax"),
        ("{{1.x}}", "bad number syntax: \"1.x\""),
        (
            "{{template .Name}}",
            "unexpected \".Name\" in template clause",
        ),
    ];
    for (text, message) in table {
        assert_eq!(run(text), Err(format!("template: :1: {message}")), "{text}");
    }
    assert_eq!(
        run("a\n{{if .Name}}\n{{end"),
        Err("template: :3: unclosed action".to_owned())
    );
    assert_eq!(
        run("a\n{{.Name\n"),
        Err("template: :3: unclosed action started at :2".to_owned())
    );
}

#[test]
fn failures_name_the_place_as_go_does() {
    let table = [
        (
            "{{.Nope}}",
            ":1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\"",
        ),
        (
            "{{.State.Nope}}",
            ":1:8: executing \"\" at <.State.Nope>: map has no entry for key \"Nope\"",
        ),
        (
            "{{.Name.Foo}}",
            ":1:7: executing \"\" at <.Name.Foo>: can't evaluate field Foo in type interface {}",
        ),
        (
            "{{.name}}",
            ":1:2: executing \"\" at <.name>: map has no entry for key \"name\"",
        ),
        (
            "a\n{{range .Mounts}}\n {{.Nope}}{{end}}",
            ":3:3: executing \"\" at <.Nope>: map has no entry for key \"Nope\"",
        ),
        (
            "{{.Name .Id}}",
            ":1:2: executing \"\" at <.Name>: Name is not a method but has arguments",
        ),
        (
            "{{\"x\" 1}}",
            ":1:2: executing \"\" at <\"x\">: can't give argument to non-function \"x\"",
        ),
        (
            "{{nil}}",
            ":1:2: executing \"\" at <nil>: nil is not a command",
        ),
        (
            "{{len 3}}",
            ":1:2: executing \"\" at <len 3>: error calling len: len of type int",
        ),
        (
            "{{index .Mounts 10}}",
            ":1:2: executing \"\" at <index .Mounts 10>: error calling index: index out of range: 10",
        ),
        (
            "{{index .Mounts \"a\"}}",
            ":1:2: executing \"\" at <index .Mounts \"a\">: error calling index: cannot index slice/array with type string",
        ),
        (
            "{{index .Config.Cmd 0}}",
            ":1:2: executing \"\" at <index .Config.Cmd 0>: error calling index: index of untyped nil",
        ),
        (
            "{{eq .Name 1}}",
            ":1:2: executing \"\" at <eq .Name 1>: error calling eq: incompatible types for comparison",
        ),
        (
            "{{split \"a\"}}",
            ":1:2: executing \"\" at <split>: wrong number of args for split: want 2 got 1",
        ),
        (
            "{{index}}",
            ":1:2: executing \"\" at <index>: wrong number of args for index: want at least 1 got 0",
        ),
        (
            "{{range .Name}}{{end}}",
            ":1:8: executing \"\" at <.Name>: range can't iterate over /web",
        ),
        (
            "{{template \"nope\"}}",
            ":1:11: executing \"\" at <{{template \"nope\"}}>: template \"nope\" not defined",
        ),
        (
            "{{slice .Id 0 99}}",
            ":1:2: executing \"\" at <slice .Id 0 99>: error calling slice: index out of range: 99",
        ),
    ];
    for (text, message) in table {
        assert_eq!(run(text), Err(format!("template: {message}")), "{text}");
    }
}

#[test]
fn a_named_template_says_its_name() {
    let template = Template::parse_named("version", "{{.Nope}}").unwrap();
    assert_eq!(
        template.execute_json(&json!({})).unwrap_err().to_string(),
        "template: version:1:2: executing \"version\" at <.Nope>: map has no entry for key \"Nope\""
    );
    assert_eq!(
        Template::parse_named("version", "{{.Bad")
            .unwrap_err()
            .to_string(),
        "template: version:1: unclosed action"
    );
}

#[test]
fn fields_that_are_read_are_known_before_execution() {
    let reads = |text: &str| Template::parse(text).unwrap().reads("Size");
    assert!(reads("{{.Size}}") && reads("{{json .}}") && reads("{{if eq (len .Size) 1}}{{end}}"));
    assert!(reads("{{range .A}}{{$.Size}}{{end}}") && reads("{{define \"a\"}}{{.Size}}{{end}}"));
    assert!(!reads("{{.ID}} Size {{\"Size\"}}"));
}

#[test]
fn nesting_recursion_and_size_are_limited() {
    let deep = format!("{}{}", "{{if true}}".repeat(2000), "{{end}}".repeat(2000));
    assert!(run(&deep).unwrap_err().contains("nested deeper"));
    let parens = format!("{{{{{}1{}}}}}", "(".repeat(5000), ")".repeat(5000));
    assert!(run(&parens).unwrap_err().contains("nested deeper"));
    let endless = "{{define \"a\"}}{{template \"a\" .}}{{end}}{{template \"a\" .}}";
    assert!(
        run(endless)
            .unwrap_err()
            .contains("exceeded maximum template depth")
    );
    assert!(
        run(&"x".repeat(MAX_TEMPLATE_BYTES + 1))
            .unwrap_err()
            .contains("longer than")
    );
    assert!(run("{{range 100000000000}}x{{end}}").is_err());
    assert!(run("{{printf \"%999999999999d\" 1}}").unwrap().len() <= 64 * 1024);
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_template_or_refused_without_a_panic(text in "[{}.$|()\"'`\\\\/*= :,a-e0-9\u{e9}-]{0,40}") {
        drop(run(&text));
        drop(run(&format!("{{{{{text}}}}}")));
    }
}
