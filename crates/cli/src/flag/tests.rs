//! The flag parser and value parsers against tables of command lines.

#![allow(clippy::unwrap_used)]

use super::*;

fn even(text: &str) -> Result<(), String> {
    if text.len().is_multiple_of(2) {
        Ok(())
    } else {
        Err("odd length".to_owned())
    }
}

const FLAGS: &[Flag] = &[
    Flag::bool("detach", "").short('d'),
    Flag::bool("interactive", "").short('i'),
    Flag::bool("tty", "").short('t'),
    Flag::bool("rm", ""),
    Flag::bool("sig-proxy", "").default("true"),
    Flag::list("publish", "").short('p'),
    Flag::list("env", "").short('e'),
    Flag::string("name", "").short('n'),
    Flag::string("pull", "").default("missing"),
    Flag::new(Kind::Bytes, "memory", "").short('m'),
    Flag::int("stop-timeout", ""),
    Flag::new(Kind::Uint16, "weight", ""),
    Flag::new(Kind::Float, "ratio", ""),
    Flag::new(Kind::Duration, "interval", ""),
    Flag::new(Kind::CommaList, "platform", ""),
    Flag::new(Kind::OptionalString("always"), "restart", ""),
    Flag::checked("even", "even", even, ""),
    Flag::bool("old", "").deprecated("use --new"),
];
const TABLES: &[&[Flag]] = &[FLAGS];

fn parse_line(line: &str) -> Result<Matches, FlagError> {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    parse(TABLES, &words, false)
}

fn error_of(line: &str) -> String {
    parse_line(line).unwrap_err().to_string()
}

#[test]
fn letters_bundle_and_the_last_may_take_a_value() {
    let matches = parse_line("-itd -p8080:80 -p=81:81 -p 82:82 -ditn box image").unwrap();
    assert!(matches.bool("interactive") && matches.bool("tty") && matches.bool("detach"));
    assert_eq!(matches.list("publish"), ["8080:80", "81:81", "82:82"]);
    assert_eq!(matches.str("name"), "box");
    assert_eq!(matches.args(), ["image"]);
}

#[test]
fn long_flags_take_their_value_after_an_equals_sign_or_a_blank() {
    let matches = parse_line("--name=a=b --env X --env=Y --name= image").unwrap();
    assert_eq!(matches.str("name"), "");
    assert_eq!(matches.list("env"), ["X", "Y"]);
    assert!(matches.is_set("name") && !matches.is_set("pull"));
}

#[test]
fn booleans_take_a_value_only_after_an_equals_sign() {
    let matches = parse_line("-d=false --rm=T --sig-proxy=0 --tty true").unwrap();
    assert!(!matches.bool("detach") && matches.bool("rm") && !matches.bool("sig-proxy"));
    assert!(matches.bool("tty"));
    assert_eq!(matches.args(), ["true"]);
}

#[test]
fn defaults_hold_where_nothing_is_given() {
    let matches = parse_line("").unwrap();
    assert!(matches.bool("sig-proxy") && !matches.bool("rm"));
    assert_eq!(
        (matches.str("pull"), matches.opt_str("pull")),
        ("missing", None)
    );
    assert_eq!(
        (matches.int("stop-timeout"), matches.bytes("memory")),
        (0, 0)
    );
    assert!(matches.list("env").is_empty());
}

#[test]
fn a_flag_may_mean_something_without_a_value() {
    assert_eq!(
        parse_line("--restart image").unwrap().str("restart"),
        "always"
    );
    assert_eq!(
        parse_line("--restart=no image").unwrap().str("restart"),
        "no"
    );
}

#[test]
fn typed_values_are_read() {
    let matches = parse_line(
        "-m 1.5g --stop-timeout=-0x10 --weight 500 --ratio 1.25 --interval 1m30s --platform a,\"b,c\" --platform d",
    )
    .unwrap();
    assert_eq!(matches.bytes("memory"), 3 << 29);
    assert_eq!(matches.int("stop-timeout"), -16);
    assert_eq!(matches.uint("weight"), 500);
    assert!((matches.float("ratio") - 1.25).abs() < f64::EPSILON);
    assert_eq!(matches.duration_ns("interval"), 90_000_000_000);
    assert_eq!(matches.list("platform"), ["a", "b,c", "d"]);
}

#[test]
fn the_first_argument_ends_the_flags_of_commands_that_run_something() {
    let matches = parse_line("-i image ls -la --rm").unwrap();
    assert_eq!(matches.args(), ["image", "ls", "-la", "--rm"]);
    assert!(!matches.bool("rm"));
}

#[test]
fn elsewhere_flags_may_follow_arguments() {
    let words = ["a", "--rm", "b", "-", "", "--", "--tty"].map(str::to_owned);
    let matches = parse(TABLES, &words, true).unwrap();
    assert_eq!(matches.args(), ["a", "b", "-", "", "--tty"]);
    assert!(matches.bool("rm") && !matches.bool("tty"));
}

#[test]
fn help_is_understood_wherever_no_flag_takes_its_letter() {
    assert!(parse_line("--help").unwrap().wants_help());
    assert!(parse_line("-ih").unwrap().wants_help());
    assert!(!parse_line("--help=false").unwrap().wants_help());
    assert_eq!(error_of("--help --nope"), "unknown flag: --nope");
}

