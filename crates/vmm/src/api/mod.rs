//! Firecracker's REST API on a Unix socket.
pub(crate) mod deprecated;
pub(crate) mod http;
pub(crate) mod model;
pub(crate) mod routes;
pub(crate) mod server;
pub(crate) mod socket;

use serde_json::Value;

/// Why a request was refused; sent as `{"fault_message": ...}` with status 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Fault(pub(crate) String);

impl Fault {
    pub(crate) fn new(message: impl Into<String>) -> Fault {
        Fault(message.into())
    }

    /// Says first what the reason is about, in Firecracker's words.
    pub(crate) fn about(topic: &str) -> impl Fn(Fault) -> Fault + '_ {
        move |reason| Fault(format!("{topic} error: {reason}"))
    }

    /// For what the API has and this version of the monitor does not.
    pub(crate) fn missing(what: &str) -> Fault {
        Fault(format!(
            "{what} is not supported by this version of the monitor."
        ))
    }
}

impl From<crate::machine::MachineError> for Fault {
    fn from(error: crate::machine::MachineError) -> Fault {
        Fault(error.to_string())
    }
}

/// A request that went well.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    /// 204.
    Done,
    /// 200 with a body.
    Json(Value),
    /// 413: a refusal, but not one of the request's form.
    TooLarge(String),
}

impl Reply {
    pub(crate) fn json(value: &impl serde::Serialize) -> Result<Reply, Fault> {
        serde_json::to_value(value)
            .map(Reply::Json)
            .map_err(|error| Fault(error.to_string()))
    }
}
