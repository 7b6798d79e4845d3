//! The rules, which never change while an engine runs.
//!
//! Each is written as nft would print it in the comment above it.

use super::{Options, Owner, Transaction};
use crate::keeper::{Forwarding, Publish, Rules};
use crate::nft::{
    Base, Chain, ETHER, Expressions, Family, Hook, IFNAME, IPV4, IPV6, Key, PROTO, SERVICE, Set,
    Verdict,
};

/// Bridges of all networks.
pub(super) const BRIDGES: &str = "bridges";
/// Pairs of one and the same bridge whose containers reach each other.
pub(super) const ICC: &str = "icc";
/// Pairs of one and the same bridge.
pub(super) const HAIRPIN: &str = "hairpin";
/// Bridges of internal networks.
pub(super) const INTERNAL: &str = "internal";
/// Bridges whose traffic takes the host's address.
pub(super) const MASQUERADE4: &str = "masquerade4";
pub(super) const MASQUERADE6: &str = "masquerade6";
/// The host's own addresses in the networks.
pub(super) const GATEWAYS4: &str = "gateways4";
pub(super) const GATEWAYS6: &str = "gateways6";
/// Ports published on one address.
pub(super) const PORTS4: &str = "ports4";
pub(super) const PORTS6: &str = "ports6";
/// Ports published on all addresses.
pub(super) const PORTS4_ANY: &str = "ports4-any";
pub(super) const PORTS6_ANY: &str = "ports6-any";
/// Bridge, protocol and port: published by a container of that bridge.
pub(super) const OWN_PORTS: &str = "own-ports";
/// Published ports by the container's own address, where that is allowed.
pub(super) const DIRECT4: &str = "direct4";
pub(super) const DIRECT6: &str = "direct6";
/// Interface, hardware address and address that belong together.
pub(super) const SOURCES4: &str = "sources4";
pub(super) const SOURCES6: &str = "sources6";
const NFPROTO_IPV4: u32 = 2;
const NFPROTO_IPV6: u32 = 10;

const IFNAMES: Set = set(BRIDGES, &[IFNAME]);

const fn set(name: &'static str, key: &'static [crate::nft::DataType]) -> Set {
    Set {
        name,
        key,
        data: &[],
    }
}

const INET_SETS: [Set; 13] = [
    IFNAMES,
    set(ICC, &[IFNAME, IFNAME]),
    set(HAIRPIN, &[IFNAME, IFNAME]),
    set(INTERNAL, &[IFNAME]),
    set(MASQUERADE4, &[IFNAME]),
    set(MASQUERADE6, &[IFNAME]),
    set(GATEWAYS4, &[IPV4]),
    set(GATEWAYS6, &[IPV6]),
    set(OWN_PORTS, &[IFNAME, PROTO, SERVICE]),
    Set {
        name: PORTS4,
        key: &[IPV4, PROTO, SERVICE],
        data: &[IPV4, SERVICE],
    },
    Set {
        name: PORTS4_ANY,
        key: &[PROTO, SERVICE],
        data: &[IPV4, SERVICE],
    },
    Set {
        name: PORTS6,
        key: &[IPV6, PROTO, SERVICE],
        data: &[IPV6, SERVICE],
    },
    Set {
        name: PORTS6_ANY,
        key: &[PROTO, SERVICE],
        data: &[IPV6, SERVICE],
    },
];

const DIRECT_SETS: [Set; 2] = [
    set(DIRECT4, &[IPV4, PROTO, SERVICE]),
    set(DIRECT6, &[IPV6, PROTO, SERVICE]),
];

const BRIDGE_SETS: [Set; 2] = [
    set(SOURCES4, &[IFNAME, ETHER, IPV4]),
    set(SOURCES6, &[IFNAME, ETHER, IPV6]),
];

const GUARD: Chain = chain("guard", "filter", Hook::Prerouting, -300);
const PUBLISH: Chain = chain("publish", "nat", Hook::Prerouting, -100);
const LOCAL: Chain = chain("local", "nat", Hook::Output, -100);
const FORWARD: Chain = chain("forward", "filter", Hook::Forward, 0);
const SOURCE: Chain = chain("source", "nat", Hook::Postrouting, 100);
const FRAMES: Chain = chain("frames", "filter", Hook::Prerouting, -300);

