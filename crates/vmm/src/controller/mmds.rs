//! /mmds and /mmds/config.
use serde_json::Value;

use super::Controller;
use crate::api::model::MmdsConfig;
use crate::api::{Fault, Reply};
use crate::devices::lock;
use crate::devices::mmds::StoreError;

impl Controller {
    pub(crate) fn mmds(&self) -> Result<Reply, Fault> {
        Ok(Reply::Json(lock(&self.mmds).data()))
    }

    pub(crate) fn put_mmds(&mut self, data: Value) -> Result<Reply, Fault> {
        answer(lock(&self.mmds).put(data))
    }

    pub(crate) fn patch_mmds(&mut self, patch: &Value) -> Result<Reply, Fault> {
        answer(lock(&self.mmds).patch(patch))
    }

    pub(crate) fn put_mmds_config(&mut self, config: MmdsConfig) -> Result<Reply, Fault> {
        // Firecracker writes it so.
        self.set_mmds_config(config)
            .map_err(Fault::about("MMMDS config"))
    }

    fn set_mmds_config(&mut self, config: MmdsConfig) -> Result<Reply, Fault> {
        let is_known = |id: &String| {
            self.config
                .network_interfaces
                .iter()
                .any(|network| network.iface_id == *id)
        };
        if config.network_interfaces.is_empty() {
            return Err(Fault::new(
                "The list of network interface IDs that allow forwarding MMDS requests is empty.",
            ));
        }
        if !config.network_interfaces.iter().all(is_known) {
            return Err(Fault::new(
                "The list of network interface IDs provided contains at least one ID that does not correspond to any existing network interface.",
            ));
        }
        if config
            .ipv4_address
            .is_some_and(|address| !address.is_link_local())
        {
            return Err(Fault::new("The MMDS IPv4 address is not link local."));
        }
        {
            let mut store = lock(&self.mmds);
            store.version = config.version;
            store.imds_compat = config.imds_compat;
        }
        self.config.mmds_config = Some(config);
        Ok(Reply::Done)
    }
}

fn answer(result: Result<(), StoreError>) -> Result<Reply, Fault> {
    match result {
        Ok(()) => Ok(Reply::Done),
        Err(error @ StoreError::TooLarge) => Ok(Reply::TooLarge(format!(
            "MMDS limit exceeded error: {error}"
        ))),
        Err(error) => Err(Fault(format!("MMDS error: {error}"))),
    }
}
