//! The tree: every name and what it leads to, in the order help lists them.

use super::{
    Entry, Section, completion, container, context, image, inspect, man, manifest, network,
    registry, system, volume,
};

/// The names after the program's own.
pub static ROOT: &[Entry] = &[
    Entry::command("run", &container::run::COMMAND).section(Section::Common),
    Entry::command("exec", &container::exec::COMMAND).section(Section::Common),
    Entry::command("ps", &container::ls::COMMAND).section(Section::Common),
    Entry::command("pull", &image::pull::COMMAND).section(Section::Common),
    Entry::command("push", &image::push::COMMAND).section(Section::Common),
    Entry::command("images", &image::ls::COMMAND).section(Section::Common),
    Entry::command("login", &registry::login::COMMAND).section(Section::Common),
    Entry::command("logout", &registry::logout::COMMAND).section(Section::Common),
    Entry::command("search", &registry::search::COMMAND).section(Section::Common),
    Entry::command("version", &system::version::COMMAND).section(Section::Common),
    Entry::command("info", &system::info::COMMAND).section(Section::Common),
    Entry::group("container", "Manage containers", CONTAINER),
    Entry::group("context", "Manage contexts", CONTEXT),
    Entry::group("image", "Manage images", IMAGE),
    Entry::group(
        "manifest",
        "Manage image manifests and manifest lists",
        MANIFEST,
    ),
    Entry::group("network", "Manage networks", NETWORK),
    Entry::group("system", "Manage the engine", SYSTEM),
    Entry::group("volume", "Manage volumes", VOLUME),
    Entry::command("attach", &container::attach::COMMAND),
    Entry::command("commit", &container::commit::COMMAND),
    Entry::command("cp", &container::cp::COMMAND),
    Entry::group(
        "completion",
        "Generate the autocompletion script for the specified shell",
        COMPLETION,
    )
    .section(Section::Other),
    Entry::command("create", &container::create::COMMAND),
    Entry::command("diff", &container::diff::COMMAND),
    Entry::command("events", &system::events::COMMAND),
    Entry::command("export", &container::export::COMMAND),
    Entry::command("history", &image::history::COMMAND),
    Entry::command("import", &image::import::COMMAND),
    Entry::command("inspect", &inspect::COMMAND),
    Entry::command("kill", &container::kill::COMMAND),
    Entry::command("load", &image::load::COMMAND),
    Entry::command("logs", &container::logs::COMMAND),
    Entry::command("man", &man::COMMAND).section(Section::Hidden),
    Entry::command("pause", &container::pause::COMMAND),
    Entry::command("port", &container::port::COMMAND),
    Entry::command("rename", &container::rename::COMMAND),
    Entry::command("restart", &container::restart::COMMAND),
    Entry::command("rm", &container::rm::COMMAND),
    Entry::command("rmi", &image::rm::COMMAND),
    Entry::command("save", &image::save::COMMAND),
    Entry::command("start", &container::start::COMMAND),
    Entry::command("stats", &container::stats::COMMAND),
    Entry::command("stop", &container::stop::COMMAND),
    Entry::command("tag", &image::tag::COMMAND),
    Entry::command("top", &container::top::COMMAND),
    Entry::command("unpause", &container::unpause::COMMAND),
    Entry::command("update", &container::update::COMMAND),
    Entry::command("wait", &container::wait::COMMAND),
];

/// `conex container …`.
static CONTAINER: &[Entry] = &[
    Entry::command("attach", &container::attach::COMMAND),
    Entry::command("commit", &container::commit::COMMAND),
    Entry::command("cp", &container::cp::COMMAND),
    Entry::command("create", &container::create::COMMAND),
    Entry::command("diff", &container::diff::COMMAND),
    Entry::command("exec", &container::exec::COMMAND),
    Entry::command("export", &container::export::COMMAND),
    Entry::command("inspect", &container::inspect::COMMAND),
    Entry::command("kill", &container::kill::COMMAND),
    Entry::command("logs", &container::logs::COMMAND),
    Entry::command("ls", &container::ls::COMMAND).aliases(&["list", "ps"]),
    Entry::command("pause", &container::pause::COMMAND),
    Entry::command("port", &container::port::COMMAND),
    Entry::command("prune", &container::prune::COMMAND),
    Entry::command("rename", &container::rename::COMMAND),
    Entry::command("restart", &container::restart::COMMAND),
    Entry::command("rm", &container::rm::COMMAND).aliases(&["remove"]),
    Entry::command("run", &container::run::COMMAND),
    Entry::command("start", &container::start::COMMAND),
    Entry::command("stats", &container::stats::COMMAND),
    Entry::command("stop", &container::stop::COMMAND),
    Entry::command("top", &container::top::COMMAND),
    Entry::command("unpause", &container::unpause::COMMAND),
    Entry::command("update", &container::update::COMMAND),
    Entry::command("wait", &container::wait::COMMAND),
];

