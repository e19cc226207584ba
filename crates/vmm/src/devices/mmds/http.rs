//! The service's requests and answers: GET of a path, PUT for a token. The texts are Firecracker's.
use std::time::Instant;

use super::store::{Absent, Store, Version};

/// Head and body of a request. A GET has no body that matters, a PUT for a token none at all.
pub(super) const MAX_REQUEST: usize = 4096;
const MAX_HEADERS: usize = 32;
const TOKEN_PATH: &str = "/latest/api/token";
const MIN_SECONDS: u32 = 1;
const MAX_SECONDS: u32 = 21_600;
const TOKEN: [&str; 2] = ["X-metadata-token", "X-aws-ec2-metadata-token"];
const SECONDS: [&str; 2] = [
    "X-metadata-token-ttl-seconds",
    "X-aws-ec2-metadata-token-ttl-seconds",
];

/// What stands at the front of a connection's input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More bytes are needed.
    Wait,
    Answer {
        bytes: Vec<u8>,
        /// How much of the input it was about.
        taken: usize,
        closes: bool,
    },
}

struct Answer {
    status: &'static str,
    kind: &'static str,
    body: String,
    more: String,
}

impl Answer {
    fn new(status: &'static str, body: impl Into<String>) -> Answer {
        Answer {
            status,
            kind: "text/plain",
            body: body.into(),
            more: String::new(),
        }
    }

    fn emit(&self, closes: bool) -> Vec<u8> {
        let Answer {
            status,
            kind,
            body,
            more,
        } = self;
        let connection = if closes { "close" } else { "keep-alive" };
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nServer: casemate\r\nConnection: {connection}\r\n{more}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

/// Serves the request at the front of `input`, if it is whole.
pub(super) fn step(input: &[u8], store: &mut Store) -> Step {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let refuse = |status, text: &str| Step::Answer {
        bytes: Answer::new(status, text).emit(true),
        taken: input.len(),
        closes: true,
    };
    let head = match request.parse(input) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if input.len() < MAX_REQUEST => return Step::Wait,
        Ok(_) => return refuse("413 Payload Too Large", "The request is too large."),
        Err(_) => return refuse("400 Bad Request", "The request is not valid HTTP."),
    };
    let has = |name: &str| find(request.headers, &[name]);
    let length = match has("content-length").map_or(Ok(0), str::parse::<usize>) {
        Ok(length) if head + length <= MAX_REQUEST => length,
        _ => return refuse("413 Payload Too Large", "The request is too large."),
    };
    if has("transfer-encoding").is_some() {
        return refuse("400 Bad Request", "Transfer-Encoding is not supported.");
    }
    if input.len() < head + length {
        return Step::Wait;
    }
    let closes = request.version == Some(0)
        || has("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    store.counts.rx_count += 1;
    let path = request.path.unwrap_or_default();
    let answer = match request.method {
        Some("GET") => get(path, request.headers, store),
        Some("PUT") => put(path, request.headers, store),
        _ => Answer {
            more: "Allow: GET, PUT\r\n".to_owned(),
            ..Answer::new("405 Method Not Allowed", "Not allowed HTTP method.")
        },
    };
    Step::Answer {
        bytes: answer.emit(closes),
        taken: head + length,
        closes,
    }
}

fn find<'a>(headers: &'a [httparse::Header<'_>], names: &[&str]) -> Option<&'a str> {
    let is = |header: &&httparse::Header<'_>| {
        names
            .iter()
            .any(|name| header.name.eq_ignore_ascii_case(name))
    };
    headers
        .iter()
        .find(is)
        .and_then(|header| str::from_utf8(header.value).ok())
        .map(str::trim)
}

/// The path of a request line, which may be a whole URL, without its query.
fn path_of(target: &str) -> Option<&str> {
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |at| rest.split_at(at).1),
        None => target,
    };
    let path = path.split('?').next()?;
    path.starts_with('/').then_some(path)
}

