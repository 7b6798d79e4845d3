//! Credentials that a helper program keeps, `docker-credential-xyz`: a real one, that also fails, hangs and is missing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use conex_tests::client::Cli;
use conex_tests::process::{self, Output};
use conex_tests::proxy::{Fault, Proxy};
use conex_tests::registry::{Access, Registry, noise, tar_of};
use conex_tests::under_both_clients_with_registry;
use serde_json::{Value, json};

/// Keeps each server's entry in a file of `$HOME/kept` and tells `$HOME/asked` of every call.
const HELPER: &str = r#"#!/bin/sh
kept=$HOME/kept; mkdir -p "$kept"; verb=$1; cat > "$kept/in"
name() { printf '%s' "$1" | tr '/:' '__'; }
echo "$verb $(cat "$kept/in")" >> "$HOME/asked"
if [ -e "$HOME/gate" ]; then read -r word < "$HOME/gate"; fi
if [ -e "$HOME/broken" ]; then echo "the vault is locked"; exit 3; fi
case $verb in
get) file=$kept/$(name "$(cat "$kept/in")")
    if [ -f "$file" ]; then cat "$file"; else echo "credentials not found in native keychain"; exit 1; fi;;
store) server=$(sed 's/.*"ServerURL":"\([^"]*\)".*/\1/' "$kept/in"); mv "$kept/in" "$kept/$(name "$server")";;
erase) rm -f "$kept/$(name "$(cat "$kept/in")")";;
list) echo '{}';;
esac
"#;

/// A client that finds the helper.
struct User<'a> {
    cli: &'a Cli<'a>,
    home: PathBuf,
}

impl<'a> User<'a> {
    fn with(cli: &'a Cli<'a>, config: &Value) -> User<'a> {
        let home = cli.engine.root().join("home");
        let user = User { cli, home };
        for directory in [".docker", "bin"] {
            fs::create_dir_all(user.home.join(directory)).expect("a fresh directory");
        }
        user.configure(config);
        let helper = user.home.join("bin/docker-credential-xyz");
        fs::write(&helper, HELPER).expect("a fresh file");
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("it is ours");
        user
    }

    fn configure(&self, config: &Value) {
        let path = self.home.join(".docker/config.json");
        fs::write(path, config.to_string()).expect("it can be written");
    }

    fn config(&self) -> Value {
        let text = fs::read(self.home.join(".docker/config.json")).expect("it was written");
        serde_json::from_slice(&text).expect("it is JSON")
    }

    fn command(&self, words: &[&str]) -> std::process::Command {
        let mut command = self.cli.command(words);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env(
            "PATH",
            format!("{}:{path}", self.home.join("bin").display()),
        );
        command
    }

    fn run(&self, words: &[&str], input: &str) -> Output {
        let limit = Duration::from_secs(60);
        process::output_limited(self.command(words), input.as_bytes(), limit)
    }

    fn ok(&self, words: &[&str], input: &str) -> String {
        let output = self.run(words, input);
        assert_eq!(output.code, Some(0), "{words:?}: {output}");
        output.stdout
    }

    fn fails(&self, words: &[&str], input: &str) -> String {
        let output = self.run(words, input);
        assert_eq!(output.code, Some(1), "{words:?}: {output}");
        output.stderr
    }

    /// Calls of the helper so far.
    fn asked(&self) -> String {
        fs::read_to_string(self.home.join("asked")).unwrap_or_default()
    }
}

fn private(registry: &Registry) -> String {
    registry.push("private:1", &[tar_of(&[("file", &noise(10_000, 41))])]);
    format!("{}/private:1", registry.address)
}

under_both_clients_with_registry! { Access::Password;
    a_helper_keeps_what_a_login_gives_it_and_forgets_it_at_the_logout,
    a_registrys_own_helper_goes_before_that_of_all_others,
    a_helper_that_is_missing_or_fails_is_named_and_public_images_need_none,
    a_helper_that_takes_its_time_is_waited_for,
}

fn a_helper_keeps_what_a_login_gives_it_and_forgets_it_at_the_logout(
    cli: &Cli<'_>,
    registry: &Registry,
) {
    let name = private(registry);
    let host = &registry.address;
    let user = User::with(cli, &json!({"credsStore": "xyz"}));
    let error = user.fails(&["pull", &name], "");
    assert!(error.contains("no basic auth credentials"), "{error}");
    let said = user.ok(
        &["login", "-u", "ann", "--password-stdin", host],
        "secret\n",
    );
    assert_eq!(said, "Login Succeeded\n");
    assert_eq!(
        user.config()["auths"],
        json!({host.as_str(): {}}),
        "no secret in the file"
    );
    let stored =
        format!("store {{\"ServerURL\":\"{host}\",\"Username\":\"ann\",\"Secret\":\"secret\"}}");
    assert!(user.asked().contains(&stored), "{}", user.asked());
    user.ok(&["pull", &name], "");
    let said = user.ok(&["login", host], "");
    assert!(
        said.contains("Login Succeeded"),
        "with what is kept: {said}"
    );
    user.ok(&["logout", host], "");
    assert!(user.asked().contains(&format!("erase {host}\n")));
    assert_eq!(user.config()["auths"], json!({}));
    user.ok(&["rmi", &name], "");
    let error = user.fails(&["pull", &name], "");
    assert!(error.contains("no basic auth credentials"), "{error}");
}

