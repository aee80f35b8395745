//! Files of a temporary folder, as clients receive them.

mod containment;

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::super::coding::accepted;
use super::*;

/// A folder with a built application, and a secret beside it.
struct Site {
    root: TempDir,
    files: StaticFiles,
}

const SCRIPT: &str = "console.log('a script');\n";
const SECRET: &str = "outside of the folder";

impl Site {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut StaticOptions)) -> Self {
        let root = tempfile::tempdir().unwrap();
        let site = root.path().join("site");
        for (path, content) in [
            ("site/index.html", "<h1>start</h1>"),
            ("site/app.js", SCRIPT),
            ("site/assets/index-DiwrgTda.js", "built"),
            ("site/docs/index.html", "<h1>docs</h1>"),
            ("site/docs/.hidden", SECRET),
            ("site/empty/only.txt", "0123456789"),
            ("site/.env", SECRET),
            ("site/.well-known/security.txt", "Contact"),
            ("site/nothing.txt", ""),
            ("site/100%25 ä.txt", "odd"),
            ("secret.txt", SECRET),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        fs::write(site.join("app.js.br"), "brotli").unwrap();
        fs::write(site.join("app.js.gz"), "gzip!").unwrap();
        symlink(root.path().join("secret.txt"), site.join("link.txt")).unwrap();
        symlink("app.js", site.join("inner.js")).unwrap();
        symlink("..", site.join("up")).unwrap();
        symlink("circle", site.join("circle")).unwrap();
        symlink(root.path().join("secret.txt"), site.join("index.html.br")).unwrap();
        let mut options = StaticOptions { directory: site, fallback: None, cache: Vec::new() };
        change(&mut options);
        Self { root, files: StaticFiles::new(options) }
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.root.path().join("site").join(path)
    }

    async fn request(&self, method: Method, target: &str, fields: &[(&str, &str)]) -> Received {
        receive(&self.files, method, target, fields).await
    }

    /// Requests a file until it is in memory.
    async fn keeps(&self, path: &str) {
        let kept = async {
            while self.files.recent.get(path, &[]).is_none() {
                self.get(path, &[]).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), kept).await.expect("the file is kept");
    }

    async fn get(&self, target: &str, fields: &[(&str, &str)]) -> Received {
        self.request(Method::GET, target, fields).await
    }
}

async fn receive(files: &StaticFiles, method: Method, target: &str, fields: &[(&str, &str)]) -> Received {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let fields = fields.iter();
    let headers = fields.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()));
    let headers: HeaderMap = headers.collect();
    match files.serve(&method, &headers, path, query, &accepted(&headers)).await {
        StaticAnswer::Missing => Received { status: 404, headers: HeaderMap::new(), body: Vec::new() },
        StaticAnswer::File(response) => {
            let (head, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes().to_vec();
            Received { status: head.status.as_u16(), headers: head.headers, body }
        }
    }
}

