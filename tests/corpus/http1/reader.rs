//! Reads the files of this folder. Included by the unit tests of the package and by its integration tests.

/// A line of a file.
pub(crate) struct CorpusCase {
    pub(crate) name: String,
    pub(crate) expectation: String,
    pub(crate) stream: Vec<u8>,
}

/// Returns the requests that are refused, with the word of the reason.
pub(crate) fn refused() -> Vec<CorpusCase> {
    cases(include_str!("refused.txt"))
}

/// Returns the requests that are accepted, with the number of requests in the stream.
pub(crate) fn accepted() -> Vec<CorpusCase> {
    cases(include_str!("accepted.txt"))
}

fn cases(file: &str) -> Vec<CorpusCase> {
    let lines = file.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let mut parts = line.splitn(3, " | ").map(str::to_owned);
            let mut part = || parts.next().unwrap_or_else(|| panic!("name | expectation | bytes: {line}"));
            let (name, expectation, escaped) = (part(), part(), part());
            CorpusCase { name, expectation, stream: bytes(&escaped) }
        })
        .collect()
}

/// Returns the bytes of an escaped text.
fn bytes(escaped: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = escaped;
    while let Some(at) = rest.find(['\\', '{']) {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        if let Some(repeated) = rest.strip_prefix('{') {
            let (repeated, behind) = repeated.split_once('}').expect("a closing brace");
            let (times, text) = repeated.split_once('*').expect("{N*text}");
            bytes.extend(self::bytes(text).repeat(times.parse().expect("a number")));
            rest = behind;
            continue;
        }
        let (byte, length) = match rest.as_bytes()[1] {
            b'r' => (b'\r', 2),
            b'n' => (b'\n', 2),
            b't' => (b'\t', 2),
            b'0' => (0, 2),
            b'\\' => (b'\\', 2),
            b'x' => (u8::from_str_radix(&rest[2..4], 16).expect("two hexadecimal digits"), 4),
            other => panic!("an unknown escape: \\{}", char::from(other)),
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
