//! HTTP/1 messages in bytes whose framing is in order.
//!
//! Owns: a second way to find where messages begin and end, beside that of the server. Never: a repair; bytes that are no
//! message are the rest.

use serde_json::{Value, json};

use crate::environment::latin_1;

/// A request or a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// The request line or the status line.
    line: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Message {
    fn word(&self, index: usize) -> &str {
        self.line.split(' ').nth(index).unwrap_or_default()
    }

    /// Returns the method of a request.
    pub(crate) fn method(&self) -> &str {
        self.word(0)
    }

    /// Returns the status of a response.
    pub(crate) fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or_default()
    }

    /// Returns the JSON of the body, if it is any.
    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Returns the target of a request without the scheme and host of a URL, which are those of `Host`.
    pub(crate) fn target(&self) -> String {
        let target = self.word(1);
        if target.starts_with(['/', '*']) {
            return target.to_owned();
        }
        let rest = target.split_once("://").map_or(target, |(_, rest)| rest);
        let target = rest.find(['/', '?']).map_or("", |at| &rest[at..]);
        if target.starts_with('/') { target.to_owned() } else { format!("/{target}") }
    }

    /// Returns a request as a server has to understand it: its method, target, host and body. A request without `Host` is
    /// for the server itself.
    pub(crate) fn understood(&self) -> Value {
        let target = self.target();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let path: Vec<u8> = percent_encoding::percent_decode_str(path).collect();
        json!({
            "method": self.method(),
            "path": latin_1(&path),
            "query": query,
            "host": self.field("host").unwrap_or("localhost"),
            "body": latin_1(&self.body),
        })
    }
}

/// Returns the requests at the start of a stream, and the bytes behind the last one that is complete.
pub(crate) fn requests(bytes: &[u8]) -> (Vec<Message>, &[u8]) {
    messages(bytes, |_, _| true)
}

/// Returns the final responses to requests of these methods, and the bytes behind the last one that is complete.
pub(crate) fn responses<'a>(bytes: &'a [u8], methods: &[&str]) -> (Vec<Message>, &'a [u8]) {
    messages(bytes, |index, message| methods.get(index) != Some(&"HEAD") && message.status() != 304)
}

fn messages(bytes: &[u8], has_body: impl Fn(usize, &Message) -> bool) -> (Vec<Message>, &[u8]) {
    let (mut found, mut rest) = (Vec::new(), bytes);
    while let Some((mut message, behind)) = head(rest) {
        let body =
            if has_body(found.len(), &message) { body(&message, behind) } else { Some((Vec::new(), behind)) };
        let Some((body, behind)) = body else { break };
        message.body = body;
        rest = behind;
        if message.word(1) != "100" {
            found.push(message);
        }
    }
    (found, rest)
}

fn head(bytes: &[u8]) -> Option<(Message, &[u8])> {
    let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = latin_1(&bytes[..end]);
    let mut lines = text.split("\r\n");
    let line = lines.next()?.to_owned();
    let fields = lines.filter_map(|line| line.split_once(':'));
    let fields = fields.map(|(name, value)| (name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    Some((Message { line, fields: fields.collect(), body: Vec::new() }, &bytes[end + 4..]))
}

/// Returns the body of a message and what is behind it. `None` when it has not arrived completely.
fn body<'a>(message: &Message, bytes: &'a [u8]) -> Option<(Vec<u8>, &'a [u8])> {
    if message.field("transfer-encoding").is_some() {
        return chunks(bytes);
    }
    let length: usize = message.field("content-length").unwrap_or("0").parse().ok()?;
    (bytes.len() >= length).then(|| (bytes[..length].to_vec(), &bytes[length..]))
}

fn chunks(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let (line, rest) = line(bytes)?;
        let digits = line.split(|byte| *byte == b';').next()?;
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        bytes = rest;
        if size == 0 {
            break;
        }
        body.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size..)?.strip_prefix(b"\r\n")?;
    }
    loop {
        let (trailer, rest) = line(bytes)?;
        bytes = rest;
        if trailer.is_empty() {
            return Some((body, bytes));
        }
    }
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|window| window == b"\r\n")?;
    Some((&bytes[..end], &bytes[end + 2..]))
}
