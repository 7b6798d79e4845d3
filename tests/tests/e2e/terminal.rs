//! A client in a terminal: raw while it is attached, as it was afterwards, and
//! every key for the program inside.

use std::time::Duration;

use conex_tests::client::Cli;
use conex_tests::{process, terminal, under_both_clients};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, tcgetattr};

const LIMIT: Duration = Duration::from_secs(60);

under_both_clients! {
    a_terminal_is_raw_while_a_client_is_attached_and_restored_after,
    a_terminal_follows_the_clients_size,
    without_a_terminal_inside_control_c_is_a_signal_to_the_client,
}

fn a_terminal_is_raw_while_a_client_is_attached_and_restored_after(cli: &Cli<'_>) {
    let run = ["run", "-it", "--rm", "--network", "none", "busybox", "sh"];
    let (mut client, master) = terminal::spawn(cli.command(&run));
    let cooked = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
    let modes = || {
        tcgetattr(&master)
            .expect("a terminal has modes")
            .local_modes
    };
    let mut seen = String::new();
    terminal::type_in(&master, "echo $((40 + 2))\n");
    terminal::read_until(&master, &mut seen, "\r\n42\r\n");
    assert!(!modes().intersects(cooked), "{:?}", modes());
    // The program inside is interrupted; the client goes on.
    terminal::type_in(&master, "sh -c 'echo go; exec sleep 1000'\n");
    terminal::read_until(&master, &mut seen, "\r\ngo\r\n");
    // An interrupt throws away what was typed ahead.
    seen.clear();
    terminal::type_in(&master, "\u{3}");
    terminal::read_until(&master, &mut seen, "/ # ");
    terminal::type_in(&master, "echo code=$?\n");
    terminal::read_until(&master, &mut seen, "code=130\r\n");
    // And so is every other key: the end of input, and what the shell makes of it.
    terminal::type_in(&master, "echo begin; cat; exit 5\n");
    terminal::read_until(&master, &mut seen, "\r\nbegin\r\n");
    terminal::type_in(&master, "typed\n");
    terminal::read_until(&master, &mut seen, "typed\r\ntyped\r\n");
    terminal::type_in(&master, "\u{4}");
    let status = process::wait_limited(&mut client, LIMIT).expect("a child can be waited for");
    assert_eq!(status.and_then(|status| status.code()), Some(5), "{seen:?}");
    assert!(modes().contains(cooked), "{:?}", modes());
}

fn a_terminal_follows_the_clients_size(cli: &Cli<'_>) {
    let run = ["run", "-it", "--rm", "--network", "none", "busybox", "sh"];
    let (mut client, master) = terminal::spawn(cli.command(&run));
    let mut seen = String::new();
    // The size comes right after the start: the shell may be faster.
    let wait = "until stty size | grep '24 80'; do usleep 10000; done; echo here; \
                until stty size | grep '12 34'; do usleep 10000; done; exit 6\n";
    terminal::type_in(&master, wait);
    terminal::read_until(&master, &mut seen, "24 80\r\nhere\r\n");
    terminal::resize(&master, 12, 34);
    // It is nobody's controlling terminal, so the kernel tells nobody.
    terminal::tell_size(&master, &client, &mut seen, "12 34\r\n");
    let status = process::wait_limited(&mut client, LIMIT).expect("a child can be waited for");
    assert_eq!(status.and_then(|status| status.code()), Some(6), "{seen:?}");
}

fn without_a_terminal_inside_control_c_is_a_signal_to_the_client(cli: &Cli<'_>) {
    let trap = "trap 'echo interrupted; exit 7' INT; echo ready; while :; do usleep 10000; done";
    let run = [
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        trap,
    ];
    let (mut client, master) = terminal::spawn(cli.command(&run));
    let mut seen = String::new();
    terminal::read_until(&master, &mut seen, "ready");
    let modes = tcgetattr(&master)
        .expect("a terminal has modes")
        .local_modes;
    assert!(modes.contains(LocalModes::ICANON), "{modes:?}");
    // What the key does where the terminal is a shell's.
    kill_process(Pid::from_child(&client), Signal::INT).expect("a child can be signalled");
    terminal::read_until(&master, &mut seen, "interrupted");
    let status = process::wait_limited(&mut client, LIMIT).expect("a child can be waited for");
    assert_eq!(status.and_then(|status| status.code()), Some(7), "{seen:?}");
}
