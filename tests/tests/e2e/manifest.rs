//! `manifest`, beside Docker's own: the same questions to the same registry give the same answers, and a list one
//! program began the other goes on with.

use conex_tests::client::{Client, engine_for};
use conex_tests::engine::Engine;
use conex_tests::process::Output;
use conex_tests::registry::{Access, Registry, noise, tar_of};
use conex_tests::skip;
use conex_tests::workspace;

/// Both programs, and a registry with an image, another, and an index of two.
struct Room {
    engine: Engine,
    registry: Registry,
}

impl Room {
    fn new() -> Option<Room> {
        if workspace::program("docker").is_none() {
            skip("no docker command line here");
            return None;
        }
        let (registry, engine) = (Registry::start(Access::Open)?, engine_for(Client::Conex)?);
        let home = engine.root().join("home/.docker");
        std::fs::create_dir_all(home).expect("a fresh directory");
        registry.push("one:1", &[tar_of(&[("file", &noise(10_000, 51))])]);
        registry.push("two:1", &[tar_of(&[("file", &noise(10_000, 52))])]);
        let intel = vec![tar_of(&[("intel", b"x")])];
        let arm = vec![tar_of(&[("arm", b"x")])];
        registry.push_index("many:1", &[("amd64", intel), ("arm64", arm)]);
        Some(Room { engine, registry })
    }

    /// `@` is the registry.
    fn run(&self, client: Client, words: &str) -> Output {
        let words = words.replace('@', &self.registry.address);
        let words: Vec<&str> = words.split(' ').collect();
        self.engine.cli(client).run(&words)
    }

    /// Both say the same, exit codes and errors included.
    fn alike(&self, words: &str) -> Output {
        let ours = self.run(Client::Conex, words);
        let dockers = self.run(Client::Docker, words);
        assert_eq!(
            (ours.code, &ours.stdout, &ours.stderr),
            (dockers.code, &dockers.stdout, &dockers.stderr),
            "{words}"
        );
        ours
    }
}

#[test]
fn manifests_and_lists_are_shown_as_docker_shows_them() {
    let Some(room) = Room::new() else { return };
    for words in [
        "manifest inspect --insecure @/one:1",
        "manifest inspect --insecure -v @/one:1",
        "manifest inspect --insecure @/many:1",
        "manifest inspect --insecure -v @/many:1",
        "manifest inspect --insecure @/nosuch:1",
        "manifest inspect --insecure @/one",
        "manifest inspect @/list:1 @/one:1",
        "manifest inspect BAD",
        "manifest rm @/list:1",
        "manifest push --insecure @/list:1",
        "manifest annotate @/list:1 @/one:1 --arch arm64",
        "manifest create --insecure @/list:1 @/nosuch:1",
        "manifest create --insecure @/list:1 @/many:1",
    ] {
        room.alike(words);
    }
}

#[test]
fn a_list_is_begun_by_one_program_and_sent_by_the_other_with_one_digest() {
    let Some(room) = Room::new() else { return };
    let mut digests = Vec::new();
    for (first, second) in [
        (Client::Conex, Client::Docker),
        (Client::Docker, Client::Conex),
    ] {
        let ok = |client: Client, words: &str| {
            let output = room.run(client, words);
            assert_eq!(output.code, Some(0), "{} {words}: {output}", client.name());
            output.stdout
        };
        let said = ok(first, "manifest create --insecure @/list:1 @/one:1");
        assert_eq!(
            said,
            format!("Created manifest list {}/list:1\n", room.registry.address)
        );
        let again = room.run(first, "manifest create --insecure @/list:1 @/two:1");
        assert!(
            again
                .stderr
                .contains("refusing to amend an existing manifest list"),
            "{again}"
        );
        ok(second, "manifest create --insecure -a @/list:1 @/two:1");
        ok(
            first,
            "manifest annotate @/list:1 @/two:1 --os linux --arch arm64 --variant v8 --os-features a,b",
        );
        let bad = room.alike("manifest annotate @/list:1 @/two:1 --arch foo");
        assert!(
            bad.stderr.contains("unsupported os/arch combination: /foo"),
            "{bad}"
        );
        room.alike("manifest inspect @/list:1");
        room.alike("manifest inspect -v @/list:1");
        room.alike("manifest inspect -v @/list:1 @/two:1");
        digests.push(ok(second, "manifest push --insecure -p @/list:1"));
        let gone = room.alike("manifest push --insecure @/list:1");
        assert!(gone.stderr.contains("No such manifest: "), "{gone}");
    }
    assert_eq!(digests[0], digests[1], "the same bytes");
    let inspected = room.alike("manifest inspect --insecure @/list:1");
    assert!(
        inspected.stdout.contains("\"variant\": \"v8\""),
        "{inspected}"
    );
    // An engine takes the list for an index.
    let name = format!("{}/list:1", room.registry.address);
    room.engine.cli(Client::Conex).ok(&["pull", &name]);
    // Images of two registries make no list.
    let other = Registry::start(Access::Open).expect("there was one before");
    let words = format!(
        "manifest create --insecure {}/list:1 @/one:1",
        other.address
    );
    assert_eq!(room.run(Client::Conex, &words).code, Some(0));
    let push = format!("manifest push --insecure {}/list:1", other.address);
    let refused = room.alike(&push);
    assert!(
        refused
            .stderr
            .contains("cannot use source images from a different registry"),
        "{refused}"
    );
}
