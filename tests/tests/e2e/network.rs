//! The default network as a container and its user see it: addresses, files,
//! modes, links, and what `inspect` says. Each case has an engine in a network
//! namespace of its own.

use std::path::PathBuf;

use conex_tests::client::{Cli, Client, with_busybox_in_namespace};
use conex_tests::under_both_clients_in_namespaces;
use serde_json::{Value, json};

use crate::network_publish::{call, greet};
use crate::network_survival::engine_with_busybox;

under_both_clients_in_namespaces! {
    a_container_has_an_address_a_route_and_names,
    inspect_tells_everything_of_the_default_network,
    files_hold_what_was_asked_for,
    what_a_container_wrote_into_resolv_conf_stays,
    modes_share_the_network_or_have_none,
    options_that_contradict_a_mode_are_refused,
    a_link_is_known_by_name,
    network_events_frame_a_containers_life,
}

pub(crate) fn sleeper(cli: &Cli<'_>, name: &str, flags: &[&str]) -> String {
    let mut args = vec!["run", "-d", "--name", name];
    args.extend_from_slice(flags);
    args.extend_from_slice(&["busybox", "sleep", "1000"]);
    let said = cli.ok(&args);
    said.lines().last().unwrap_or_default().to_owned()
}

/// The file of a running container's network namespace.
pub(crate) fn namespace_of(cli: &Cli<'_>, name: &str) -> PathBuf {
    let pid = cli.inspect(name, "{{.State.Pid}}");
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

pub(crate) fn settings(cli: &Cli<'_>, name: &str) -> Value {
    let text = cli.inspect(name, "{{json .NetworkSettings}}");
    serde_json::from_str(&text).expect("inspect prints JSON")
}

fn a_container_has_an_address_a_route_and_names(cli: &Cli<'_>) {
    let script = "ip -4 -o addr show eth0; ip route; ping -c1 -W2 172.17.0.1 >/dev/null && \
                  echo reached; tail -n1 /etc/hosts; hostname; cat /etc/hostname";
    let said = cli.ok(&["run", "--rm", "-h", "web", "busybox", "sh", "-c", script]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].contains(" 172.17.0.2/16 "), "{said}");
    assert_eq!(lines[1].trim(), "default via 172.17.0.1 dev eth0", "{said}");
    assert_eq!(
        lines[3..],
        ["reached", "172.17.0.2\tweb", "web", "web"],
        "{said}"
    );
    // Two containers reach each other; the address rests before it is used again.
    sleeper(cli, "one", &[]);
    assert_eq!(
        cli.inspect("one", "{{.NetworkSettings.IPAddress}}"),
        "172.17.0.3"
    );
    let ping = ["run", "--rm", "busybox", "ping", "-c1", "-W2", "172.17.0.3"];
    assert!(cli.ok(&ping).contains(" 0% packet loss"));
    // The host reaches it too, and its own link leads to its namespace.
    let namespace = cli.engine.namespace();
    greet(&namespace_of(cli, "one"), 80);
    let said = namespace.inside(|| call("172.17.0.3:80"));
    assert_eq!(said.as_deref(), Ok("172.17.0.1"));
    let key = cli.inspect("one", "{{.NetworkSettings.SandboxKey}}");
    assert_eq!(
        std::fs::read_link(std::fs::read_link(&key).expect("a link")).expect("a namespace"),
        std::fs::read_link(namespace_of(cli, "one")).expect("a namespace")
    );
    cli.ok(&["rm", "-f", "one"]);
    assert!(std::fs::read_link(&key).is_err());
}

