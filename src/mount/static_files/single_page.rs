//! Which requests for a missing file are for a page of a single-page application.
//!
//! Owns: that decision, pure. Never: the page itself.

use http::header::{self, HeaderMap};

use super::file_path::FilePath;
use crate::mount::coding::weighted;

/// Whether the request may be answered with the application's page: the client takes HTML, and the last name has no
/// extension. A missing `/app.js` must be 404, because a browser would report HTML as a script with a syntax error.
pub(super) fn wants_page(headers: &HeaderMap, path: &FilePath) -> bool {
    let has_extension = path.name().is_some_and(|name| name.contains('.'));
    (path.names_folder || !has_extension) && takes_html(headers)
}

/// Whether the client takes HTML. A browser names it when it navigates; what its scripts, styles and `fetch` ask for has
/// `Sec-Fetch-Dest` and takes any type, which does not mean a page. Programs, which take any type and have no such
/// header, get the page.
fn takes_html(headers: &HeaderMap) -> bool {
    let fields = || {
        let values = headers.get_all(header::ACCEPT).iter();
        values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')).map(weighted)
    };
    let weight =
        |range: &str| fields().find(|(name, _)| name.eq_ignore_ascii_case(range)).map(|(_, q)| q > 0);
    weight("text/html").unwrap_or_else(|| {
        let takes_any = || weight("text/*").or_else(|| weight("*/*")).unwrap_or(false);
        let is_part_of_page = headers.contains_key("sec-fetch-dest");
        !is_part_of_page && (!headers.contains_key(header::ACCEPT) || takes_any())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_client_that_takes_html_gets_a_page() {
        let table: [(&[(&str, &str)], bool); 10] = [
            (&[], true),
            (&[("accept", "text/html,application/xhtml+xml,*/*;q=0.8")], true),
            (&[("accept", "text/html"), ("sec-fetch-dest", "document")], true),
            (&[("accept", "*/*")], true),
            (&[("accept", "text/*;q=0.1")], true),
            (&[("accept", "*/*"), ("sec-fetch-dest", "empty")], false),
            (&[("accept", "text/css,*/*;q=0.1"), ("sec-fetch-dest", "style")], false),
            (&[("accept", "application/json")], false),
            (&[("accept", "text/html;q=0, */*")], false),
            (&[("accept", "image/avif,image/webp")], false),
        ];
        for (fields, expected) in table {
            let path = FilePath::parse("/users/7").unwrap();
            assert_eq!(wants_page(&headers(fields), &path), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_name_with_an_extension_is_a_file() {
        let table =
            [("/", true), ("/users", true), ("/users/", true), ("/v1.2/users", true), ("/app.js", false)];
        for (path, expected) in table {
            let path = FilePath::parse(path).unwrap();
            assert_eq!(wants_page(&HeaderMap::new(), &path), expected, "{path:?}");
        }
    }
}