fn get(target: &str, headers: &[httparse::Header<'_>], store: &mut Store) -> Answer {
    let Some(path) = path_of(target) else {
        return Answer::new("400 Bad Request", "Invalid URI.");
    };
    if store.version == Version::V2 {
        let Some(token) = find(headers, &TOKEN) else {
            store.counts.rx_no_token += 1;
            return Answer::new(
                "401 Unauthorized",
                "No MMDS token provided. Use `X-metadata-token` or `X-aws-ec2-metadata-token` header to specify the session token.",
            );
        };
        if !store.tokens.is_valid(token, Instant::now()) {
            store.counts.rx_invalid_token += 1;
            return Answer::new("401 Unauthorized", "MMDS token not valid.");
        }
    }
    let accepts_json =
        find(headers, &["accept"]).is_some_and(|value| value.contains("application/json"));
    let wants_json = accepts_json && !store.imds_compat;
    let found = if wants_json {
        store.json(path)
    } else {
        store.text(path)
    };
    match found {
        Ok(body) => Answer {
            kind: if wants_json {
                "application/json"
            } else {
                "text/plain"
            },
            ..Answer::new("200 OK", body)
        },
        Err(Absent::NotFound) => {
            Answer::new("404 Not Found", format!("Resource not found: {path}."))
        }
        Err(Absent::Type) => Answer::new(
            "501 Not Implemented",
            "Cannot retrieve value. The value has an unsupported type.",
        ),
    }
}

fn put(target: &str, headers: &[httparse::Header<'_>], store: &mut Store) -> Answer {
    // A proxy adds this one: the request was not made by the guest itself.
    if find(headers, &["x-forwarded-for"]).is_some() {
        return Answer::new(
            "400 Bad Request",
            "Invalid header. Reason: Unsupported header name. Key: X-Forwarded-For.",
        );
    }
    if path_of(target) != Some(TOKEN_PATH) {
        return Answer::new("404 Not Found", format!("Resource not found: {target}."));
    }
    let Some(seconds) = find(headers, &SECONDS) else {
        return Answer::new(
            "400 Bad Request",
            "Token time to live value not found. Use `X-metadata-token-ttl-seconds` or `X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's lifetime.",
        );
    };
    let valid = seconds
        .parse()
        .ok()
        .filter(|seconds| (MIN_SECONDS..=MAX_SECONDS).contains(seconds));
    let Some(seconds) = valid else {
        return Answer::new(
            "400 Bad Request",
            format!(
                "Invalid time to live value provided for token: {seconds}. Please provide a value between {MIN_SECONDS} and {MAX_SECONDS}."
            ),
        );
    };
    match store.tokens.make(seconds, Instant::now()) {
        Some(token) => Answer {
            more: format!("{}: {seconds}\r\n", SECONDS[0]),
            ..Answer::new("200 OK", token)
        },
        None => Answer::new("503 Service Unavailable", "No token can be made."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn store(version: Version) -> Store {
        let mut store = Store::new(1000);
        store.version = version;
        store.put(serde_json::json!({"a": "b"})).unwrap();
        store
    }

    fn ask(store: &mut Store, request: &str) -> String {
        match step(request.as_bytes(), store) {
            Step::Answer { bytes, .. } => String::from_utf8(bytes).unwrap(),
            Step::Wait => "wait".to_owned(),
        }
    }

    #[test]
    fn version_1_answers_whoever_asks() {
        let mut store = store(Version::V1);
        assert!(ask(&mut store, "GET /a HTTP/1.1\r\n\r\n").ends_with("\r\n\r\nb"));
        assert!(
            ask(
                &mut store,
                "GET /a HTTP/1.1\r\nAccept: application/json\r\n\r\n"
            )
            .ends_with("\"b\"")
        );
        assert!(ask(&mut store, "GET /c HTTP/1.1\r\n\r\n").contains("404"));
        assert!(ask(&mut store, "POST / HTTP/1.1\r\n\r\n").contains("Allow: GET, PUT"));
        assert_eq!(ask(&mut store, "GET /a HTTP/1.1\r\n"), "wait");
    }

    #[test]
    fn version_2_wants_a_token() {
        let mut store = store(Version::V2);
        assert!(ask(&mut store, "GET /a HTTP/1.1\r\n\r\n").contains("401"));
        let put = |seconds: &str, more: &str| {
            format!(
                "PUT /latest/api/token HTTP/1.1\r\nX-metadata-token-ttl-seconds: {seconds}\r\n{more}\r\n"
            )
        };
        for seconds in ["0", "21601", "-1", "x"] {
            assert!(ask(&mut store, &put(seconds, "")).contains("Invalid time to live"));
        }
        assert!(ask(&mut store, &put("60", "X-Forwarded-For: me\r\n")).contains("400"));
        let answer = ask(&mut store, &put("60", ""));
        let token = answer.split("\r\n\r\n").nth(1).unwrap();
        let read = format!("GET /a HTTP/1.1\r\nX-aws-ec2-metadata-token: {token}\r\n\r\n");
        assert!(ask(&mut store, &read).ends_with("\r\n\r\nb"));
        assert!(
            ask(&mut store, "GET /a HTTP/1.1\r\nX-metadata-token: f\r\n\r\n").contains("not valid")
        );
    }

    proptest! {
        #[test]
        fn no_input_panics(input in prop::collection::vec(any::<u8>(), 0..300)) {
            step(&input, &mut store(Version::V2));
        }
    }
}