const fn chain(name: &'static str, kind: &'static str, hook: Hook, priority: i32) -> Chain {
    Chain {
        name,
        kind,
        hook,
        priority,
    }
}

/// `ct state established,related`, as `NF_CT_STATE_BIT` counts.
const ESTABLISHED_RELATED: u32 = 0x2 | 0x4;
/// `ct status dnat`: `IPS_DST_NAT`.
const DNAT: u32 = 0x20;
const ICMPV6: u8 = 58;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

/// Both tables with their sets, chains and rules.
pub(super) fn add(transaction: &mut Transaction, owner: &Owner, options: Options) {
    let table = owner.table.as_str();
    transaction.add_table(Family::Inet, table);
    let direct: &[Set] = if options.direct { &DIRECT_SETS } else { &[] };
    for set in INET_SETS.iter().chain(direct) {
        transaction.add_set(Family::Inet, table, set);
    }
    let chains = [
        (GUARD, guard()),
        (PUBLISH, publish(options.publish)),
        (LOCAL, local()),
        (FORWARD, forward(options)),
        (SOURCE, source()),
    ];
    for (chain, rules) in chains {
        transaction.add_chain(Family::Inet, table, &chain);
        for rule in left_alone(options.rules).into_iter().chain(rules) {
            transaction.add_rule(Family::Inet, table, chain.name, &rule);
        }
    }
    transaction.add_table(Family::Bridge, table);
    for set in &BRIDGE_SETS {
        transaction.add_set(Family::Bridge, table, set);
    }
    transaction.add_chain(Family::Bridge, table, &FRAMES);
    for rule in frames(&owner.prefix, options.rules) {
        transaction.add_rule(Family::Bridge, table, FRAMES.name, &rule);
    }
}

/// What is none of our business passes every chain: a verdict for each
/// protocol that we were told to have no rules for.
fn left_alone(rules: Rules) -> Vec<Expressions> {
    let mut left = Vec::new();
    if !rules.ipv4 {
        left.push(ipv4().verdict(Verdict::Accept));
    }
    if !rules.ipv6 {
        left.push(ipv6().verdict(Verdict::Accept));
    }
    left
}

fn rule() -> Expressions {
    Expressions::new()
}

fn ipv4() -> Expressions {
    family(NFPROTO_IPV4)
}

fn ipv6() -> Expressions {
    family(NFPROTO_IPV6)
}

fn family(number: u32) -> Expressions {
    let number = number.to_be_bytes()[3];
    rule().meta(Key::NetworkProtocol, 0).equal(&[number])
}

/// `lo`, to the end of the field: not `lo1`.
const LOOPBACK: [u8; 16] = *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// The host reaches ports published on 127.0.0.1 through the bridge, so the
/// kernel's own refusal of these addresses is off there.
fn guard() -> Vec<Expressions> {
    let loopback = |offset| {
        ipv4()
            .payload(Base::Network, offset, 1, 0)
            .equal(&[127])
            .meta(Key::InputName, 0)
            .unequal(&LOOPBACK)
            .verdict(Verdict::Drop)
    };
    // ip daddr 127.0.0.0/8 iifname != "lo" drop; the same of ip saddr
    vec![loopback(16), loopback(12)]
}

/// Address, protocol and port of the destination; then protocol and port.
fn destination(start: Expressions, offset: u32, length: u32) -> Expressions {
    let words = length / 4;
    start
        .payload(Base::Network, offset, length, 0)
        .meta(Key::TransportProtocol, words)
        .payload(Base::Transport, 2, 2, words + 1)
}

fn any_destination(start: Expressions) -> Expressions {
    start
        .local_destination()
        .meta(Key::TransportProtocol, 0)
        .payload(Base::Transport, 2, 2, 1)
}

fn port_rules() -> Vec<Expressions> {
    vec![
        // dnat ip to ip daddr . meta l4proto . th dport map @ports4
        destination(ipv4(), 16, 4).map(PORTS4).dnat(NFPROTO_IPV4, 1),
        // fib daddr type local dnat ip to meta l4proto . th dport map @ports4-any
        any_destination(ipv4())
            .map(PORTS4_ANY)
            .dnat(NFPROTO_IPV4, 1),
        destination(ipv6(), 24, 16)
            .map(PORTS6)
            .dnat(NFPROTO_IPV6, 4),
        any_destination(ipv6())
            .map(PORTS6_ANY)
            .dnat(NFPROTO_IPV6, 4),
    ]
}

