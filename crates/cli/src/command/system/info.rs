//! `conex system info`, also `conex info`: facts about the engine.

use std::io::Write;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::{CliError, EXIT_FAILURE};
use crate::flag::{Flag, Matches};
use crate::template::{Document, Template};
use crate::{VERSION, listing, units};

/// Shows facts about the engine.
pub static COMMAND: Command = Command {
    about: "Display system-wide information",
    usage: "[OPTIONS]",
    spellings: &["system info", "info"],
    flags: &[&[Flag::string("format", listing::INSPECT_FORMAT_HELP).short('f')]],
    args: Args::None,
    interspersed: true,
    run,
};

/// Exit code of a template that cannot be parsed.
const EXIT_TEMPLATE: u8 = 64;

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let format = matches.str("format");
    let template = match format {
        "" => None,
        listing::JSON => Some(Template::parse("{{json .}}")),
        text => Some(Template::parse(text)),
    };
    let template = template.transpose().map_err(|source| CliError::Template {
        prefix: "template parsing error: ",
        source,
        code: EXIT_TEMPLATE,
    })?;
    let answer = ctx
        .client()
        .and_then(|client| Ok(ctx.block_on(client.get_value("/info"))?));
    let context_name = ctx.context_name();
    let debug = ctx.globals.debug;
    match template {
        Some(template) => {
            let (mut value, failure) = match answer {
                Ok(value) => (value, None),
                Err(error) => (json!({}), Some(error)),
            };
            if let Value::Object(fields) = &mut value {
                if let Some(text) = failure.as_ref().and_then(CliError::text) {
                    fields.insert("ServerErrors".to_owned(), json!([text]));
                }
                let client = json!({
                    "Debug": debug, "Version": VERSION, "Context": context_name,
                    "Plugins": [], "Warnings": null,
                });
                fields.insert("ClientInfo".to_owned(), client);
            }
            let document = Document {
                value,
                type_name: "system.dockerInfo",
            };
            let text = template
                .execute_row(&document)
                .map_err(|source| CliError::Template {
                    prefix: "",
                    source,
                    code: EXIT_FAILURE,
                })?;
            writeln!(ctx.out, "{text}")?;
            failure.map_or(Ok(ExitCode::SUCCESS), Err)
        }
        None => {
            let head = format!(
                "Client:\n Version:    {VERSION}\n Context:    {context_name}\n Debug Mode: {debug}\n\nServer:\n"
            );
            ctx.out.write_all(head.as_bytes())?;
            let info = answer?;
            ctx.out.write_all(Facts(&info).show().as_bytes())?;
            ctx.out.flush()?;
            for warning in info["Warnings"].as_array().into_iter().flatten() {
                writeln!(ctx.err, "{}", warning.as_str().unwrap_or_default())?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// An engine's facts, and the lines made of them.
struct Facts<'a>(&'a Value);

impl Facts<'_> {
    /// A fact as text: strings as they are, numbers and booleans spelt, else empty.
    fn text(&self, key: &str) -> String {
        match &self.0[key] {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            _ => String::new(),
        }
    }

    fn show(&self) -> String {
        let mut lines = Lines(String::new());
        self.counts(&mut lines);
        self.drivers(&mut lines);
        self.runtimes(&mut lines);
        self.security(&mut lines);
        self.host(&mut lines);
        self.network(&mut lines);
        lines.0.push('\n');
        lines.0
    }

    fn counts(&self, lines: &mut Lines) {
        let number = |key: &str| self.0[key].as_i64().unwrap_or(0).to_string();
        lines.fact(1, "Containers", &number("Containers"));
        lines.fact(2, "Running", &number("ContainersRunning"));
        lines.fact(2, "Paused", &number("ContainersPaused"));
        lines.fact(2, "Stopped", &number("ContainersStopped"));
        lines.fact(1, "Images", &number("Images"));
        lines.fact_if(1, "Server Version", &self.text("ServerVersion"));
    }

    fn drivers(&self, lines: &mut Lines) {
        lines.fact_if(1, "Storage Driver", &self.text("Driver"));
        for pair in self.0["DriverStatus"].as_array().into_iter().flatten() {
            let part = |index: usize| pair[index].as_str().unwrap_or_default();
            lines.fact(2, part(0), part(1));
        }
        lines.fact_if(1, "Logging Driver", &self.text("LoggingDriver"));
        lines.fact_if(1, "Cgroup Driver", &self.text("CgroupDriver"));
        lines.fact_if(1, "Cgroup Version", &self.text("CgroupVersion"));
        lines.title(1, "Plugins");
        let plugins = &self.0["Plugins"];
        for kind in ["Volume", "Network", "Authorization", "Log"] {
            let names = words(&plugins[kind]);
            if !names.is_empty() || kind != "Authorization" {
                lines.fact(2, kind, &names.join(" "));
            }
        }
        self.list(
            lines,
            "CDI spec directories",
            &words(&self.0["CDISpecDirs"]),
        );
        if let Some(state) = self.0["Swarm"]["LocalNodeState"].as_str() {
            lines.fact(1, "Swarm", state);
        }
    }

    fn runtimes(&self, lines: &mut Lines) {
        if let Some(runtimes) = self.0["Runtimes"].as_object().filter(|map| !map.is_empty()) {
            let mut names: Vec<&str> = runtimes.keys().map(String::as_str).collect();
            names.sort_unstable();
            lines.fact(1, "Runtimes", &names.join(" "));
            lines.fact(1, "Default Runtime", &self.text("DefaultRuntime"));
        }
        if self.0["OSType"] != "linux" {
            return;
        }
        lines.fact_if(1, "Init Binary", &self.text("InitBinary"));
        for (title, key) in [
            ("containerd version", "ContainerdCommit"),
            ("runc version", "RuncCommit"),
            ("init version", "InitCommit"),
        ] {
            // An engine that has no such part says nothing of it.
            if let Some(id) = self.0[key]["ID"].as_str() {
                lines.fact(1, title, id);
            }
        }
    }

    fn security(&self, lines: &mut Lines) {
        let options = words(&self.0["SecurityOptions"]);
        if options.is_empty() {
            return;
        }
        lines.title(1, "Security Options");
        for option in options {
            let pairs = option.split(',').filter_map(|pair| pair.split_once('='));
            for (key, value) in pairs {
                match key {
                    "name" => lines.bare(2, value),
                    _ => {
                        let mut letters = key.chars();
                        let first = letters
                            .next()
                            .map_or('?', |letter| letter.to_ascii_uppercase());
                        lines.fact(3, &format!("{first}{}", letters.as_str()), value);
                    }
                }
            }
        }
    }

    fn host(&self, lines: &mut Lines) {
        for (title, key) in [
            ("Kernel Version", "KernelVersion"),
            ("Operating System", "OperatingSystem"),
            ("OSType", "OSType"),
            ("Architecture", "Architecture"),
        ] {
            lines.fact_if(1, title, &self.text(key));
        }
        lines.fact(1, "CPUs", &self.text("NCPU"));
        let memory = self.0["MemTotal"].as_f64().unwrap_or(0.0);
        lines.fact(1, "Total Memory", &units::binary_size(memory));
        lines.fact_if(1, "Name", &self.text("Name"));
        lines.fact_if(1, "ID", &self.text("ID"));
        lines.fact(1, "Docker Root Dir", &self.text("DockerRootDir"));
        let debug = self.0["Debug"].as_bool().unwrap_or(false);
        lines.fact(1, "Debug Mode", &debug.to_string());
        if debug {
            lines.fact(2, "File Descriptors", &self.text("NFd"));
            lines.fact(2, "Goroutines", &self.text("NGoroutines"));
            lines.fact(2, "System Time", &self.text("SystemTime"));
            lines.fact(2, "EventsListeners", &self.text("NEventsListener"));
        }
        lines.fact_if(1, "HTTP Proxy", &self.text("HttpProxy"));
        lines.fact_if(1, "HTTPS Proxy", &self.text("HttpsProxy"));
        lines.fact_if(1, "No Proxy", &self.text("NoProxy"));
        self.list(lines, "Labels", &words(&self.0["Labels"]));
        let experimental = self.0["ExperimentalBuild"].as_bool().unwrap_or(false);
        lines.fact(1, "Experimental", &experimental.to_string());
    }

    fn network(&self, lines: &mut Lines) {
        let registries = &self.0["RegistryConfig"];
        let mut insecure: Vec<String> = registries["IndexConfigs"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, index)| index["Secure"] == false)
            .map(|(name, _)| name.clone())
            .collect();
        insecure.sort_unstable();
        insecure.extend(words(&registries["InsecureRegistryCIDRs"]));
        self.list(lines, "Insecure Registries", &insecure);
        self.list(lines, "Registry Mirrors", &words(&registries["Mirrors"]));
        let live_restore = self.0["LiveRestoreEnabled"].as_bool().unwrap_or(false);
        lines.fact(1, "Live Restore Enabled", &live_restore.to_string());
        lines.fact_if(1, "Product License", &self.text("ProductLicense"));
        let pools = self.0["DefaultAddressPools"].as_array();
        if let Some(pools) = pools.filter(|pools| !pools.is_empty()) {
            lines.title(1, "Default Address Pools");
            for pool in pools {
                let base = pool["Base"].as_str().unwrap_or_default();
                lines.bare(3, &format!("Base: {base}, Size: {}", pool["Size"]));
            }
        }
        if let Some(driver) = self.0["FirewallBackend"]["Driver"].as_str() {
            lines.fact(1, "Firewall Backend", driver);
            for pair in self.0["FirewallBackend"]["Info"]
                .as_array()
                .into_iter()
                .flatten()
            {
                let part = |index: usize| pair[index].as_str().unwrap_or_default();
                lines.fact(2, part(0), part(1));
            }
        }
    }

    fn list(&self, lines: &mut Lines, title: &str, names: &[impl AsRef<str>]) {
        if names.is_empty() {
            return;
        }
        lines.title(1, title);
        for name in names {
            lines.bare(2, name.as_ref());
        }
    }
}

