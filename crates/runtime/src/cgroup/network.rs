//! The net_cls and net_prio controllers: class and priority of packets, both
//! in version 1 only. It must not know interfaces.

use conex_spec::runtime::Resources;

use super::Error;
use super::file::Place;

const NO_CLASS: &str = "Your kernel does not support network classes or the cgroup is not \
     mounted. Network class discarded.";
const NO_PRIORITY: &str = "Your kernel does not support network priorities or the cgroup is not \
     mounted. Network priority discarded.";

pub(super) fn apply(
    class: Place<'_>,
    priority: Place<'_>,
    resources: &Resources,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let Some(network) = &resources.network else {
        return Ok(());
    };
    if let Some(class_id) = network.class_id {
        match class {
            Place::V1(dir) => dir.write("net_cls.classid", class_id)?,
            _ => warnings.push(NO_CLASS.to_owned()),
        }
    }
    for entry in &network.priorities {
        match priority {
            Place::V1(dir) => dir.write(
                "net_prio.ifpriomap",
                format!("{} {}", entry.name, entry.priority),
            )?,
            _ => warnings.push(NO_PRIORITY.to_owned()),
        }
    }
    Ok(())
}