#[test]
fn deprecated_flags_work_and_are_remembered() {
    let matches = parse_line("--old").unwrap();
    assert!(matches.bool("old"));
    assert_eq!(
        matches.notices(),
        ["Flag --old has been deprecated, use --new"]
    );
}

#[test]
fn errors_read_as_pflags() {
    let table = [
        ("--nosuchflag x", "unknown flag: --nosuchflag"),
        ("--nosuchflag=1", "unknown flag: --nosuchflag"),
        ("-z", "unknown shorthand flag: 'z' in -z"),
        ("-itz", "unknown shorthand flag: 'z' in -z"),
        ("-xyz", "unknown shorthand flag: 'x' in -xyz"),
        ("-=", "unknown shorthand flag: '=' in -="),
        ("-'", "unknown shorthand flag: '\\'' in -'"),
        ("---x", "bad flag syntax: ---x"),
        ("--=x", "bad flag syntax: --=x"),
        ("--name", "flag needs an argument: --name"),
        ("-n", "flag needs an argument: 'n' in -n"),
        ("-itn", "flag needs an argument: 'n' in -n"),
        (
            "-m 1x",
            "invalid argument \"1x\" for \"-m, --memory\" flag: invalid suffix: 'x'",
        ),
        (
            "--memory hello",
            "invalid argument \"hello\" for \"-m, --memory\" flag: invalid size: 'hello'",
        ),
        (
            "--rm=maybe",
            "invalid argument \"maybe\" for \"--rm\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
        ),
        (
            "--stop-timeout x",
            "invalid argument \"x\" for \"--stop-timeout\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            "--weight 70000",
            "invalid argument \"70000\" for \"--weight\" flag: strconv.ParseUint: parsing \"70000\": value out of range",
        ),
        (
            "--weight -1",
            "invalid argument \"-1\" for \"--weight\" flag: strconv.ParseUint: parsing \"-1\": invalid syntax",
        ),
        (
            "--interval x",
            "invalid argument \"x\" for \"--interval\" flag: time: invalid duration \"x\"",
        ),
        (
            "--ratio x",
            "invalid argument \"x\" for \"--ratio\" flag: strconv.ParseFloat: parsing \"x\": invalid syntax",
        ),
        (
            "--even abc",
            "invalid argument \"abc\" for \"--even\" flag: odd length",
        ),
        (
            "--platform a,\"b",
            "invalid argument \"a,\\\"b\" for \"--platform\" flag: parse error on line 1, column 5: extraneous or missing \" in quoted-field",
        ),
    ];
    for (line, message) in table {
        assert_eq!(error_of(line), message, "{line}");
    }
}

#[test]
fn numbers_have_gos_prefixes_and_limits() {
    for (text, number) in [
        ("0", 0),
        ("-7", -7),
        ("+7", 7),
        ("017", 15),
        ("0o17", 15),
        ("0b101", 5),
        ("0xFF", 255),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
    ] {
        assert_eq!(parse_int(text), Ok(number), "{text}");
    }
    for text in ["", "-", "1.5", "0x", "08", " 1", "é"] {
        assert_eq!(
            parse_int(text),
            Err(format!(
                "strconv.ParseInt: parsing \"{text}\": invalid syntax"
            )),
            "{text}"
        );
    }
    let too_large = "9223372036854775808";
    assert_eq!(
        parse_int(too_large),
        Err(format!(
            "strconv.ParseInt: parsing \"{too_large}\": value out of range"
        ))
    );
}

#[test]
fn durations_are_gos() {
    for (text, ns) in [
        ("0", 0),
        ("5s", 5_000_000_000),
        ("1h2m3s", 3_723_000_000_000),
        ("-1.5h", -5_400_000_000_000),
        ("300ms", 300_000_000),
        ("1us", 1_000),
        ("1µs", 1_000),
        (".5s", 500_000_000),
        ("10ns", 10),
    ] {
        assert_eq!(parse_duration_ns(text), Ok(ns), "{text}");
    }
    for (text, message) in [
        ("", "time: invalid duration \"\""),
        ("3", "time: missing unit in duration \"3\""),
        ("3x", "time: unknown unit \"x\" in duration \"3x\""),
        (".s", "time: invalid duration \".s\""),
        ("9999999999h", "time: invalid duration \"9999999999h\""),
        ("1é2", "time: unknown unit \"é\" in duration \"1é2\""),
    ] {
        assert_eq!(parse_duration_ns(text), Err(message.to_owned()), "{text}");
    }
}

#[test]
fn csv_lines_split_at_commas_outside_quotes() {
    assert_eq!(split_csv("a,b").unwrap(), ["a", "b"]);
    assert_eq!(split_csv("").unwrap(), [""]);
    assert_eq!(split_csv("a,").unwrap(), ["a", ""]);
    assert_eq!(split_csv("\"a,b\",c").unwrap(), ["a,b", "c"]);
    assert_eq!(split_csv("\"say \"\"hi\"\"\"").unwrap(), ["say \"hi\""]);
    assert!(split_csv("a\"b").is_err());
    assert!(split_csv("\"a\"b").is_err());
}

proptest::proptest! {
    #[test]
    fn any_line_is_read_or_refused_without_a_panic(words in proptest::collection::vec(".{0,12}", 0..6)) {
        drop(parse(TABLES, &words, true));
        for word in &words {
            drop(parse_duration_ns(word));
            drop(split_csv(word));
            drop(crate::units::ram_in_bytes(word));
            drop(crate::time::query_timestamp(word, 0));
        }
    }
}
