//! Process 1 of a guest (docs/design/microvm.md, "The agent"): mounts, reaps, and starts containers by the same plan and `init` as the host does.
//!
//! It trusts the relay, which is the host, and nothing that containers of the guest do.
#![forbid(unsafe_code)]

mod boot;
mod cgroup;
mod channel;
mod error;
mod files;
mod launch;
mod process;
mod processes;
mod receive;
mod server;

use error::Result;

/// Runs the agent until the host is gone, then ends the machine. Returns only if this process is not a machine's process 1.
#[must_use]
pub fn run() -> u8 {
    if std::process::id() != 1 {
        return 2;
    }
    let served = serve();
    if let Err(error) = &served {
        boot::complain(&error.message);
    }
    rustix::fs::sync();
    boot::end_machine();
    1
}

fn serve() -> Result<()> {
    boot::load_modules()?;
    boot::switch_root()?;
    boot::mount_system()?;
    boot::forbid_modules();
    boot::permit_overcommit();
    let link = boot::open_link()?;
    cgroup::prepare()?;
    server::Server::new(link)?.run()
}
