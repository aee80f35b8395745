//! Content codings: which of them a client accepts.
//!
//! Owns: the codings that Pagewire produces, and the order in which a client prefers them. Never: which answers are
//! compressed (`compression`, `static_files`).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// A content coding that Pagewire produces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Coding {
    /// Brotli, which makes text about a fifth smaller than gzip does.
    Brotli,
    /// Gzip, which every client knows.
    Gzip,
}

/// The codings in the order of the server: the first one that a client accepts equally is used.
const PREFERENCE: [Coding; 2] = [Coding::Brotli, Coding::Gzip];

impl Coding {
    /// The value of `Content-Encoding`.
    pub(crate) const fn header_value(self) -> HeaderValue {
        HeaderValue::from_static(self.token())
    }

    /// The extension of a precompressed file, which is added to the file's name.
    pub(crate) const fn extension(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Gzip => ".gz",
        }
    }

    const fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    fn is_named(self, name: &str) -> bool {
        name.eq_ignore_ascii_case(self.token()) || (self == Self::Gzip && name.eq_ignore_ascii_case("x-gzip"))
    }
}

/// Returns the codings that the client accepts and prefers to an uncoded answer, the best one first. A request without
/// `Accept-Encoding` gets an uncoded answer.
pub(crate) fn accepted(headers: &HeaderMap) -> Vec<Coding> {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let fields: Vec<_> = values.flat_map(|text| text.split(',')).map(weighted).collect();
    if fields.is_empty() {
        return Vec::new();
    }
    let weight =
        |is_named: &dyn Fn(&str) -> bool| fields.iter().find(|(name, _)| is_named(name)).map(|(_, q)| *q);
    let any = weight(&|name| name == "*");
    let uncoded = weight(&|name| name.eq_ignore_ascii_case("identity")).unwrap_or(0);
    let weights =
        PREFERENCE.map(|coding| (coding, weight(&|name: &str| coding.is_named(name)).or(any).unwrap_or(0)));
    let mut usable: Vec<_> = weights.into_iter().filter(|(_, q)| *q > 0 && *q >= uncoded).collect();
    // the sort is stable, so equal weights keep the order of the server
    usable.sort_by_key(|(_, q)| std::cmp::Reverse(*q));
    usable.into_iter().map(|(coding, _)| coding).collect()
}

/// Splits `name;q=0.5` of an `Accept` or `Accept-Encoding` field into the name and the weight in thousandths. Other
/// parameters are ignored; a weight that is no number counts as 0.
pub(crate) fn weighted(field: &str) -> (&str, u32) {
    let mut parts = field.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let weight = weight.map_or(1.0, |text| text.parse::<f32>().unwrap_or(0.0));
    (name, (weight.clamp(0.0, 1.0) * 1000.0) as u32)
}

/// Adds a name to `Vary`, unless it is listed.
pub(crate) fn add_vary(headers: &mut HeaderMap, name: HeaderName) {
    let values = headers.get_all(header::VARY).iter().filter_map(|value| value.to_str().ok());
    let mut listed = values.flat_map(|text| text.split(',')).map(str::trim);
    if !listed.any(|listed| listed == "*" || listed.eq_ignore_ascii_case(name.as_str())) {
        headers.append(header::VARY, name.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_accepted_coding_is_first() {
        use Coding::{Brotli, Gzip};
        let table: [(&str, &[Coding]); 14] = [
            ("", &[]),
            ("gzip", &[Gzip]),
            ("x-gzip", &[Gzip]),
            ("gzip, deflate, br, zstd", &[Brotli, Gzip]),
            ("GZIP;q=1.0, BR;q=0.5", &[Gzip, Brotli]),
            ("br;q=0, gzip", &[Gzip]),
            ("br;q=0.000", &[]),
            ("*", &[Brotli, Gzip]),
            ("br;q=0, *;q=0.5", &[Gzip]),
            ("*;q=0", &[]),
            ("identity, br;q=0.5", &[]),
            ("identity;q=0.5, gzip;q=0.8", &[Gzip]),
            ("deflate, zstd", &[]),
            ("gzip;q=many", &[]),
        ];
        for (accept, expected) in table {
            let mut headers = HeaderMap::new();
            if !accept.is_empty() {
                headers.insert(header::ACCEPT_ENCODING, accept.parse().unwrap());
            }
            assert_eq!(accepted(&headers), expected, "{accept}");
        }
    }

    #[test]
    fn a_name_is_in_vary_once() {
        let table = [
            ("", "accept-encoding"),
            ("Cookie", "Cookie, accept-encoding"),
            ("Cookie, Accept-Encoding", "Cookie, Accept-Encoding"),
            ("*", "*"),
        ];
        for (before, expected) in table {
            let mut headers = HeaderMap::new();
            if !before.is_empty() {
                headers.insert(header::VARY, before.parse().unwrap());
            }
            add_vary(&mut headers, header::ACCEPT_ENCODING);
            let all: Vec<_> = headers.get_all(header::VARY).iter().map(|v| v.to_str().unwrap()).collect();
            assert_eq!(all.join(", "), expected);
        }
    }
}
