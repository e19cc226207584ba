//! What of the API Firecracker has given up, and still takes: the answer says so in a header, the log in words.
use serde_json::Value;

use crate::api::http::Request;

/// Method, path, field, and what Firecracker's log says of it.
const FIELDS: [(&str, &str, &str, &str); 5] = [
    (
        "PUT",
        "/vsock",
        "vsock_id",
        "PUT /vsock: vsock_id field is deprecated.",
    ),
    (
        "PUT",
        "/machine-config",
        "cpu_template",
        "PUT /machine-config: cpu_template field is deprecated.",
    ),
    (
        "PATCH",
        "/machine-config",
        "cpu_template",
        "PATCH /machine-config: cpu_template field is deprecated.",
    ),
    (
        "PUT",
        "/snapshot/load",
        "mem_file_path",
        "PUT /snapshot/load: mem_file_path field is deprecated.",
    ),
    (
        "PUT",
        "/snapshot/load",
        "enable_diff_snapshots",
        "PUT /snapshot/load: enable_diff_snapshots field is deprecated.",
    ),
];
const MMDS: &str = "PUT /mmds/config: V1 is deprecated. Use V2 instead.";

/// What there is to say of a request; only of one whose body is an object, whatever else is wrong with it.
pub(crate) fn deprecated(request: &Request) -> Option<&'static str> {
    let path = request.path.trim_end_matches('/');
    let is_here = |&&(method, pattern, ..): &&(&str, &str, &str, &str)| {
        method == request.method && pattern == path
    };
    let is_mmds = request.method == "PUT" && path == "/mmds/config";
    if !is_mmds && !FIELDS.iter().any(|field| is_here(&field)) {
        return None;
    }
    let Ok(Value::Object(body)) = serde_json::from_slice(&request.body) else {
        return None;
    };
    // The default is V1.
    if is_mmds && body.get("version").is_none_or(|version| version == "V1") {
        return Some(MMDS);
    }
    let found = FIELDS.iter().filter(is_here).find(|(_, _, field, _)| {
        body.get(*field)
            .is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false)))
    });
    found.map(|(.., message)| *message)
}
