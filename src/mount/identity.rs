//! Whom a request is from, as the processes of an application learn it. Pure.
//!
//! Owns: the headers that name the user, the browser and the page of a request. Never: whether its token is valid (`edge`),
//! or whether the page is the user's, which the process asks when it needs to know.
//!
//! No client can set these headers, because those of a client are removed first (`forward`).

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, Uri};
use pagewire_cluster::id::Key;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::unit::{Browser, named_page};
use crate::config::{MountApplication, MountConfig};

/// The user whom the token of the request proves, with each byte encoded that is no letter or digit of ASCII.
const USER: HeaderName = HeaderName::from_static("x-pagewire-user");
/// The browser, by its cookie.
const CONNECTION: HeaderName = HeaderName::from_static("x-pagewire-connection");
/// The page that the request names, which proves nothing.
const PAGE: HeaderName = HeaderName::from_static("x-pagewire-page");

/// Whom a request is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SenderIdentity {
    user: Option<Arc<str>>,
    connection: Option<Key>,
    page: Option<Key>,
}

/// Returns whether the application of a mount learns whom its requests are from: one of WSGI, whose server is part of
/// Pagewire and takes the headers out again.
pub(super) fn knows_identity(mount: &MountConfig) -> bool {
    matches!(mount.process.application(), Some(MountApplication::Wsgi(_)))
}

impl SenderIdentity {
    /// Reads the head of a request as its client has sent it. `browser` is known if the mount gives browsers their cookie.
    pub(super) fn of<B>(request: &Request<B>, user: Option<Arc<str>>, browser: Option<Browser>) -> Self {
        let (headers, uri): (&HeaderMap, &Uri) = (request.headers(), request.uri());
        let connection = browser.map_or_else(|| Browser::known(headers), |browser| Some(browser.connection));
        Self { user, connection, page: named_page(headers, uri).map(|(page, _)| page) }
    }

    /// Adds the headers to the head for a process.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        let user = self.user.as_deref().map(|user| utf8_percent_encode(user, NON_ALPHANUMERIC).to_string());
        let (connection, page) =
            (self.connection.map(|key| key.to_string()), self.page.map(|key| key.to_string()));
        for (name, value) in [(USER, user), (CONNECTION, connection), (PAGE, page)] {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
                headers.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_ID: &str = "0123456789abcdefghABCD";

    #[test]
    fn a_process_learns_the_user_the_browser_and_the_page_of_a_request() {
        let cookie = format!("a=1; pagewire_connection={PAGE_ID}");
        let request =
            Request::get(format!("/x?page_id={PAGE_ID}%7Cp02")).header("cookie", cookie).body(()).unwrap();
        let mut headers = HeaderMap::new();
        SenderIdentity::of(&request, Some("ann@ä b".into()), None).add_to(&mut headers);
        assert_eq!(headers["x-pagewire-user"], "ann%40%C3%A4%20b");
        assert_eq!(headers["x-pagewire-connection"], PAGE_ID);
        assert_eq!(headers["x-pagewire-page"], PAGE_ID);
    }

    #[test]
    fn a_request_that_names_nothing_adds_no_header_and_a_new_browser_has_its_cookie_at_once() {
        let request = Request::get("/").body(()).unwrap();
        let mut headers = HeaderMap::new();
        SenderIdentity::of(&request, None, None).add_to(&mut headers);
        assert!(headers.is_empty());
        let browser = Browser::of(request.headers());
        SenderIdentity::of(&request, None, Some(browser)).add_to(&mut headers);
        assert_eq!(headers["x-pagewire-connection"], browser.connection.to_string());
    }
}
