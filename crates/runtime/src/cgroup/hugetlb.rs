//! The hugetlb controller: bytes of each size of huge pages. It must not know
//! which sizes the machine has.

use conex_spec::runtime::Resources;

use super::Error;
use super::file::Place;

pub(super) fn apply(
    place: Place<'_>,
    resources: &Resources,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    for limit in &resources.hugepage_limits {
        let size = &limit.page_size;
        let is_size = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_size {
            return Err(Error::Invalid(format!("{size:?} is no huge page size")));
        }
        let (dir, end) = match place {
            Place::V1(dir) => (dir, "limit_in_bytes"),
            Place::V2(dir) => (dir, "max"),
            Place::Missing => {
                warnings.push(unsupported(size));
                continue;
            }
        };
        if !dir.write_if_supported(&format!("hugetlb.{size}.{end}"), limit.limit)? {
            warnings.push(unsupported(size));
        }
        // Counted when reserved and not only when touched; since Linux 5.7.
        dir.write_if_supported(&format!("hugetlb.{size}.rsvd.{end}"), limit.limit)?;
    }
    Ok(())
}

fn unsupported(size: &str) -> String {
    format!(
        "Your kernel does not support huge page limits of size {size} or the cgroup is not \
         mounted. Limitation discarded."
    )
}
