//! /vsock, /entropy, /serial, and /casemate/console.
use super::Controller;
use crate::api::model::{Console, Entropy, Serial, Vsock};
use crate::api::{Fault, Reply};
use crate::devices::SerialOutput;
use crate::virtio::{console, vsock};

impl Controller {
    pub(crate) fn put_vsock(&mut self, config: Vsock) -> Result<Reply, Fault> {
        self.set_vsock(config).map_err(Fault::about("Vsock config"))
    }

    fn set_vsock(&mut self, config: Vsock) -> Result<Reply, Fault> {
        if config.guest_cid < 3 {
            return Err(Fault::new(
                "The guest CID is invalid: 0, 1 and 2 are reserved.",
            ));
        }
        // An earlier device's socket may have the same path.
        self.vsock = None;
        self.config.vsock = None;
        let device =
            vsock::Vsock::new(config.guest_cid.into(), &config.uds_path).map_err(|error| {
                Fault(format!(
                    "Cannot create backend for vsock device: {}: {error}",
                    config.uds_path.display()
                ))
            })?;
        self.vsock = Some(device);
        self.config.vsock = Some(config);
        Ok(Reply::Done)
    }

    pub(crate) fn put_console(&mut self, config: Console) -> Result<Reply, Fault> {
        self.console = None;
        self.config.console = None;
        let console = console::Console::new(&config.uds_path).map_err(|error| {
            Fault(format!(
                "Cannot create the console: {}: {error}",
                config.uds_path.display()
            ))
        })?;
        self.console = Some(console);
        self.config.console = Some(config);
        Ok(Reply::Done)
    }

    pub(crate) fn put_entropy(&mut self, config: Entropy) -> Result<Reply, Fault> {
        self.config.entropy = Some(config);
        Ok(Reply::Done)
    }

    /// The guest's serial output goes to a file or FIFO in the place of standard output.
    pub(crate) fn put_serial(&mut self, config: Serial) -> Result<Reply, Fault> {
        let output = match &config.serial_out_path {
            Some(path) => {
                let file = crate::log::open(path).map_err(|error| {
                    Fault(format!(
                        "Cannot open the serial output {}: {error}",
                        path.display()
                    ))
                })?;
                Some(SerialOutput::new(file, config.rate_limiter.as_ref()))
            }
            None if config.rate_limiter.is_some() => {
                Some(SerialOutput::limited(config.rate_limiter.as_ref()))
            }
            None => None,
        };
        let output = output.transpose();
        self.serial_output =
            output.map_err(|error| Fault(format!("Cannot open the serial output: {error}")))?;
        self.config.serial = Some(config);
        Ok(Reply::Done)
    }
}
