//! PUT /casemate/fork: what Firecracker's API does not have.
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::Controller;
use crate::Memory;
use crate::api::{Fault, Reply};
use crate::config::VmConfig;
use crate::devices::lock;
use crate::fork::request::{Child, Fork};
use crate::fork::{self, Identity, Origin};
use crate::machine::{MachineState, Prepared};

impl Controller {
    /// Answers when all children run, or none does. A running parent goes on as soon as the last one is forked.
    pub(crate) fn fork(&mut self, order: &Fork) -> Result<Reply, Fault> {
        if self.paging.handler.is_some() {
            return Err(Fault::new(
                "A machine whose pages another process serves cannot be forked: the children's pages would have nobody to serve them.",
            ));
        }
        let identities = order
            .children()?
            .into_iter()
            .map(|child: Child| {
                let config = child.configure(&self.config)?;
                Ok(Identity { child, config })
            })
            .collect::<Result<Vec<_>, Fault>>()?;
        let started = Instant::now();
        let waiting = self.begin_fork(&identities)?;
        let pids = fork::finish(waiting)?;
        let took = started.elapsed().as_micros();
        self.info(&format!("{} children in {took} us", pids.len()));
        let children: Vec<_> = pids
            .iter()
            .zip(&identities)
            .map(|(pid, identity)| json!({ "pid": pid, "api_sock": identity.child.api_sock }))
            .collect();
        Ok(Reply::Json(json!({ "children": children })))
    }

    fn begin_fork(&mut self, identities: &[Identity]) -> Result<fork::Waiting, Fault> {
        let missing = || Fault::new("The microVM is not running.");
        let machine = self.machine.as_ref().ok_or_else(missing)?;
        if !self.is_paused {
            machine.pause();
            let transports = machine.bus.virtio.iter();
            transports.for_each(|transport| lock(transport).settle());
        }
        let forked = machine
            .save()
            .map_err(|error| Fault(format!("Fork: {error}")))
            .and_then(|state| {
                let origin = Origin {
                    options: &self.options,
                    memory: machine.memory(),
                    state: &state,
                    log: &self.log,
                    tracks: self.paging.tracks,
                };
                fork::begin(&origin, identities).map_err(|error| Fault(format!("Fork: {error}")))
            });
        if !self.is_paused {
            machine.resume();
        }
        forked
    }

    /// In a child: goes on from the parent's state, on the parent's memory.
    pub(crate) fn adopt(
        &mut self,
        prepared: Prepared,
        memory: Arc<Memory>,
        config: VmConfig,
        state: &MachineState,
        tracks: bool,
    ) -> Result<(), Fault> {
        self.configure(config)?;
        self.go_on(prepared, memory, state)?;
        self.paging.tracks = tracks;
        Ok(())
    }
}