/// `conex completion …`.
static COMPLETION: &[Entry] = &[
    Entry::command("bash", &completion::BASH),
    Entry::command("fish", &completion::FISH),
    Entry::command("powershell", &completion::POWERSHELL),
    Entry::command("zsh", &completion::ZSH),
];

/// `conex context …`.
static CONTEXT: &[Entry] = &[
    Entry::command("create", &context::create::COMMAND),
    Entry::command("export", &context::export::COMMAND),
    Entry::command("import", &context::import::COMMAND),
    Entry::command("inspect", &context::inspect::COMMAND),
    Entry::command("ls", &context::ls::COMMAND).aliases(&["list"]),
    Entry::command("rm", &context::rm::COMMAND).aliases(&["remove"]),
    Entry::command("show", &context::show::COMMAND),
    Entry::command("update", &context::update::COMMAND),
    Entry::command("use", &context::r#use::COMMAND),
];

/// `conex image …`.
static IMAGE: &[Entry] = &[
    Entry::command("history", &image::history::COMMAND),
    Entry::command("import", &image::import::COMMAND),
    Entry::command("inspect", &image::inspect::COMMAND),
    Entry::command("load", &image::load::COMMAND),
    Entry::command("ls", &image::ls::COMMAND).aliases(&["list"]),
    Entry::command("prune", &image::prune::COMMAND),
    Entry::command("pull", &image::pull::COMMAND),
    Entry::command("push", &image::push::COMMAND),
    Entry::command("rm", &image::rm::COMMAND).aliases(&["remove"]),
    Entry::command("save", &image::save::COMMAND),
    Entry::command("tag", &image::tag::COMMAND),
    Entry::command("verify", &image::verify::COMMAND),
];

/// `conex manifest …`.
static MANIFEST: &[Entry] = &[
    Entry::command("annotate", &manifest::annotate::COMMAND),
    Entry::command("create", &manifest::create::COMMAND),
    Entry::command("inspect", &manifest::inspect::COMMAND),
    Entry::command("push", &manifest::push::COMMAND),
    Entry::command("rm", &manifest::rm::COMMAND),
];

/// `conex volume …`.
static VOLUME: &[Entry] = &[
    Entry::command("create", &volume::create::COMMAND),
    Entry::command("inspect", &volume::inspect::COMMAND),
    Entry::command("ls", &volume::ls::COMMAND).aliases(&["list"]),
    Entry::command("prune", &volume::prune::COMMAND),
    Entry::command("rm", &volume::rm::COMMAND).aliases(&["remove"]),
];

/// `conex network …`.
static NETWORK: &[Entry] = &[
    Entry::command("connect", &network::connect::COMMAND),
    Entry::command("create", &network::create::COMMAND),
    Entry::command("disconnect", &network::disconnect::COMMAND),
    Entry::command("inspect", &network::inspect::COMMAND),
    Entry::command("ls", &network::ls::COMMAND).aliases(&["list"]),
    Entry::command("prune", &network::prune::COMMAND),
    Entry::command("rm", &network::rm::COMMAND).aliases(&["remove"]),
];

/// `conex system …`.
static SYSTEM: &[Entry] = &[
    Entry::command("check", &system::check::COMMAND),
    Entry::command("df", &system::df::COMMAND),
    Entry::command("dial-stdio", &system::dial_stdio::COMMAND).section(Section::Hidden),
    Entry::command("events", &system::events::COMMAND),
    Entry::command("info", &system::info::COMMAND),
    Entry::command("prune", &system::prune::COMMAND),
];