fn inspect_tells_everything_of_the_default_network(cli: &Cli<'_>) {
    let created = [
        "create", "--name", "web", "--expose", "53/udp", "busybox", "sleep", "1000",
    ];
    cli.ok(&created);
    let before = settings(cli, "web");
    assert_eq!(
        (&before["SandboxID"], &before["Ports"]),
        (&json!(""), &json!({}))
    );
    assert_eq!(before["Networks"]["bridge"]["IPAddress"], json!(""));
    cli.ok(&["start", "web"]);
    let shown = settings(cli, "web");
    let endpoint = &shown["Networks"]["bridge"];
    assert_eq!(endpoint["IPAddress"], json!("172.17.0.2"));
    assert_eq!(endpoint["Gateway"], json!("172.17.0.1"));
    assert_eq!(endpoint["IPPrefixLen"], json!(16));
    let id = cli.ok(&["network", "inspect", "-f", "{{.Id}}", "bridge"]);
    assert_eq!(endpoint["NetworkID"], json!(id));
    assert_eq!(endpoint["EndpointID"].as_str().map(str::len), Some(64));
    let mac = endpoint["MacAddress"].as_str().unwrap_or_default();
    let inside = cli.ok(&["exec", "web", "cat", "/sys/class/net/eth0/address"]);
    assert_eq!(inside, mac);
    assert_eq!(shown["Ports"], json!({"53/udp": null}));
    assert_eq!(shown["IPAddress"], json!("172.17.0.2"));
    let members = cli.ok(&["network", "inspect", "-f", "{{json .Containers}}", "bridge"]);
    let members: Value = serde_json::from_str(&members).expect("JSON");
    let member = &members[cli.inspect("web", "{{.Id}}")];
    assert_eq!(member["Name"], json!("web"));
    assert_eq!(member["IPv4Address"], json!("172.17.0.2/16"));
    assert_eq!(
        cli.ok(&["ps", "--format", "{{.Ports}} {{.Networks}}"]),
        "53/udp bridge"
    );
    cli.ok(&["stop", "-t0", "web"]);
    let after = settings(cli, "web");
    let endpoint = &after["Networks"]["bridge"];
    assert_eq!(
        (
            &endpoint["IPAddress"],
            &endpoint["NetworkID"],
            &after["Ports"]
        ),
        (&json!(""), &json!(id), &json!({}))
    );
    let empty = cli.ok(&["network", "inspect", "-f", "{{json .Containers}}", "bridge"]);
    assert_eq!(empty, "{}");
}

fn files_hold_what_was_asked_for(cli: &Cli<'_>) {
    let flags = [
        "run",
        "--rm",
        "-h",
        "web",
        "--domainname",
        "example.org",
        "--add-host",
        "db:10.9.8.7",
        "--add-host",
        "six:[fd00::7]",
        "--add-host",
        "host.docker.internal:host-gateway",
        "--dns",
        "10.1.2.3",
        "--dns-search",
        "example.net",
        "--dns-option",
        "ndots:3",
        "--mac-address",
        "92:d0:c6:0a:29:33",
        "busybox",
        "sh",
        "-c",
        "cat /etc/hosts /etc/resolv.conf /sys/class/net/eth0/address",
    ];
    let said = cli.ok(&flags);
    for line in [
        "127.0.0.1\tlocalhost",
        "10.9.8.7\tdb",
        "fd00::7\tsix",
        "172.17.0.1\thost.docker.internal",
        "172.17.0.2\tweb.example.org web",
        "nameserver 10.1.2.3",
        "search example.net",
        "options ndots:3",
        "92:d0:c6:0a:29:33",
    ] {
        assert!(said.lines().any(|l| l == line), "{line:?} in {said}");
    }
    assert_eq!(said.matches("nameserver ").count(), 1, "{said}");
}

fn what_a_container_wrote_into_resolv_conf_stays(cli: &Cli<'_>) {
    sleeper(cli, "web", &["--dns", "10.1.2.3"]);
    let write = "echo 'nameserver 10.4.4.4' >/etc/resolv.conf; echo 9.9.9.9 gone >>/etc/hosts";
    cli.ok(&["exec", "web", "sh", "-c", write]);
    cli.ok(&["restart", "-t0", "web"]);
    let resolv = cli.ok(&["exec", "web", "cat", "/etc/resolv.conf"]);
    assert_eq!(resolv, "nameserver 10.4.4.4");
    // Of hosts it does not: it is written anew with the new address.
    let hosts = cli.ok(&["exec", "web", "cat", "/etc/hosts"]);
    let address = cli.inspect("web", "{{.NetworkSettings.IPAddress}}");
    assert!(
        !hosts.contains("gone") && hosts.contains(&address),
        "{hosts}"
    );
}

