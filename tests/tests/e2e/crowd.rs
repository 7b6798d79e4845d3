//! Many containers at once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use conex_tests::client::{Cli, Client, with_busybox};
use conex_tests::{leftovers, under_both_clients};

/// Starts `count` containers through `width` clients at a time.
fn start(
    cli: &Cli<'_>,
    count: usize,
    width: usize,
    args: impl Fn(usize) -> Vec<String> + Sync,
) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let mut ids: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..width)
            .map(|_| {
                scope.spawn(|| {
                    let mut ids = Vec::new();
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= count {
                            return ids;
                        }
                        let args = args(index);
                        let args: Vec<&str> = args.iter().map(String::as_str).collect();
                        ids.push(cli.ok(&args));
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a worker ends well"))
            .collect()
    });
    ids.sort();
    ids
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

under_both_clients! {
    two_hundred_containers_run_at_once,
}

fn two_hundred_containers_run_at_once(cli: &Cli<'_>) {
    let ids = start(cli, 200, 8, |index| {
        let mut args = words("run -d --network none busybox sh -c");
        args.push(format!("echo I am {index}; exec sleep 1000"));
        args
    });
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 200);
    assert_eq!(cli.ok(&["ps", "-q"]).lines().count(), 200);
    let said: BTreeSet<String> = ids.iter().map(|id| cli.ok(&["logs", id])).collect();
    let wanted: BTreeSet<String> = (0..200).map(|index| format!("I am {index}")).collect();
    assert_eq!(said, wanted);

    let mut remove = vec!["rm", "-f"];
    remove.extend(ids.iter().map(String::as_str));
    cli.ok(&remove);
    assert_eq!(cli.engine.container_count(), 0);
    leftovers::await_monitors(&ids);
    assert_eq!(leftovers::cgroups(&ids), Vec::<std::path::PathBuf>::new());
}

#[test]
#[ignore = "soak: a thousand containers, minutes"]
fn a_thousand_containers_run_at_once() {
    with_busybox(Client::Conex, |cli| {
        let ids = start(cli, 1000, 8, |_| {
            words("run -d --network none busybox sleep 100000")
        });
        assert_eq!(cli.ok(&["ps", "-q"]).lines().count(), 1000);
        for part in ids.chunks(200) {
            let mut remove = vec!["rm", "-f"];
            remove.extend(part.iter().map(String::as_str));
            cli.ok(&remove);
        }
        assert_eq!(cli.engine.container_count(), 0);
        leftovers::await_monitors(&ids);
        assert_eq!(leftovers::cgroups(&ids), Vec::<std::path::PathBuf>::new());
    });
}

#[test]
#[ignore = "soak: five thousand short lives, minutes"]
fn five_thousand_short_lives_leave_nothing_behind() {
    with_busybox(Client::Conex, |cli| {
        // The first run makes the image's init layer, which stays.
        cli.ok(&["run", "--rm", "--network", "none", "busybox", "true"]);
        let layers = cli.engine.layer_directories();
        let descriptors = || {
            std::fs::read_dir(format!("/proc/{}/fd", cli.engine.pid()))
                .expect("the daemon lives")
                .count()
        };
        let before = descriptors();
        start(cli, 5000, 4, |_| {
            words("run --rm --network none busybox true")
        });
        assert_eq!(cli.engine.container_count(), 0);
        assert_eq!(cli.engine.layer_directories(), layers);
        let after = descriptors();
        assert!(
            after <= before + 16,
            "{before} descriptors before, {after} after"
        );
    });
}
