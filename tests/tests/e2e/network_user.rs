//! Networks that users make: the API and the commands around them, and what
//! their containers can and cannot reach.

use conex_tests::client::Cli;
use conex_tests::netns::inside;
use conex_tests::under_both_clients_in_namespaces;
use serde_json::{Value, json};

use crate::network::{namespace_of, settings, sleeper};
use crate::network_publish::{call, greet, outside};

under_both_clients_in_namespaces! {
    a_network_is_made_shown_and_removed,
    mistakes_are_named_as_docker_names_them,
    a_container_is_connected_and_disconnected_while_it_runs,
    networks_are_apart_from_each_other,
    an_internal_network_has_no_way_out,
    addresses_are_the_users_where_the_subnet_is,
    the_way_out_follows_the_priority,
    only_unused_networks_are_pruned,
}

fn a_network_is_made_shown_and_removed(cli: &Cli<'_>) {
    let create = [
        "network",
        "create",
        "--subnet",
        "10.77.0.0/24",
        "--gateway",
        "10.77.0.254",
        "--ip-range",
        "10.77.0.128/25",
        "--label",
        "l=1",
        "-o",
        "com.docker.network.driver.mtu=1400",
        "gnet",
    ];
    let id = cli.ok(&create);
    assert_eq!(id.len(), 64, "{id}");
    let list = cli.ok(&[
        "network",
        "ls",
        "--format",
        "{{.Name}} {{.Driver}} {{.Scope}}",
    ]);
    let names: Vec<&str> = list.lines().collect();
    assert_eq!(
        names,
        [
            "bridge bridge local",
            "gnet bridge local",
            "host host local",
            "none null local"
        ]
    );
    for (filter, expected) in [
        ("name=gne", 1),
        ("driver=bridge", 2),
        ("type=custom", 1),
        ("type=builtin", 3),
        ("label=l=1", 1),
        ("label=l=2", 0),
        ("dangling=true", 1),
        ("scope=local", 4),
    ] {
        let found = cli.ok(&["network", "ls", "-q", "--filter", filter]);
        assert_eq!(found.lines().count(), expected, "{filter}: {found}");
    }
    let shown = cli.ok(&["network", "inspect", "gnet"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let network = &shown[0];
    let pool = &network["IPAM"]["Config"][0];
    assert_eq!(pool["Subnet"], json!("10.77.0.0/24"));
    assert_eq!(pool["Gateway"], json!("10.77.0.254"));
    assert_eq!(pool["IPRange"], json!("10.77.0.128/25"));
    assert_eq!(network["Labels"], json!({"l": "1"}));
    assert_eq!(network["Internal"], json!(false));
    // Its bridge is there, with the gateway's address.
    let bridge = format!("br-{}", &id[..12]);
    let host = cli.engine.namespace();
    let addresses = host.ip(&["-4", "-o", "addr", "show", "dev", &bridge]);
    assert!(addresses.contains(" 10.77.0.254/24 "), "{addresses}");
    sleeper(cli, "web", &["--network", "gnet"]);
    let endpoint = settings(cli, "web")["Networks"]["gnet"].clone();
    assert_eq!(endpoint["IPAddress"], json!("10.77.0.128"));
    assert_eq!(endpoint["Gateway"], json!("10.77.0.254"));
    assert_eq!(endpoint["NetworkID"], json!(id));
    let mtu = cli.ok(&["exec", "web", "cat", "/sys/class/net/eth0/mtu"]);
    assert_eq!(mtu, "1400");
    let told = cli.fails(1, &["network", "rm", "gnet"]);
    assert!(
        told.contains("has active endpoints (name:\"web\""),
        "{told}"
    );
    cli.ok(&["rm", "-f", "web"]);
    assert_eq!(cli.ok(&["network", "rm", &id[..8]]), &id[..8]);
    assert!(!host.ip(&["-o", "link"]).contains(&bridge));
    let told = cli.fails(1, &["network", "inspect", "gnet"]);
    assert!(told.contains("network gnet not found"), "{told}");
}

fn mistakes_are_named_as_docker_names_them(cli: &Cli<'_>) {
    cli.ok(&["network", "create", "--subnet", "10.77.0.0/24", "gnet"]);
    for (args, text) in [
        (
            &["network", "create", "gnet"][..],
            "network with name gnet already exists",
        ),
        (
            &["network", "create", "--subnet", "10.77.0.0/25", "other"],
            "invalid pool request: Pool overlaps with other one on this address space",
        ),
        (
            &["network", "create", "host"],
            "operation is not permitted on predefined host network",
        ),
        (
            &["network", "create", "-d", "nosuch", "other"],
            "plugin not found",
        ),
        (
            &["network", "rm", "bridge"],
            "bridge is a pre-defined network and cannot be removed",
        ),
        (&["network", "rm", "nosuch"], "network nosuch not found"),
        (
            &["network", "connect", "nosuch", "web"],
            "network nosuch not found",
        ),
        (
            &["network", "connect", "gnet", "nosuch"],
            "No such container: nosuch",
        ),
    ] {
        let told = cli.fails(1, args);
        assert!(told.contains(text), "{text}: {told}");
    }
    let answer = cli.engine.api("DELETE", "/networks/bridge", None);
    assert_eq!(answer.status, 403);
    let overlap = json!({"Name": "o", "IPAM": {"Config": [{"Subnet": "10.77.0.0/25"}]}});
    assert_eq!(
        cli.engine
            .api("POST", "/networks/create", Some(&overlap))
            .status,
        403
    );
    let again = json!({"Name": "gnet"});
    assert_eq!(
        cli.engine
            .api("POST", "/networks/create", Some(&again))
            .status,
        409
    );
    assert_eq!(cli.engine.api("GET", "/networks/nosuch", None).status, 404);
}

fn a_container_is_connected_and_disconnected_while_it_runs(cli: &Cli<'_>) {
    cli.ok(&["network", "create", "--subnet", "10.77.0.0/24", "gnet"]);
    sleeper(cli, "web", &["-p", "8080:80"]);
    sleeper(cli, "peer", &["--network", "gnet"]);
    greet(&namespace_of(cli, "web"), 80);
    let host = cli.engine.namespace();
    assert!(host.inside(|| call("10.99.0.1:8080")).is_err());
    cli.ok(&["network", "connect", "--ip", "10.77.0.9", "gnet", "web"]);
    let told = cli.fails(1, &["network", "connect", "gnet", "web"]);
    let text = "endpoint with name web already exists in network gnet";
    assert!(told.contains(text), "{told}");
    assert!(inside(&namespace_of(cli, "peer"), || call("10.77.0.9:80")).is_ok());
    let endpoint = settings(cli, "web")["Networks"]["gnet"].clone();
    assert_eq!(endpoint["IPAddress"], json!("10.77.0.9"));
    let hosts = cli.ok(&["exec", "web", "cat", "/etc/hosts"]);
    assert!(hosts.contains("10.77.0.9\t"), "{hosts}");
    // The published port follows the way out to the network that is left.
    cli.ok(&["network", "disconnect", "bridge", "web"]);
    let route = cli.ok(&["exec", "web", "ip", "route"]);
    assert!(route.starts_with("default via 10.77.0.1 "), "{route}");
    assert!(host.inside(|| call("127.0.0.1:8080")).is_ok());
    let told = cli.fails(1, &["network", "disconnect", "bridge", "web"]);
    assert!(
        told.contains("is not connected to network bridge"),
        "{told}"
    );
    // It stays so over a restart, and both ways once more.
    cli.ok(&["restart", "-t0", "web"]);
    let names = cli.inspect(
        "web",
        "{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{end}}",
    );
    assert_eq!(names.trim(), "gnet");
    cli.ok(&["network", "connect", "bridge", "web"]);
    cli.ok(&["network", "disconnect", "gnet", "web"]);
    cli.ok(&["network", "connect", "gnet", "web"]);
    let links = cli.ok(&["exec", "web", "ip", "-o", "link"]);
    assert_eq!(links.lines().count(), 3, "{links}");
    // Without any network it has loopback alone.
    cli.ok(&["network", "disconnect", "gnet", "web"]);
    cli.ok(&["network", "disconnect", "bridge", "web"]);
    let links = cli.ok(&["exec", "web", "ip", "-o", "link"]);
    assert_eq!(links.lines().count(), 1, "{links}");
    cli.ok(&["rm", "-f", "web", "peer"]);
    let links = host.ip(&["-o", "link", "show", "type", "veth"]);
    assert_eq!(links, "");
}

fn networks_are_apart_from_each_other(cli: &Cli<'_>) {
    for name in ["one", "two"] {
        cli.ok(&["network", "create", name]);
        sleeper(cli, &format!("in-{name}"), &["--network", name]);
        greet(&namespace_of(cli, &format!("in-{name}")), 80);
    }
    sleeper(cli, "neighbour", &["--network", "one"]);
    let address = |name: &str, network: &str| {
        let shown = settings(cli, name);
        let text = shown["Networks"][network]["IPAddress"].as_str();
        format!("{}:80", text.unwrap_or_default())
    };
    let (one, two) = (address("in-one", "one"), address("in-two", "two"));
    assert_ne!(one, two);
    let neighbour = namespace_of(cli, "neighbour");
    assert!(inside(&neighbour, || call(&one)).is_ok());
    let across = inside(&neighbour, || call(&two));
    assert!(across.is_err(), "{across:?}");
    let back = inside(&namespace_of(cli, "in-two"), || call(&one));
    assert!(back.is_err(), "{back:?}");
}

fn an_internal_network_has_no_way_out(cli: &Cli<'_>) {
    let Some(outside) = outside(cli) else { return };
    cli.ok(&["network", "create", "--internal", "cell"]);
    sleeper(cli, "one", &["--network", "cell"]);
    sleeper(cli, "two", &["--network", "cell"]);
    greet(&namespace_of(cli, "one"), 80);
    greet(&outside.path(), 80);
    let one = settings(cli, "one")["Networks"]["cell"].clone();
    assert_eq!(one["Gateway"], json!(""));
    let address = format!("{}:80", one["IPAddress"].as_str().unwrap_or_default());
    let two = namespace_of(cli, "two");
    assert!(inside(&two, || call(&address)).is_ok());
    assert!(inside(&two, || call("10.99.0.2:80")).is_err());
    // On the default network it is reached, behind the host's address.
    sleeper(cli, "free", &[]);
    let said = inside(&namespace_of(cli, "free"), || call("10.99.0.2:80"));
    assert_eq!(said.as_deref(), Ok("10.99.0.1"));
}

fn addresses_are_the_users_where_the_subnet_is(cli: &Cli<'_>) {
    cli.ok(&["network", "create", "--subnet", "10.77.0.0/24", "own"]);
    cli.ok(&["network", "create", "made"]);
    sleeper(cli, "web", &["--network", "own", "--ip", "10.77.0.9"]);
    let address = settings(cli, "web")["Networks"]["own"]["IPAddress"].clone();
    assert_eq!(address, json!("10.77.0.9"));
    for (network, ip, text) in [
        ("own", "10.77.0.9", "Address already in use"),
        (
            "own",
            "10.78.0.9",
            "no configured subnet contains IP address 10.78.0.9",
        ),
        (
            "made",
            "172.18.0.9",
            "supported only when connecting to networks with user configured subnets",
        ),
    ] {
        let args = [
            "run",
            "--rm",
            "--network",
            network,
            "--ip",
            ip,
            "busybox",
            "true",
        ];
        let told = cli.fails(125, &args);
        assert!(told.contains(text), "{text}: {told}");
    }
    // It is his again after a restart.
    cli.ok(&["restart", "-t0", "web"]);
    let address = settings(cli, "web")["Networks"]["own"]["IPAddress"].clone();
    assert_eq!(address, json!("10.77.0.9"));
}

fn the_way_out_follows_the_priority(cli: &Cli<'_>) {
    cli.ok(&["network", "create", "--subnet", "10.71.0.0/24", "a"]);
    cli.ok(&["network", "create", "--subnet", "10.72.0.0/24", "b"]);
    let networks = ["--network", "name=a", "--network", "name=b,gw-priority=5"];
    sleeper(cli, "web", &[&networks[..], &["-p", "8080:80"]].concat());
    let route = cli.ok(&["exec", "web", "ip", "route"]);
    assert!(route.starts_with("default via 10.72.0.1 "), "{route}");
    // The ports go the same way, whichever of its addresses the host calls by.
    greet(&namespace_of(cli, "web"), 80);
    for address in ["10.71.0.1:8080", "10.72.0.1:8080"] {
        let said = cli.engine.namespace().inside(|| call(address));
        assert_eq!(said.as_deref(), Ok("10.72.0.1"), "{address}");
    }
    cli.ok(&["network", "disconnect", "b", "web"]);
    let route = cli.ok(&["exec", "web", "ip", "route"]);
    assert!(route.starts_with("default via 10.71.0.1 "), "{route}");
    cli.ok(&["network", "connect", "--gw-priority", "9", "b", "web"]);
    let route = cli.ok(&["exec", "web", "ip", "route"]);
    assert!(route.starts_with("default via 10.72.0.1 "), "{route}");
    assert_eq!(
        settings(cli, "web")["Networks"]["b"]["GwPriority"],
        json!(9)
    );
}

fn only_unused_networks_are_pruned(cli: &Cli<'_>) {
    for name in ["used", "unused", "kept"] {
        let label = format!("name={name}");
        cli.ok(&["network", "create", "--label", &label, name]);
    }
    cli.ok(&[
        "create",
        "--name",
        "web",
        "--network",
        "used",
        "busybox",
        "true",
    ]);
    let pruned = cli.ok(&["network", "prune", "-f", "--filter", "label!=name=kept"]);
    assert_eq!(pruned.trim(), "Deleted Networks:\nunused");
    let left = cli.ok(&["network", "ls", "-q", "--filter", "type=custom"]);
    assert_eq!(left.lines().count(), 2);
}