/// From elsewhere.
fn publish(publish: Publish) -> Vec<Expressions> {
    match publish {
        Publish::Forward => {
            // Where bridge-nf-call-iptables is on, a frame translated to a
            // container of the bridge it came from is passed on as a frame,
            // which an isolated port does not get and nobody gets back
            // himself. The netkeeper passes these on.
            // iifname . meta l4proto . th dport @own-ports accept
            let own = rule()
                .meta(Key::InputName, 0)
                .meta(Key::TransportProtocol, 4)
                .payload(Base::Transport, 2, 2, 5)
                .in_set(OWN_PORTS);
            let own_host = own.local_destination().verdict(Verdict::Accept);
            let mut rules = vec![own_host];
            rules.extend(port_rules());
            rules
        }
        // The netkeeper accepts, after the host's rules for input.
        Publish::Input => Vec::new(),
    }
}

/// From the host itself.
fn local() -> Vec<Expressions> {
    let mut loopback = [0; 16];
    loopback[15] = 1;
    // The kernel routes nothing from ::1 to another interface: the netkeeper
    // passes it on. ip6 daddr ::1 accept
    let to_loopback = ipv6()
        .payload(Base::Network, 24, 16, 0)
        .equal(&loopback)
        .verdict(Verdict::Accept);
    let mut rules = vec![to_loopback];
    rules.extend(port_rules());
    rules
}

fn pair(start: Expressions) -> Expressions {
    start.meta(Key::InputName, 0).meta(Key::OutputName, 4)
}

/// A kind no interface has.
const NO_KIND: [u8; 16] = *b"none\0\0\0\0\0\0\0\0\0\0\0\0";

fn forward(options: Options) -> Vec<Expressions> {
    let from = |set| rule().meta(Key::InputName, 0).in_set(set);
    let to = |set| rule().meta(Key::OutputName, 0).in_set(set);
    let others = || {
        rule()
            .meta(Key::InputName, 0)
            .not_in_set(BRIDGES)
            .meta(Key::OutputName, 0)
            .not_in_set(BRIDGES)
    };
    let mut rules = match options.forwarding {
        // iifname != @bridges oifname != @bridges accept
        Forwarding::Open => vec![others().verdict(Verdict::Accept)],
        // Interfaces without a kind are physical, and a rule that asks for it
        // does not match them: the host was no router between them. Those of
        // virtual machines and tunnels have a kind.
        Forwarding::Guarded => {
            let virtual_ = |key| others().meta(key, 0).unequal(&NO_KIND);
            vec![
                virtual_(Key::InputKind).verdict(Verdict::Accept),
                virtual_(Key::OutputKind).verdict(Verdict::Accept),
                others().verdict(Verdict::Drop),
            ]
        }
    };
    rules.extend([
        // ct state established,related accept
        rule()
            .ct_state(ESTABLISHED_RELATED)
            .verdict(Verdict::Accept),
        // iifname . oifname @icc accept: seen where bridge-nf-call-iptables
        // is on, and hairpins
        pair(rule()).in_set(ICC).verdict(Verdict::Accept),
        from(INTERNAL).verdict(Verdict::Drop),
        to(INTERNAL).verdict(Verdict::Drop),
        // oifname @bridges ct status dnat accept: published
        to(BRIDGES).ct_status(DNAT).verdict(Verdict::Accept),
    ]);
    if options.direct {
        // ip daddr . meta l4proto . th dport @direct4 accept
        let by = |start, offset, length, set| destination(start, offset, length).in_set(set);
        rules.push(by(ipv4(), 16, 4, DIRECT4).verdict(Verdict::Accept));
        rules.push(by(ipv6(), 24, 16, DIRECT6).verdict(Verdict::Accept));
    }
    // Neither from outside, nor from another network.
    rules.push(to(BRIDGES).verdict(Verdict::Drop));
    rules
}

