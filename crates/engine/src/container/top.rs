//! `top`: the processes of a container as ps(1) shows them, read from the
//! host's /proc, so that the container needs no ps and the host none either.
//!
//! `-ef` (also `ef`, `-e -f`), `aux`, and columns of one's own by `-o`.

mod column;
mod process;

use conex_api::container::Top;

use crate::{Engine, Error};
use column::Column;
use process::{Host, Process};

/// Docker's when nothing is asked for.
const DEFAULT: &str = "-ef";

impl Engine {
    /// Lists the processes of a container; `ps_args` are options of ps(1).
    ///
    /// Errors: conflict when it does not run; invalid parameter for options
    /// that are not understood.
    pub async fn container_top(&self, name: &str, ps_args: &str) -> Result<Top, Error> {
        let container = self.inner.find(name)?;
        let columns = Column::parse(if ps_args.is_empty() { DEFAULT } else { ps_args })?;
        let state = container.state();
        if !state.is_running() {
            let id = container.id();
            return Err(Error::conflict(match state.status() {
                "restarting" => {
                    format!("Container {id} is restarting, wait until the container is running")
                }
                _ => format!("container {id} is not running"),
            }));
        }
        let engine = std::sync::Arc::clone(&self.inner);
        let of = std::sync::Arc::clone(&container);
        let listed = tokio::task::spawn_blocking(move || {
            let host = Host::read();
            let mut pids = engine.pids_of(&container.record)?;
            pids.sort_unstable();
            // One that ends meanwhile is not there any more.
            let processes = pids.into_iter().filter_map(Process::read);
            let rows = processes.map(|p| columns.iter().map(|c| c.show(&p, &host)).collect());
            let processes = rows.collect();
            let titles = columns
                .iter()
                .map(|column| column.title().to_owned())
                .collect();
            Ok(Top { processes, titles })
        });
        let listed = listed
            .await
            .map_err(|e| Error::system("list processes", &e))?;
        if listed.is_ok() {
            of.publish(&self.inner.events, "top", &[]);
        }
        listed
    }
}
