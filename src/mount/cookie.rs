//! The cookies of a request. Pure.
//!
//! Owns: how one is found. Never: their meaning.

use http::{HeaderMap, header};

/// Returns the value of the first cookie of this name, without the quotes around it.
pub(crate) fn cookie_value<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == wanted).then(|| value.trim_matches('"')))
}
