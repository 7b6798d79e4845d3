//! The pids controller: how many tasks at a time. It must not know processes.

use conex_spec::runtime::Resources;

use super::Error;
use super::file::Place;

const NO_PIDS: &str = "Your kernel does not support pids limit capabilities or the cgroup is not \
     mounted. PIDs limit discarded.";

pub(super) fn apply(
    place: Place<'_>,
    resources: &Resources,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let Some(limit) = resources.pids.and_then(|pids| pids.limit) else {
        return Ok(());
    };
    let value = if limit > 0 {
        limit.to_string()
    } else {
        "max".to_owned()
    };
    let supported = match place {
        Place::V1(dir) | Place::V2(dir) => dir.write_if_supported("pids.max", value)?,
        Place::Missing => false,
    };
    // No limit is what a kernel without the controller has anyway.
    if !supported && limit > 0 {
        warnings.push(NO_PIDS.to_owned());
    }
    Ok(())
}