/// An answer as a whole; `Missing` is 404.
struct Received {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Received {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

#[tokio::test]
async fn a_file_is_served_with_its_type_and_rules_for_caches() {
    let site = Site::new();
    for (name, kind) in [
        ("index.html", "text/html; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.wasm", "application/wasm"),
        ("a.svg", "image/svg+xml"),
        ("a.webmanifest", "application/manifest+json"),
        ("a.js.map", "application/json"),
        ("a.json", "application/json"),
        ("a.xml", "text/xml"),
        ("a.woff2", "font/woff2"),
        ("a.PNG", "image/png"),
        ("a.unknown", "application/octet-stream"),
        ("LICENSE", "application/octet-stream"),
    ] {
        fs::write(site.path(name), "content").unwrap();
        let received = site.get(&format!("/{name}"), &[]).await;
        assert_eq!(
            (received.status, received.text(), received.header("content-type")),
            (200, "content", kind)
        );
        for (header, value) in [
            ("content-length", "7"),
            ("cache-control", "no-cache"),
            ("x-content-type-options", "nosniff"),
            ("accept-ranges", "bytes"),
            ("vary", "accept-encoding"),
            ("content-range", ""),
            ("content-encoding", ""),
        ] {
            assert_eq!(received.header(header), value, "{header} of {name}");
        }
        assert!(received.header("etag").starts_with('"') && !received.header("last-modified").is_empty());
    }
    let built = site.get("/assets/index-DiwrgTda.js", &[]).await;
    assert_eq!(built.header("cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(site.get("/100%2525%20%C3%A4.txt", &[]).await.text(), "odd");
    assert_eq!(site.get("/nothing.txt", &[]).await.header("content-length"), "0");
}

#[tokio::test]
async fn a_rule_of_the_configuration_comes_first() {
    let rule = CacheRule { files: "*.js".into(), value: HeaderValue::from_static("public, max-age=60") };
    let site = Site::with(|options| options.cache.push(rule));
    for path in ["/app.js", "/assets/index-DiwrgTda.js"] {
        assert_eq!(site.get(path, &[]).await.header("cache-control"), "public, max-age=60");
    }
    assert_eq!(site.get("/", &[]).await.header("cache-control"), "no-cache");
}

#[tokio::test]
async fn a_client_that_has_the_file_gets_no_content() {
    let site = Site::new();
    let first = site.get("/app.js", &[]).await;
    let (tag, time) = (first.header("etag"), first.header("last-modified"));
    let listed = format!("\"other\", W/{tag}");
    let future = "Fri, 01 Jan 2100 00:00:00 GMT";
    let past = "Sat, 01 Jan 2000 00:00:00 GMT";
    let unquoted = tag.trim_matches('"');
    let table: [(&[(&str, &str)], u16); 14] = [
        (&[("if-none-match", tag)], 304),
        (&[("if-none-match", &listed)], 304),
        (&[("if-none-match", "*")], 304),
        (&[("if-none-match", unquoted)], 200),
        (&[("if-none-match", "\"other\"")], 200),
        (&[("if-modified-since", time)], 304),
        (&[("if-modified-since", future)], 304),
        (&[("if-modified-since", past)], 200),
        (&[("if-modified-since", "yesterday")], 200),
        (&[("if-none-match", "\"other\""), ("if-modified-since", time)], 200),
        (&[("if-none-match", tag), ("if-modified-since", past)], 304),
        (&[("if-match", tag)], 200),
        (&[("if-match", "\"other\"")], 412),
        (&[("if-unmodified-since", past)], 412),
    ];
    for (fields, status) in table {
        for method in [Method::GET, Method::HEAD] {
            let received = site.request(method.clone(), "/app.js", fields).await;
            assert_eq!(received.status, status, "{method} {fields:?}");
            let has_content = status == 200 && method == Method::GET;
            assert_eq!(received.text(), if has_content { SCRIPT } else { "" }, "{method} {fields:?}");
            if status == 304 {
                assert_eq!(received.header("etag"), tag);
                assert_eq!(received.header("cache-control"), "no-cache");
                assert_eq!(received.header("vary"), "accept-encoding");
            }
        }
    }
    fs::write(site.path("app.js"), "another").unwrap();
    assert_eq!(site.get("/app.js", &[("if-none-match", tag)]).await.text(), "another");
}

#[tokio::test]
async fn a_range_is_a_part_and_nothing_else_is() {
    let site = Site::new();
    let whole = site.get("/empty/only.txt", &[]).await;
    let (tag, time) = (whole.header("etag"), whole.header("last-modified"));
    let weak = format!("W/{tag}");
    type Fields<'a> = &'a [(&'a str, &'a str)];
    let table: [(Fields<'_>, u16, &str, &str); 16] = [
        (&[("range", "bytes=2-4")], 206, "234", "bytes 2-4/10"),
        (&[("range", "bytes=0-0")], 206, "0", "bytes 0-0/10"),
        (&[("range", "bytes=7-")], 206, "789", "bytes 7-9/10"),
        (&[("range", "bytes=-3")], 206, "789", "bytes 7-9/10"),
        (&[("range", "bytes=7-900")], 206, "789", "bytes 7-9/10"),
        (&[("range", "bytes=-900")], 206, "0123456789", "bytes 0-9/10"),
        (&[("range", "bytes=10-")], 416, "", "bytes */10"),
        (&[("range", "bytes=-0")], 416, "", "bytes */10"),
        (&[("range", "bytes=0-1,4-5")], 200, "0123456789", ""),
        (&[("range", "lines=0-1")], 200, "0123456789", ""),
        (&[("range", "bytes=2-4"), ("if-range", tag)], 206, "234", "bytes 2-4/10"),
        (&[("range", "bytes=2-4"), ("if-range", time)], 206, "234", "bytes 2-4/10"),
        (&[("range", "bytes=2-4"), ("if-range", "\"other\"")], 200, "0123456789", ""),
        (&[("range", "bytes=2-4"), ("if-range", &weak)], 200, "0123456789", ""),
        (&[("range", "bytes=2-4"), ("if-range", "Fri, 01 Jan 2100 00:00:00 GMT")], 200, "0123456789", ""),
        (&[("range", "bytes=2-4"), ("if-none-match", tag)], 304, "", ""),
    ];
    for (fields, status, text, part) in table {
        let received = site.get("/empty/only.txt", fields).await;
        assert_eq!(
            (received.status, received.text(), received.header("content-range")),
            (status, text, part),
            "{fields:?}"
        );
        if status < 300 {
            assert_eq!(received.header("content-length"), text.len().to_string());
        }
    }
    let head = site.request(Method::HEAD, "/empty/only.txt", &[("range", "bytes=2-4")]).await;
    assert_eq!((head.status, head.header("content-length"), head.text()), (200, "10", ""));
    let empty = site.get("/nothing.txt", &[("range", "bytes=0-1")]).await;
    assert_eq!((empty.status, empty.header("content-range")), (200, ""));
}

#[tokio::test]
async fn a_large_file_and_its_parts_are_complete() {
    let site = Site::new();
    let content: Vec<u8> = (0..1_000_003_u32).map(|n| (n % 251) as u8).collect();
    fs::write(site.path("large.bin"), &content).unwrap();
    let whole = site.get("/large.bin", &[]).await;
    assert!(whole.body == content && whole.header("content-length") == "1000003");
    let part = site.get("/large.bin", &[("range", "bytes=300000-900000")]).await;
    assert!(part.status == 206 && part.body == content[300_000..=900_000]);
}

#[tokio::test]
async fn a_file_in_memory_is_answered_like_one_on_disk_and_is_never_old() {
    let site = Site::new();
    let conditions: [&[(&str, &str)]; 4] =
        [&[], &[("range", "bytes=1-2")], &[("if-none-match", "*")], &[("accept-encoding", "br")]];
    for content in ["first", "other"] {
        fs::write(site.path("app.js"), content).unwrap();
        assert_eq!(site.get("/app.js", &[]).await.text(), content);
        let another =
            StaticFiles::new(StaticOptions { directory: site.path("."), fallback: None, cache: Vec::new() });
        site.keeps("/app.js").await;
        for fields in conditions {
            for method in [Method::GET, Method::HEAD] {
                let received = site.request(method.clone(), "/app.js", fields).await;
                let fresh = receive(&another, method, "/app.js", fields).await;
                assert_eq!(
                    (received.status, received.text()),
                    (fresh.status, fresh.text()),
                    "{content} {fields:?}"
                );
                assert_eq!(received.headers, fresh.headers, "{content} {fields:?}");
            }
        }
        assert_eq!(site.request(Method::POST, "/app.js", &[]).await.status, 405);
    }
    site.keeps("/app.js").await;
    fs::remove_file(site.path("app.js")).unwrap();
    assert_eq!(site.get("/app.js", &[]).await.status, 404);
    symlink(site.root.path().join("secret.txt"), site.path("app.js")).unwrap();
    assert_eq!(site.get("/app.js", &[]).await.status, 404);
}

#[tokio::test]
async fn the_best_precompressed_neighbour_is_served_with_a_tag_of_its_own() {
    let site = Site::new();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for name in ["app.js", "app.js.br", "app.js.gz"] {
        fs::write(site.path(name), "12345").unwrap();
        fs::File::options().append(true).open(site.path(name)).unwrap().set_modified(time).unwrap();
    }
    let mut tags = Vec::new();
    for (accept, coding) in
        [("", ""), ("gzip", "gzip"), ("gzip, br", "br"), ("br;q=0, gzip", "gzip"), ("zstd", "")]
    {
        let received = site.get("/app.js", &[("accept-encoding", accept)]).await;
        assert_eq!(received.header("content-encoding"), coding, "{accept}");
        assert_eq!(received.header("content-type"), "text/javascript; charset=utf-8");
        assert_eq!(received.header("vary"), "accept-encoding");
        assert_eq!(received.header("last-modified"), "Tue, 14 Nov 2023 22:13:20 GMT");
        let again = [("accept-encoding", accept), ("if-none-match", received.header("etag"))];
        assert_eq!(site.get("/app.js", &again).await.status, 304, "{accept}");
        tags.push(received.header("etag").to_owned());
    }
    assert!(tags[0] == tags[4] && tags[1] == tags[3] && tags[0] != tags[1] && tags[1] != tags[2], "{tags:?}");
    let part = site.get("/app.js", &[("accept-encoding", "br"), ("range", "bytes=0-1")]).await;
    assert_eq!((part.status, part.header("content-encoding")), (206, "br"));
    fs::remove_file(site.path("app.js")).unwrap();
    assert_eq!(site.get("/app.js", &[("accept-encoding", "br")]).await.status, 404, "not without the file");
}

#[tokio::test]
async fn a_folder_is_its_index_and_is_never_listed() {
    let site = Site::new();
    assert_eq!(site.get("/", &[]).await.text(), "<h1>start</h1>");
    assert_eq!(site.get("/docs/", &[]).await.text(), "<h1>docs</h1>");
    let table = [("/docs", "./docs/"), ("/docs?a=1&b=//evil.example", "./docs/?a=1&b=//evil.example")];
    for (target, location) in table {
        for method in [Method::GET, Method::HEAD] {
            let received = site.request(method, target, &[]).await;
            assert_eq!((received.status, received.header("location")), (307, location), "{target}");
        }
    }
    for target in
        ["/empty", "/empty/", "/app.js/", "//docs", "//evil.example", "/docs//", "/docs/index.html/x"]
    {
        assert_eq!(site.get(target, &[]).await.status, 404, "{target}");
    }
}

#[tokio::test]
async fn a_file_is_read_and_not_written() {
    let site = Site::with(|options| options.fallback = Some("index.html".into()));
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        for (target, status, allow) in
            [("/app.js", 405, "GET, HEAD"), ("/docs", 405, "GET, HEAD"), ("/users/7", 404, "")]
        {
            let received = site.request(method.clone(), target, &[]).await;
            assert_eq!((received.status, received.header("allow")), (status, allow), "{method} {target}");
        }
    }
    let head = site.request(Method::HEAD, "/app.js", &[]).await;
    assert_eq!((head.status, head.text(), head.header("content-length")), (200, "", "25"));
}

#[tokio::test]
async fn a_page_of_the_application_is_the_fallback_and_a_missing_script_is_missing() {
    let site = Site::with(|options| options.fallback = Some("index.html".into()));
    let browser = [("accept", "text/html,application/xhtml+xml,*/*;q=0.8")];
    for target in ["/users/7", "/users/", "/empty/", "/empty", "/v1.2/users?page=2"] {
        let received = site.get(target, &browser).await;
        assert_eq!((received.status, received.text()), (200, "<h1>start</h1>"), "{target}");
        assert_eq!(received.header("cache-control"), "no-cache");
        assert_eq!(received.header("content-type"), "text/html; charset=utf-8");
        let again = [browser[0], ("if-none-match", received.header("etag"))];
        assert_eq!(site.get(target, &again).await.status, 304, "{target}");
    }
    for target in ["/app2.js", "/users/7.json", "/.env", "//users"] {
        assert_eq!(site.get(target, &browser).await.status, 404, "{target}");
    }
    assert_eq!(site.get("/users/7", &[("accept", "application/json")]).await.status, 404);
    assert_eq!(site.request(Method::HEAD, "/users/7", &browser).await.status, 200);
    let outside = Site::with(|options| options.fallback = Some("../secret.txt".into()));
    assert_eq!(outside.get("/users/7", &browser).await.status, 404, "a fallback outside of the folder");
}
