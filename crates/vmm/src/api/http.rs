//! As much of HTTP/1.1 as a REST client on a Unix socket uses (RFC 9112): requests with a length, connections kept open.
use serde_json::json;

use crate::api::deprecated::deprecated;
use crate::api::{Fault, Reply};

/// A request line and headers longer than this are no client's.
const MAX_HEAD: usize = 8 << 10;
const MAX_HEADERS: usize = 32;

/// What stands at the front of a connection's input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// More bytes are needed. The client waits for a "100 Continue" before it sends its body.
    Partial {
        wants_continue: bool,
    },
    Request(Request),
    /// No request that could be answered in turn: the connection ends after this status.
    Broken {
        status: u16,
        message: &'static str,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
    pub(crate) keeps_open: bool,
    /// How many bytes of the input it took.
    pub(crate) length: usize,
}

/// Reads one request from the front of `input`.
pub(crate) fn parse(input: &[u8], max_body: usize) -> Parsed {
    let broken = |status, message| Parsed::Broken { status, message };
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let head = match request.parse(input) {
        Ok(httparse::Status::Complete(head)) if head <= MAX_HEAD => head,
        Ok(httparse::Status::Partial) if input.len() < MAX_HEAD => {
            return Parsed::Partial {
                wants_continue: false,
            };
        }
        Ok(_) => return broken(431, "The request's headers are too large."),
        Err(httparse::Error::TooManyHeaders) => {
            return broken(431, "The request has too many headers.");
        }
        Err(_) => return broken(400, "The request is not valid HTTP."),
    };
    let framing = match Framing::read(request.headers, request.version == Some(1)) {
        Ok(framing) => framing,
        Err(message) => return broken(400, message),
    };
    if framing.length > max_body {
        return broken(
            413,
            "The request's body is larger than the limit (--http-api-max-payload-size).",
        );
    }
    let end = head + framing.length;
    let Some(body) = input.get(head..end) else {
        return Parsed::Partial {
            wants_continue: framing.wants_continue && input.len() == head,
        };
    };
    Parsed::Request(Request {
        method: request.method.unwrap_or_default().to_owned(),
        path: request.path.unwrap_or_default().to_owned(),
        body: body.to_owned(),
        keeps_open: framing.keeps_open,
        length: end,
    })
}

/// What the headers say about the request's extent.
struct Framing {
    length: usize,
    wants_continue: bool,
    keeps_open: bool,
}

impl Framing {
    fn read(headers: &[httparse::Header<'_>], is_1_1: bool) -> Result<Framing, &'static str> {
        let mut framing = Framing {
            length: 0,
            wants_continue: false,
            keeps_open: is_1_1,
        };
        let mut has_length = false;
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            let value = str::from_utf8(header.value)
                .map_err(|_| "A header is not valid UTF-8.")?
                .trim();
            if is("content-length") {
                // Two lengths are how requests are smuggled (RFC 9112 §6.3); `+1` and the like are no lengths.
                let is_number =
                    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                if has_length || !is_number {
                    return Err("The Content-Length is not one number.");
                }
                has_length = true;
                framing.length = value.parse().unwrap_or(usize::MAX);
            } else if is("transfer-encoding") {
                return Err("Transfer-Encoding is not supported; send a Content-Length.");
            } else if is("expect") {
                framing.wants_continue = value.eq_ignore_ascii_case("100-continue");
            } else if is("connection") {
                framing.keeps_open = framing.keeps_open && !value.eq_ignore_ascii_case("close");
            }
        }
        Ok(framing)
    }
}

pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The bytes of an answer.
pub(crate) fn answer(result: &Result<Reply, Fault>, request: &Request) -> Vec<u8> {
    let (status, body) = match result {
        Ok(Reply::Done) => (204, None),
        Ok(Reply::TooLarge(message)) => (413, Some(fault(message))),
        Ok(Reply::Json(value)) => (200, Some(value.to_string())),
        Err(refused) => (400, Some(fault(&refused.0))),
    };
    let is_deprecated = deprecated(request).is_some();
    emit(status, body, request.keeps_open, is_deprecated)
}

/// For what is no request: the connection ends after it.
pub(crate) fn refusal(status: u16, message: &str) -> Vec<u8> {
    emit(status, Some(fault(message)), false, false)
}

fn fault(message: &str) -> String {
    json!({ "fault_message": message }).to_string()
}

fn emit(status: u16, body: Option<String>, keeps_open: bool, is_deprecated: bool) -> Vec<u8> {
    let reason = match status {
        200 => "OK",
        204 => "No Content",
        413 => "Payload Too Large",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Bad Request",
    };
    let connection = if keeps_open { "keep-alive" } else { "close" };
    let mut answer =
        format!("HTTP/1.1 {status} {reason}\r\nServer: casemate\r\nConnection: {connection}\r\n");
    if is_deprecated {
        answer += "Deprecation: true\r\n";
    }
    // A 204 has neither body nor length (RFC 9110 §8.6).
    if let Some(body) = body {
        answer += &format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
    } else {
        answer += "\r\n";
    }
    answer.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_broken(input: &[u8]) -> bool {
        matches!(parse(input, 100), Parsed::Broken { .. })
    }

    #[test]
    fn a_request_ends_where_its_length_says() {
        let input = b"PUT /vm HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}GET";
        let Parsed::Request(request) = parse(input, 100) else {
            panic!("no request")
        };
        assert_eq!(
            (request.body.as_slice(), request.length),
            (&b"{}"[..], input.len() - 3)
        );
    }

    #[test]
    fn two_lengths_signs_and_chunks_are_refused() {
        assert!(is_broken(
            b"PUT / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"
        ));
        assert!(is_broken(b"PUT / HTTP/1.1\r\nContent-Length: +2\r\n\r\n{}"));
        assert!(is_broken(
            b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        assert!(is_broken(b"PUT / HTTP/1.1\r\nContent-Length: 101\r\n\r\n"));
        assert!(is_broken(&[b'a'; MAX_HEAD]));
    }

    proptest! {
        #[test]
        fn no_input_panics(input in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&input, 100);
        }

        #[test]
        fn input_cut_anywhere_is_partial(cut in 0_usize..43) {
            let whole = b"PUT /vm HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345";
            let is_partial = matches!(parse(&whole[..cut], 100), Parsed::Partial { .. });
            prop_assert!(is_partial);
        }
    }
}