fn modes_share_the_network_or_have_none(cli: &Cli<'_>) {
    let count = "ip -o link | wc -l";
    let none = [
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        count,
    ];
    assert_eq!(cli.ok(&none).trim(), "1");
    sleeper(cli, "web", &["-h", "shared"]);
    let joiner = [
        "run",
        "--rm",
        "--network",
        "container:web",
        "busybox",
        "sh",
        "-c",
        "ip -4 -o addr show eth0; hostname; tail -n1 /etc/hosts",
    ];
    let said = cli.ok(&joiner);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].contains(" 172.17.0.2/16 "), "{said}");
    assert_eq!(lines[1..], ["shared", "172.17.0.2\tshared"], "{said}");
    let host = [
        "run",
        "--rm",
        "--network",
        "host",
        "busybox",
        "ip",
        "-o",
        "link",
    ];
    let links = cli.engine.namespace().ip(&["-o", "link"]);
    assert_eq!(cli.ok(&host).lines().count(), links.lines().count());
    // On the host's network there is nothing to publish.
    let output = cli.run(&[
        "run",
        "--rm",
        "--network",
        "host",
        "-p",
        "8080:80",
        "busybox",
        "true",
    ]);
    assert_eq!(output.code, Some(0), "{output}");
    let warning = "Published ports are discarded when using host network mode";
    assert!(output.stderr.contains(warning), "{output}");
    cli.ok(&["stop", "-t0", "web"]);
    let told = cli.fails(125, &joiner);
    assert!(told.contains("cannot join network"), "{told}");
    let unknown = ["run", "--rm", "--network", "nosuch", "busybox", "true"];
    let told = cli.fails(125, &unknown);
    let text = "failed to set up container networking: network nosuch not found";
    assert!(told.contains(text), "{told}");
}

fn options_that_contradict_a_mode_are_refused(cli: &Cli<'_>) {
    sleeper(cli, "web", &[]);
    for (flags, text) in [
        (
            &["--network", "container:web", "-p", "80:80"][..],
            "conflicting options: port publishing and the container type network mode",
        ),
        (
            &["--network", "container:web", "--dns", "1.1.1.1"],
            "conflicting options: dns and the network mode",
        ),
        (
            &["--network", "container:web", "--add-host", "a:1.1.1.1"],
            "conflicting options: custom host-to-IP mapping and the network mode",
        ),
        (
            &["--ip", "172.17.0.9"],
            "user specified IP address is supported on user defined networks only",
        ),
        (&["--mac-address", "nope"], "is not a valid mac address"),
        (&["--link", "nosuch:db"], "No such container: nosuch"),
    ] {
        let mut args = vec!["run", "--rm"];
        args.extend_from_slice(flags);
        args.extend_from_slice(&["busybox", "true"]);
        let output = cli.run(&args);
        assert_eq!(output.code, Some(125), "{output}");
        assert!(output.stderr.contains(text), "{text}: {output}");
    }
}

fn a_link_is_known_by_name(cli: &Cli<'_>) {
    sleeper(cli, "db", &["--expose", "6379", "-e", "PASSWORD=x"]);
    let flags = ["run", "--rm", "--link", "db:data", "busybox", "sh", "-c"];
    let mut args = flags.to_vec();
    args.push("env; ping -c1 -W2 data >/dev/null && echo reached");
    let said = cli.ok(&args);
    for line in [
        "DATA_PORT=tcp://172.17.0.2:6379",
        "DATA_PORT_6379_TCP_ADDR=172.17.0.2",
        "DATA_ENV_PASSWORD=x",
        "reached",
    ] {
        assert!(said.lines().any(|l| l == line), "{line:?} in {said}");
    }
    cli.ok(&["stop", "-t0", "db"]);
    let told = cli.fails(125, &["run", "--rm", "--link", "db", "busybox", "true"]);
    assert!(
        told.contains("Cannot link to a non running container: /db AS /"),
        "{told}"
    );
}

