//! `ps`: the processes of a container, by the ps of the host.

use std::process::{Command, ExitCode};

use super::record::Container;
use super::{Error, Given, Globals, Verb, flag, print, print_json, value};

pub(super) const VERB: Verb = Verb {
    name: "ps",
    about: "list the processes of a container",
    usage: "[-f table|json] ID [PS-OPTION…]",
    flags: &[value("format").short('f')],
    run,
};

fn run(globals: &Globals, given: &Given) -> Result<ExitCode, Error> {
    let Some((id, options)) = given.words.split_first() else {
        return Err(Error::usage("the container's id is needed"));
    };
    let container = Container::open(globals, flag::text(id)?)?;
    let pids = match container.cgroup()? {
        Some(cgroup) => cgroup.pids()?,
        None => Vec::new(),
    };
    match given.text("format")? {
        None | Some("table") => {}
        Some("json") => return print_json(&pids),
        Some(other) => return Err(Error::usage(format!("invalid format option {other:?}"))),
    }
    let mut ps = Command::new("ps");
    if options.is_empty() {
        ps.arg("-ef")
    } else {
        ps.args(options)
    };
    let output = ps.output().map_err(|e| Error::io("execute", "ps", e))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::State(format!("ps: {}", said.trim_end())));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = select(&text, &pids)
        .ok_or_else(|| Error::usage("these options of ps give no PID column"))?;
    Ok(print(&lines))
}

/// The header and the lines of the processes; `None` without a PID column.
fn select(text: &str, pids: &[i32]) -> Option<String> {
    let mut lines = text.lines();
    let header = lines.next()?;
    let column = header.split_whitespace().position(|name| name == "PID")?;
    let mut out = format!("{header}\n");
    for line in lines {
        let pid = line
            .split_whitespace()
            .nth(column)
            .and_then(|field| field.parse().ok());
        if pid.is_some_and(|pid: i32| pids.contains(&pid)) {
            out.push_str(line);
            out.push('\n');
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_lines_are_kept() {
        let text = "UID  PID  CMD\nroot   7  a 9\nroot   9  b\n";
        assert_eq!(
            select(text, &[7]).as_deref(),
            Some("UID  PID  CMD\nroot   7  a 9\n")
        );
        assert_eq!(select("UID CMD\n", &[7]), None);
    }
}
