//! `conex port`: where the ports of a container are published.

use std::io::Write;
use std::process::ExitCode;

use conex_api::container::{Inspect, PortBinding, PortMap};
use conex_client::{Client, segment};

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::Matches;

/// Lists published ports.
pub static COMMAND: Command = Command {
    about: "List port mappings or a specific mapping for the container",
    usage: "CONTAINER [PRIVATE_PORT[/PROTO]]",
    spellings: &["container port", "port"],
    flags: &[],
    args: Args::Range(1, 2),
    interspersed: true,
    run,
};

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let name = &matches.args()[0];
    let client = Client::clone(&*ctx.client()?);
    let path = format!("/containers/{}/json", segment(name));
    let container: Inspect = ctx.block_on(client.get_json(&path))?;
    let ports = &container.network_settings.ports;
    let lines = match matches.args().get(1) {
        None => all(ports),
        Some(wanted) => of_port(ports, wanted, name)?,
    };
    for line in lines {
        writeln!(ctx.out, "{line}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `80/tcp -> 0.0.0.0:8080`, by port.
fn all(ports: &PortMap) -> Vec<String> {
    let mut lines: Vec<(u16, &str, String)> = Vec::new();
    for (port, bindings) in ports {
        let number = port
            .split('/')
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
        for binding in bindings.iter().flatten() {
            lines.push((number, port, format!("{port} -> {}", address(binding))));
        }
    }
    lines.sort();
    lines.into_iter().map(|(_, _, line)| line).collect()
}

fn of_port(ports: &PortMap, wanted: &str, container: &str) -> Result<Vec<String>, CliError> {
    let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    if number.parse::<u16>().is_err() {
        return Err(CliError::message(format!(
            "Error: invalid port ({wanted}): strconv.ParseUint: parsing {number:?}: invalid syntax"
        )));
    }
    let bindings = ports
        .get(&format!("{number}/{protocol}"))
        .and_then(Option::as_ref);
    match bindings.filter(|bindings| !bindings.is_empty()) {
        Some(bindings) => {
            let mut lines: Vec<String> = bindings.iter().map(address).collect();
            lines.sort();
            Ok(lines)
        }
        None => Err(CliError::message(format!(
            "Error: No public port '{wanted}' published for {container}"
        ))),
    }
}

fn address(binding: &PortBinding) -> String {
    let PortBinding { host_ip, host_port } = binding;
    if host_ip.contains(':') {
        format!("[{host_ip}]:{host_port}")
    } else {
        format!("{host_ip}:{host_port}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn ports() -> PortMap {
        let binding = |ip: &str, port: &str| PortBinding {
            host_ip: ip.into(),
            host_port: port.into(),
        };
        [
            ("443/tcp".to_owned(), Some(vec![binding("0.0.0.0", "8443")])),
            (
                "80/tcp".to_owned(),
                Some(vec![binding("::", "8080"), binding("0.0.0.0", "8080")]),
            ),
            ("53/udp".to_owned(), None),
        ]
        .into()
    }

    #[test]
    fn ports_are_listed_by_number() {
        assert_eq!(
            all(&ports()),
            [
                "80/tcp -> 0.0.0.0:8080",
                "80/tcp -> [::]:8080",
                "443/tcp -> 0.0.0.0:8443"
            ]
        );
    }

    #[test]
    fn one_port_is_tcp_unless_said_otherwise() {
        let found = of_port(&ports(), "443", "web").unwrap();
        assert_eq!(found, ["0.0.0.0:8443"]);
        let error = of_port(&ports(), "53/udp", "web").unwrap_err();
        assert_eq!(
            error.text().unwrap(),
            "Error: No public port '53/udp' published for web"
        );
        assert!(of_port(&ports(), "x", "web").is_err());
    }
}