fn source() -> Vec<Expressions> {
    let leaving = |start: Expressions, set| {
        start
            .meta(Key::InputName, 0)
            .in_set(set)
            .meta(Key::OutputName, 0)
            .not_in_set(BRIDGES)
            .masquerade()
    };
    let inside = |start: Expressions| {
        start
            .meta(Key::OutputName, 0)
            .in_set(BRIDGES)
            .ct_status(DNAT)
            .masquerade()
    };
    vec![
        // A neighbour that was reached by the host's address (SCTP) would
        // answer directly, and has not seen the translation.
        // iifname . oifname @hairpin ct status dnat masquerade
        pair(rule()).in_set(HAIRPIN).ct_status(DNAT).masquerade(),
        // ip saddr 127.0.0.0/8 oifname @bridges masquerade
        ipv4()
            .payload(Base::Network, 12, 1, 0)
            .equal(&[127])
            .meta(Key::OutputName, 0)
            .in_set(BRIDGES)
            .masquerade(),
        // The host called by its address in one network, and the port leads into
        // another: a container that is in both would answer in the first.
        // ip saddr @gateways4 oifname @bridges ct status dnat masquerade
        inside(ipv4().payload(Base::Network, 12, 4, 0).in_set(GATEWAYS4)),
        // ip6 saddr @gateways6 oifname @bridges ct status dnat masquerade
        inside(ipv6().payload(Base::Network, 8, 16, 0).in_set(GATEWAYS6)),
        leaving(ipv4(), MASQUERADE4),
        leaving(ipv6(), MASQUERADE6),
    ]
}

/// What the engine's interfaces may send. Those of a released endpoint begin
/// alike and are in no set.
fn frames(prefix: &str, rules: Rules) -> Vec<Expressions> {
    // As the frame has it: a tagged one is none of these.
    let kind = |ethertype: &[u8]| rule().payload(Base::Link, 12, 2, 0).equal(ethertype);
    let from = |start: Expressions| start.meta(Key::InputName, 0).payload(Base::Link, 6, 6, 4);
    let neighbour_message = |number: u8| {
        kind(&ETHERTYPE_IPV6)
            .meta(Key::TransportProtocol, 0)
            .equal(&[ICMPV6])
            .payload(Base::Transport, 0, 1, 0)
            .equal(&[number])
    };
    const ROUTER_ADVERTISEMENT: u8 = 134;
    const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    const REDIRECT: u8 = 137;
    let mut all = vec![
        // iifname != "cx…*" accept
        rule()
            .meta(Key::InputName, 0)
            .unequal(prefix.as_bytes())
            .verdict(Verdict::Accept),
    ];
    let left_alone = [
        (&ETHERTYPE_IPV4, rules.ipv4),
        (&ETHERTYPE_ARP, rules.ipv4),
        (&ETHERTYPE_IPV6, rules.ipv6),
    ];
    for (ethertype, _) in left_alone.iter().filter(|(_, ours)| !ours) {
        all.push(kind(*ethertype).verdict(Verdict::Accept));
    }
    all.extend([
        // Ethernet and IPv4; the frame's and the message's sender are both
        // the interface's own.
        from(
            kind(&ETHERTYPE_ARP)
                .payload(Base::Network, 0, 4, 0)
                .equal(&[0, 1, 8, 0])
                .payload(Base::Network, 4, 2, 0)
                .equal(&[6, 4]),
        )
        .payload(Base::Network, 14, 4, 6)
        .in_set(SOURCES4)
        .meta(Key::InputName, 0)
        .payload(Base::Network, 8, 6, 4)
        .payload(Base::Network, 14, 4, 6)
        .in_set(SOURCES4)
        .verdict(Verdict::Accept),
        // iifname . ether saddr . ip saddr @sources4 accept
        from(kind(&ETHERTYPE_IPV4))
            .payload(Base::Network, 12, 4, 6)
            .in_set(SOURCES4)
            .verdict(Verdict::Accept),
        // Who has an address is said by its owner alone; nobody here is a
        // router.
        from(neighbour_message(NEIGHBOUR_ADVERTISEMENT))
            .payload(Base::Transport, 8, 16, 6)
            .not_in_set(SOURCES6)
            .verdict(Verdict::Drop),
        neighbour_message(ROUTER_ADVERTISEMENT).verdict(Verdict::Drop),
        neighbour_message(REDIRECT).verdict(Verdict::Drop),
        // iifname . ether saddr . ip6 saddr @sources6 accept
        from(kind(&ETHERTYPE_IPV6))
            .payload(Base::Network, 8, 16, 6)
            .in_set(SOURCES6)
            .verdict(Verdict::Accept),
        // Everything else, tagged frames and other protocols too.
        rule().verdict(Verdict::Drop),
    ]);
    all
}
