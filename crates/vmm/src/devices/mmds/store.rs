//! What the service knows: the document, who may read it, how it is shown.
use std::net::Ipv4Addr;

use serde_json::{Map, Value};

use super::tokens::Tokens;

/// Firecracker's default address, the one that cloud guests ask.
pub(crate) const DEFAULT_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Version {
    /// Whoever asks reads.
    #[default]
    V1,
    /// Who asks needs a token, which it gets by a PUT: requests that a web page or a proxy can be talked into are not enough.
    V2,
}

/// For the metrics, with Firecracker's names.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(crate) struct Counts {
    pub(crate) rx_accepted: u64,
    pub(crate) rx_accepted_err: u64,
    pub(crate) rx_bad_eth: u64,
    pub(crate) rx_invalid_token: u64,
    pub(crate) rx_no_token: u64,
    pub(crate) rx_count: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) tx_frames: u64,
    pub(crate) connections_created: u64,
    pub(crate) connections_destroyed: u64,
}

#[derive(Debug)]
pub struct Store {
    data: Option<Value>,
    limit: usize,
    pub(crate) version: Version,
    /// Answers are plain text whatever the guest accepts, as EC2's are.
    pub(crate) imds_compat: bool,
    pub(crate) tokens: Tokens,
    pub(crate) counts: Counts,
}

/// Why data is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("The MMDS patch request doesn't fit.")]
    TooLarge,
    #[error("The MMDS data store is not initialized.")]
    Empty,
    #[error("The MMDS data store holds a JSON object.")]
    NoObject,
}

/// Why there is nothing to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    NotFound,
    /// Plain text shows names and strings only.
    Type,
}

impl Store {
    /// The document has at most `limit` bytes as JSON.
    #[must_use]
    pub fn new(limit: usize) -> Store {
        Store {
            data: None,
            limit,
            version: Version::V1,
            imds_compat: false,
            tokens: Tokens::default(),
            counts: Counts::default(),
        }
    }

    #[must_use]
    pub fn data(&self) -> Value {
        self.data.clone().unwrap_or(Value::Object(Map::new()))
    }

    /// # Errors
    /// If it is no object, or larger than the limit.
    pub fn put(&mut self, data: Value) -> Result<(), StoreError> {
        if !data.is_object() {
            return Err(StoreError::NoObject);
        }
        if data.to_string().len() > self.limit {
            return Err(StoreError::TooLarge);
        }
        self.data = Some(data);
        Ok(())
    }

    /// Merges `patch` into the document (RFC 7396). A patch that does not fit changes nothing.
    ///
    /// # Errors
    /// If there is no document yet, or it would become larger than the limit.
    pub fn patch(&mut self, patch: &Value) -> Result<(), StoreError> {
        let mut data = self.data.clone().ok_or(StoreError::Empty)?;
        merge(&mut data, patch);
        self.put(data)
    }

    /// The value at `path` as JSON.
    pub(super) fn json(&self, path: &str) -> Result<String, Absent> {
        self.find(path).map(Value::to_string)
    }

    /// The value at `path` as EC2 shows it: the names of an object, one a line, or the text itself.
    pub(super) fn text(&self, path: &str) -> Result<String, Absent> {
        match self.find(path)? {
            Value::String(text) => Ok(text.clone()),
            Value::Object(fields) => {
                let line = |(name, value): (&String, &Value)| {
                    let slash = if value.is_object() { "/" } else { "" };
                    format!("{name}{slash}")
                };
                Ok(fields.iter().map(line).collect::<Vec<_>>().join("\n"))
            }
            _ => Err(Absent::Type),
        }
    }

    fn find(&self, path: &str) -> Result<&Value, Absent> {
        let data = self.data.as_ref().ok_or(Absent::NotFound)?;
        let pointer: String = path
            .split('/')
            .filter(|name| !name.is_empty())
            .flat_map(|name| ["/", name])
            .collect();
        data.pointer(&pointer).ok_or(Absent::NotFound)
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
    use super::*;
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

    #[test]
    fn paths_lead_to_values_in_both_forms() {
        let mut store = Store::new(1000);
        store
            .put(json!({"a": {"b": "text", "c": {}, "n": 1}}))
            .unwrap();
        assert_eq!(store.text("/a/").unwrap(), "b\nc/\nn");
        assert_eq!(store.text("//a//b").unwrap(), "text");
        assert_eq!(store.text("/a/n"), Err(Absent::Type));
        assert_eq!(store.json("/a/n").unwrap(), "1");
        assert_eq!(store.json("/x"), Err(Absent::NotFound));
    }

    #[test]
    fn a_patch_over_the_limit_changes_nothing() {
        let mut store = Store::new(20);
        assert_eq!(store.patch(&json!({"a": 1})), Err(StoreError::Empty));
        store.put(json!({"a": 1})).unwrap();
        assert_eq!(
            store.patch(&json!({"b": "0123456789012345"})),
            Err(StoreError::TooLarge)
        );
        assert_eq!(store.data(), json!({"a": 1}));
    }
}