/// The strings of a list.
fn words(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|word| word.as_str().map(str::to_owned))
        .collect()
}

/// Indented lines.
struct Lines(String);

impl Lines {
    fn bare(&mut self, indent: usize, text: &str) {
        self.0.push_str(&format!("{:indent$}{text}\n", ""));
    }

    fn title(&mut self, indent: usize, title: &str) {
        self.bare(indent, &format!("{title}:"));
    }

    fn fact(&mut self, indent: usize, title: &str, value: &str) {
        self.bare(indent, &format!("{title}: {value}"));
    }

    fn fact_if(&mut self, indent: usize, title: &str, value: &str) {
        if !value.is_empty() {
            self.fact(indent, title, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_indented_under_their_titles() {
        let info = json!({
            "Containers": 2, "ContainersRunning": 1, "ContainersPaused": 0, "ContainersStopped": 1,
            "Images": 3, "ServerVersion": "1.0", "Driver": "overlay2",
            "DriverStatus": [["Backing Filesystem", "extfs"]],
            "CgroupDriver": "cgroupfs", "CgroupVersion": "2",
            "Plugins": {"Volume": ["local"], "Network": ["bridge", "host"], "Authorization": null, "Log": ["json-file"]},
            "Runtimes": {"runc": {}, "conex": {}}, "DefaultRuntime": "conex", "OSType": "linux",
            "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
            "NCPU": 2, "MemTotal": 25276510208i64, "DockerRootDir": "/var/lib/conex",
            "RegistryConfig": {"IndexConfigs": {"a:5000": {"Secure": false}, "docker.io": {"Secure": true}},
                "InsecureRegistryCIDRs": ["127.0.0.0/8"], "Mirrors": []},
            "LiveRestoreEnabled": true,
        });
        let expected = " Containers: 2
  Running: 1
  Paused: 0
  Stopped: 1
 Images: 3
 Server Version: 1.0
 Storage Driver: overlay2
  Backing Filesystem: extfs
 Cgroup Driver: cgroupfs
 Cgroup Version: 2
 Plugins:
  Volume: local
  Network: bridge host
  Log: json-file
 Runtimes: conex runc
 Default Runtime: conex
 Security Options:
  seccomp
   Profile: builtin
  cgroupns
 OSType: linux
 CPUs: 2
 Total Memory: 23.54GiB
 Docker Root Dir: /var/lib/conex
 Debug Mode: false
 Experimental: false
 Insecure Registries:
  a:5000
  127.0.0.0/8
 Live Restore Enabled: true

";
        assert_eq!(Facts(&info).show(), expected);
    }

    #[test]
    fn an_answer_of_the_wrong_shape_does_no_harm() {
        for info in [
            json!(null),
            json!([]),
            json!({"SecurityOptions": ["=x,é=y"], "Plugins": 3}),
        ] {
            assert!(Facts(&info).show().starts_with(" Containers: 0\n"));
        }
    }
}
