//! /mmds and /mmds/config: the store. It reaches the guest by a network device, which is not in this version.
use serde_json::{Map, Value};

use super::Controller;
use crate::api::model::MmdsConfig;
use crate::api::{Fault, Reply};

impl Controller {
    pub(crate) fn mmds(&self) -> Result<Reply, Fault> {
        Ok(Reply::Json(
            self.mmds.clone().unwrap_or(Value::Object(Map::new())),
        ))
    }

    pub(crate) fn put_mmds(&mut self, data: Value) -> Result<Reply, Fault> {
        self.check_size(&data)?;
        self.mmds = Some(data);
        Ok(Reply::Done)
    }

    pub(crate) fn patch_mmds(&mut self, patch: &Value) -> Result<Reply, Fault> {
        let Some(mut data) = self.mmds.clone() else {
            return Err(Fault::new("The MMDS data store is not initialized."));
        };
        merge(&mut data, patch);
        self.put_mmds(data)
    }

    pub(crate) fn put_mmds_config(&mut self, config: MmdsConfig) -> Result<Reply, Fault> {
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
        self.config.mmds_config = Some(config);
        Ok(Reply::Done)
    }

    fn check_size(&self, data: &Value) -> Result<(), Fault> {
        if !data.is_object() {
            return Err(Fault::new("The MMDS data store holds a JSON object."));
        }
        if data.to_string().len() > self.max_mmds {
            return Err(Fault::new("The MMDS patch request doesn't fit."));
        }
        Ok(())
    }
}

/// RFC 7396. The parser's limit on nesting bounds the recursion.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else {
        return;
    };
    for (name, change) in changes {
        if change.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::merge;
    use serde_json::json;

    #[test]
    fn the_example_of_rfc_7396_merges() {
        let mut target = json!({"title": "Goodbye!", "author": {"givenName": "John", "familyName": "Doe"}, "tags": ["a"]});
        merge(
            &mut target,
            &json!({"title": "Hello!", "author": {"familyName": null}, "tags": ["b"]}),
        );
        assert_eq!(
            target,
            json!({"title": "Hello!", "author": {"givenName": "John"}, "tags": ["b"]})
        );
    }
}
