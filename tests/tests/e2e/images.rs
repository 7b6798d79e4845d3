//! Images one has: which can go, which are meant by a platform or a filter.

use conex_tests::client::Cli;
use conex_tests::under_both_clients;

under_both_clients! {
    an_image_with_children_goes_after_them_and_by_name_only_its_name_goes,
    an_image_of_another_platform_is_told_apart,
    images_are_found_by_when_they_were_made,
    a_health_check_is_committed_and_imported,
}

fn an_image_with_children_goes_after_them_and_by_name_only_its_name_goes(cli: &Cli<'_>) {
    cli.ok(&["create", "--name", "made", "busybox", "true"]);
    cli.ok(&["commit", "made", "child:1"]);
    cli.ok(&["rm", "made"]);
    let parent = cli.inspect("busybox", "{{.Id}}");
    let short = &parent["sha256:".len()..][..12];
    for force in [&["rmi"][..], &["rmi", "-f"]] {
        let told = cli.fails(1, &[force, &[short]].concat());
        let expected = format!(
            "conflict: unable to delete {short} (cannot be forced) - image has dependent child images"
        );
        assert!(told.contains(&expected), "{told}");
    }
    assert_eq!(cli.ok(&["rmi", "busybox"]), "Untagged: busybox:latest");
    assert_eq!(cli.ok(&["images", "-q"]).lines().count(), 1);
    assert_eq!(cli.ok(&["images", "-a", "-q"]).lines().count(), 2);
    let said = cli.ok(&["rmi", "child:1"]);
    assert!(
        said.starts_with("Untagged: child:1\nDeleted: sha256:"),
        "{said}"
    );
    assert!(said.contains(&format!("Deleted: {parent}")), "{said}");
    assert_eq!(cli.ok(&["images", "-a", "-q"]), "");
}

fn an_image_of_another_platform_is_told_apart(cli: &Cli<'_>) {
    let own = cli.inspect("busybox", "{{.Os}}/{{.Architecture}}");
    let other = "linux/s390x";
    for verb in [&["image", "inspect"][..], &["history"]] {
        let on = |platform| [verb, &["--platform", platform, "busybox"]].concat();
        cli.ok(&on(&own));
        let told = cli.fails(1, &on(other));
        let expected = format!(
            "image with reference busybox was found but its platform ({own}) does not match the \
             specified platform ({other})"
        );
        assert!(told.contains(&expected), "{told}");
    }
}

fn images_are_found_by_when_they_were_made(cli: &Cli<'_>) {
    for (until, found) in [
        ("2020-01-01", 0),
        ("2020-01-01T10:00", 0),
        ("2999-12-31", 1),
    ] {
        let filter = format!("until={until}");
        let listed = cli.ok(&["images", "-q", "--filter", &filter]);
        assert_eq!(listed.lines().count(), found, "{until}");
    }
    let told = cli.fails(1, &["images", "--filter", "until=soon"]);
    assert!(told.contains("invalid filter 'until"), "{told}");
}

fn a_health_check_is_committed_and_imported(cli: &Cli<'_>) {
    cli.ok(&["create", "--name", "made", "busybox", "true"]);
    let change = "HEALTHCHECK --interval=5s --retries=2 CMD echo well";
    cli.ok(&["commit", "-c", change, "made", "healthy:1"]);
    let check = "{{.Config.Healthcheck.Test}} {{.Config.Healthcheck.Retries}}";
    assert_eq!(cli.inspect("healthy:1", check), "[CMD-SHELL echo well] 2");
    cli.ok(&["create", "--name", "other", "healthy:1"]);
    cli.ok(&["commit", "-c", "HEALTHCHECK NONE", "other", "mute:1"]);
    assert_eq!(
        cli.inspect("mute:1", "{{.Config.Healthcheck.Test}}"),
        "[NONE]"
    );
    let told = cli.fails(1, &["commit", "-c", "HEALTHCHECK x", "made", "bad:1"]);
    assert!(told.contains("in HEALTHCHECK (try CMD)"), "{told}");
}
