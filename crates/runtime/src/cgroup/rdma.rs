//! The rdma controller: handles and objects of each RDMA device, in one file of
//! both versions. It must not know the devices.

use conex_spec::runtime::{Rdma, Resources};

use super::Error;
use super::file::Place;

pub(super) fn apply(
    place: Place<'_>,
    resources: &Resources,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    for (device, limit) in &resources.rdma {
        match place {
            Place::V1(dir) | Place::V2(dir) => dir.write("rdma.max", line(device, limit))?,
            Place::Missing => warnings.push(format!(
                "Your kernel does not support RDMA limits or the cgroup is not mounted. Limit of \
                 {device} discarded."
            )),
        }
    }
    Ok(())
}

fn line(device: &str, limit: &Rdma) -> String {
    let mut line = device.to_owned();
    if let Some(handles) = limit.hca_handles {
        line += &format!(" hca_handle={handles}");
    }
    if let Some(objects) = limit.hca_objects {
        line += &format!(" hca_object={objects}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_limited_is_written() {
        let limit = Rdma {
            hca_handles: Some(2),
            hca_objects: None,
        };
        assert_eq!(line("mlx5_1", &limit), "mlx5_1 hca_handle=2");
    }
}