fn a_registrys_own_helper_goes_before_that_of_all_others(cli: &Cli<'_>, registry: &Registry) {
    let name = private(registry);
    let host = &registry.address;
    let config = json!({"credsStore": "nosuch", "credHelpers": {host.as_str(): "xyz"}});
    let user = User::with(cli, &config);
    user.ok(&["login", "-u", "ann", "--password-stdin", host], "secret");
    user.ok(&["pull", &name], "");
    user.ok(&["tag", &name, &format!("{host}/mine:1")], "");
    user.ok(&["push", &format!("{host}/mine:1")], "");
    let gets = user.asked().matches(&format!("get {host}\n")).count();
    assert!(gets >= 2, "{}", user.asked());
}

fn a_helper_that_is_missing_or_fails_is_named_and_public_images_need_none(
    cli: &Cli<'_>,
    registry: &Registry,
) {
    let host = &registry.address;
    let Some(open) = Registry::start(Access::Open) else {
        return;
    };
    open.push("public:1", &[tar_of(&[("file", b"x")])]);
    let public = format!("{}/public:1", open.address);
    let user = User::with(cli, &json!({"credsStore": "nosuch"}));
    let login = ["login", "-u", "ann", "--password-stdin", host];
    let error = user.fails(&login, "secret");
    assert!(
        error.ends_with(
            "Error saving credentials: error storing credentials - err: exec: \
             \"docker-credential-nosuch\": executable file not found in $PATH, out: ``\n"
        ),
        "{error}"
    );
    user.ok(&["pull", &public], "");
    user.configure(&json!({"credsStore": "xyz"}));
    fs::write(user.home.join("broken"), "").expect("a fresh file");
    let error = user.fails(&login, "secret");
    assert!(
        error.ends_with(
            "Error saving credentials: error storing credentials - err: exit status 3, out: `the \
             vault is locked`\n"
        ),
        "{error}"
    );
    user.ok(&["pull", &public], "");
    let error = user.fails(&["login", host], "");
    assert!(
        error.contains("Cannot perform an interactive login from a non TTY device"),
        "{error}"
    );
}

fn a_helper_that_takes_its_time_is_waited_for(cli: &Cli<'_>, registry: &Registry) {
    let name = private(registry);
    let host = &registry.address;
    let user = User::with(cli, &json!({"credsStore": "xyz"}));
    user.ok(&["login", "-u", "ann", "--password-stdin", host], "secret");
    let gate = user.home.join("gate");
    rustix::fs::mkfifoat(rustix::fs::CWD, &gate, rustix::fs::Mode::RWXU).expect("a fresh pipe");
    let mut command = user.command(&["pull", &name]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut pulling = command.spawn().expect("a client can be started");
    // Opened once the helper waits at it.
    let opened = fs::OpenOptions::new().write(true).open(&gate);
    fs::remove_file(&gate).expect("it is there");
    assert!(pulling.try_wait().expect("a child can be asked").is_none());
    let mut opened = opened.expect("the helper reads");
    std::io::Write::write_all(&mut opened, b"go\n").expect("the helper reads");
    drop(opened);
    let output = pulling
        .wait_with_output()
        .expect("a child can be waited for");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

under_both_clients_with_registry! { Access::Open;
    an_identity_token_is_kept_in_place_of_the_password_and_exchanged_for_others,
}

fn an_identity_token_is_kept_in_place_of_the_password_and_exchanged_for_others(
    cli: &Cli<'_>,
    registry: &Registry,
) {
    registry.push("guarded:1", &[tar_of(&[("file", &noise(10_000, 42))])]);
    let proxy = Proxy::start(&registry.address);
    let realm = format!("http://{}/token", proxy.address);
    let challenge = format!(
        "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer realm=\"{realm}\",service=\"s\""
    );
    proxy.judge(move |asked| {
        let ok = |body: &str| Fault::Answer("HTTP/1.1 200 OK".into(), body.as_bytes().to_vec());
        let no = || Fault::Answer("HTTP/1.1 401 Unauthorized".into(), Vec::new());
        if asked.line.starts_with("GET /token?") {
            // ann:secret, who wants a token for later too.
            let known = asked.authorization == "Basic YW5uOnNlY3JldA=="
                && asked.line.contains("offline_token=true");
            return match known {
                true => ok(r#"{"token":"good","refresh_token":"for-later"}"#),
                false => no(),
            };
        }
        if asked.line.starts_with("POST /token") {
            let known = asked.body.contains("grant_type=refresh_token")
                && asked.body.contains("refresh_token=for-later");
            return match known {
                true => ok(r#"{"access_token":"good"}"#),
                false => no(),
            };
        }
        match asked.authorization.as_str() {
            "Bearer good" => Fault::None,
            _ => Fault::Answer(challenge.clone(), Vec::new()),
        }
    });
    let host = &proxy.address;
    let user = User::with(cli, &json!({"credsStore": "xyz"}));
    user.ok(&["login", "-u", "ann", "--password-stdin", host], "secret");
    let stored = format!(
        "store {{\"ServerURL\":\"{host}\",\"Username\":\"<token>\",\"Secret\":\"for-later\"}}"
    );
    // Go escapes these two in JSON.
    let asked = user.asked().replace("\\u003c", "<").replace("\\u003e", ">");
    assert!(asked.contains(&stored), "{asked}");
    assert!(
        !asked.contains("secret\"") || !asked.contains("\"Secret\":\"secret\""),
        "{asked}"
    );
    let before = proxy.seen().len();
    user.ok(&["pull", &format!("{host}/guarded:1")], "");
    let exchanged = proxy.seen().split_off(before);
    let exchanged: Vec<_> = exchanged
        .iter()
        .filter(|asked| asked.line.contains("/token"))
        .collect();
    assert_eq!(exchanged.len(), 1, "{exchanged:?}");
    assert!(exchanged[0].line.starts_with("POST"), "{exchanged:?}");
    assert!(
        exchanged[0]
            .body
            .contains("scope=repository%3Aguarded%3Apull"),
        "{exchanged:?}"
    );
}
