//! `taps`, `machine_network`, `network_release`: what a machine's network is on the host. Each acts in the network namespace that this process is in.

use casemate_host::{child, process};
use casemate_relay::client;

use crate::child::State;
use crate::error::{Context, Error, Result};

impl From<casemate_network::Error> for Error {
    fn from(error: casemate_network::Error) -> Self {
        Self::with_errno(error.message, error.errno)
    }
}

/// Makes the taps that `machine` gives to its hypervisor.
pub(super) fn taps(has_header: bool, state: &mut State) -> Result<()> {
    state.taps = casemate_network::make_taps(has_header)?;
    Ok(())
}

/// Joins the interfaces that are there with the machine's taps, and has its guest take them over. Ends the process.
pub(super) fn machine_network(control: i32, taps: &[String]) -> Result<()> {
    let control = process::take_fd(control).context(|| "control descriptor".into())?;
    let network = casemate_network::connect(taps)?;
    if !network.interfaces.is_empty() {
        client::network(control, network)
            .map_err(|refused| Error::with_errno(refused.message, refused.errno))?;
    }
    child::exit_now(0)
}

/// Takes away what machines that are gone have left. Ends the process.
pub(super) fn network_release() -> Result<()> {
    casemate_network::release()?;
    child::exit_now(0)
}