fn network_events_frame_a_containers_life(cli: &Cli<'_>) {
    cli.ok(&["run", "--rm", "--name", "web", "busybox", "true"]);
    let now = cli.ok(&["info", "-f", "{{.SystemTime}}"]);
    let format = "{{.Type}} {{.Action}}";
    let events = cli.ok(&[
        "events", "--since", "0", "--until", &now, "--format", format,
    ]);
    let wanted = [
        "container create",
        "container attach",
        "network connect",
        "container start",
        "container die",
        "network disconnect",
        "container destroy",
    ];
    let seen: Vec<&str> = events.lines().filter(|l| !l.starts_with("image")).collect();
    assert_eq!(seen, wanted);
}

#[test]
fn the_default_bridge_is_what_the_flags_say() {
    let flags = [
        "--bip",
        "10.200.0.1/24",
        "--fixed-cidr",
        "10.200.0.128/25",
        "--mtu",
        "1400",
        "--dns",
        "10.7.7.7",
        "--host-gateway-ip",
        "10.6.6.6",
        "--icc=false",
    ];
    with_busybox_in_namespace(Client::Conex, &flags, |cli| {
        sleeper(cli, "one", &[]);
        let script = "ip -4 -o addr show eth0; cat /sys/class/net/eth0/mtu; \
                      grep nameserver /etc/resolv.conf; tail -n2 /etc/hosts | head -n1";
        let gateway = [
            "run",
            "--rm",
            "--add-host",
            "h:host-gateway",
            "busybox",
            "sh",
            "-c",
        ];
        let mut args = gateway.to_vec();
        args.push(script);
        let said = cli.ok(&args);
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines[0].contains(" 10.200.0.129/24 "), "{said}");
        assert_eq!(
            lines[1..],
            ["1400", "nameserver 10.7.7.7", "10.6.6.6\th"],
            "{said}"
        );
        let one = cli.inspect("one", "{{.NetworkSettings.IPAddress}}");
        let ping = cli.run(&["run", "--rm", "busybox", "ping", "-c1", "-W1", &one]);
        assert_eq!(
            ping.code,
            Some(1),
            "containers must not reach each other: {ping}"
        );
    });
    with_busybox_in_namespace(Client::Conex, &["--bridge", "none"], |cli| {
        assert!(!cli.ok(&["network", "ls"]).contains("bridge"));
        assert_eq!(
            cli.ok(&["run", "--rm", "--network", "none", "busybox", "echo", "x"]),
            "x"
        );
        let told = cli.fails(125, &["run", "--rm", "busybox", "true"]);
        assert!(told.contains("network bridge not found"), "{told}");
    });
}

#[test]
fn a_bridge_and_a_router_of_the_hosts_are_used_as_they_are() {
    let Some(mut engine) = engine_with_busybox() else {
        return;
    };
    engine.terminate();
    let host = engine.namespace();
    host.ip(&["link", "add", "lan0", "type", "bridge"]);
    host.ip(&["address", "add", "10.44.0.9/24", "dev", "lan0"]);
    host.ip(&["link", "set", "lan0", "up"]);
    let flags = ["--bridge", "lan0", "--default-gateway", "10.44.0.254"];
    engine.resume_with(&flags);
    let cli = engine.cli(Client::Conex);
    let script = "ip route; ping -c1 -W2 10.44.0.9 >/dev/null && echo reached";
    let said = cli.ok(&["run", "--rm", "busybox", "sh", "-c", script]);
    assert!(said.contains("default via 10.44.0.254 dev eth0"), "{said}");
    assert!(said.contains("10.44.0.0/24 dev eth0"), "{said}");
    assert!(said.ends_with("reached"), "{said}");
    // It is left as it was.
    engine.terminate();
    let left = engine.namespace().ip(&["-4", "-o", "addr", "show", "lan0"]);
    assert!(left.contains(" 10.44.0.9/24 "), "{left}");
}
