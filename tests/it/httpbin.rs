//! httpbin, a Flask application that is a test of HTTP, behind a mount and under gunicorn itself.

use reqwest::Method;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::comparison::{ADDED_HEADERS, Asked, COMPRESSED_HEADERS, Comparison, Seen};
use crate::environment::mounts::served;
use crate::environment::{Application, Node, WebServer};
use crate::mount_processes::{SITES, mount, setup};

/// Requests without a body or a header.
const PATHS: [&str; 69] = [
    "/",
    "/absolute-redirect/2",
    "/anything/a%2Fb/c;d?x=y&x=z&e=%C3%A9",
    "/base64/aGVsbG8%3D",
    "/basic-auth/ann/secret",
    "/bearer",
    "/brotli",
    "/bytes/1000?seed=1",
    "/cache/60",
    "/cookies",
    "/cookies/delete?a&b",
    "/cookies/set/a/b",
    "/cookies/set?a=b&c=d",
    "/deflate",
    "/delay/0.1",
    "/deny",
    "/digest-auth/auth/ann/secret",
    "/drip?duration=0.2&numbytes=5&delay=0",
    "/drip?duration=0.2&numbytes=5&delay=0&code=500",
    "/encoding/utf8",
    "/etag/abc",
    "/forms/post",
    "/get?a=1&a=2&b=%C3%A9",
    "/gzip",
    "/headers",
    "/hidden-basic-auth/ann/secret",
    "/html",
    "/image",
    "/image/jpeg",
    "/image/png",
    "/image/svg",
    "/image/webp",
    "/ip",
    "/json",
    "/links/5",
    "/links/5/2",
    "/nothing",
    "/post",
    "/range/1000",
    "/range/1000?chunk_size=100&duration=0.1",
    "/redirect-to?url=%2Fget",
    "/redirect-to?url=http%3A%2F%2Fa.example%2F&status_code=308",
    "/redirect/1",
    "/redirect/3",
    "/redirect/3?absolute=true",
    "/relative-redirect/3",
    "/response-headers?X-A=1&X-A=2&Content-Type=text/plain",
    "/robots.txt",
    "/static/nothing.css",
    "/status/200",
    "/status/201",
    "/status/204",
    "/status/301",
    "/status/302",
    "/status/304",
    "/status/400",
    "/status/401",
    "/status/402",
    "/status/404",
    "/status/406",
    "/status/407",
    "/status/418",
    "/status/429",
    "/status/500",
    "/status/503",
    "/stream-bytes/1000?seed=1&chunk_size=100",
    "/user-agent",
    "/xml",
    "/a//b/%2e%65",
];

/// Returns requests with bodies, headers and other methods.
fn others() -> Vec<Asked> {
    const FORM: &str = "application/x-www-form-urlencoded";
    let multipart = "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--B\r\nContent-Disposition: \
                     form-data; name=\"f\"; filename=\"f.txt\"\r\nContent-Type: text/plain\r\n\r\ntext of \
                     the file\r\n--B--\r\n";
    let json = "application/json";
    vec![
        Asked::of(Method::POST, "/post?q=1").sending(FORM, "a=1&a=2&b=%C3%A9+c"),
        Asked::of(Method::POST, "/post").sending(json, r#"{"a": [1, null, "é"]}"#),
        Asked::of(Method::POST, "/post").sending("multipart/form-data; boundary=B", multipart),
        Asked::of(Method::POST, "/post").sending("text/plain", "x".repeat(200_000)),
        Asked::of(Method::POST, "/post"),
        Asked::of(Method::PUT, "/put").sending(json, "{}"),
        Asked::of(Method::PATCH, "/patch").sending(FORM, "a=1"),
        Asked::of(Method::DELETE, "/delete").sending(json, "[1]"),
        Asked::of(Method::DELETE, "/delete"),
        Asked::of(Method::POST, "/get"),
        Asked::of(Method::HEAD, "/get"),
        Asked::of(Method::HEAD, "/stream/3"),
        Asked::of(Method::OPTIONS, "/get").with("Origin", "http://a.example"),
        Asked::of(Method::TRACE, "/anything"),
        Asked::of(Method::PUT, "/anything/a").sending("application/octet-stream", "\0\u{1}"),
        Asked::of(Method::POST, "/status/404").sending(FORM, "a=1"),
        Asked::of(Method::POST, "/redirect-to?status_code=307&url=%2Fpost").sending(FORM, "a=1"),
        Asked::of(Method::POST, "/response-headers?X-A=1"),
        Asked::get("/basic-auth/ann/secret").with("Authorization", "Basic YW5uOnNlY3JldA=="),
        Asked::get("/basic-auth/ann/secret").with("Authorization", "Basic YW5uOndyb25n"),
        Asked::get("/bearer").with("Authorization", "Bearer a.b-c"),
        Asked::get("/cookies").with("Cookie", "a=b; c=\"d e\"; f=g=h"),
        Asked::get("/etag/abc").with("If-None-Match", "\"abc\""),
        Asked::get("/etag/abc").with("If-None-Match", "W/\"x\", *"),
        Asked::get("/etag/abc").with("If-Match", "\"x\""),
        Asked::get("/cache").with("If-Modified-Since", "Sun, 29 Nov 2026 08:00:00 GMT"),
        Asked::get("/range/1000").with("Range", "bytes=10-19"),
        Asked::get("/range/1000").with("Range", "bytes=-5"),
        Asked::get("/range/1000").with("Range", "bytes=2000-"),
        Asked::get("/image").with("Accept", "image/webp"),
        Asked::get("/image").with("Accept", "text/plain"),
        Asked::get("/gzip").with("Accept-Encoding", "gzip"),
        Asked::get("/brotli").with("Accept-Encoding", "br"),
        Asked::get("/headers").with("X-Own", "a,b").with("X-Own", "c").with("Accept-Language", "de;q=0.9"),
        Asked::get("/anything").with("Referer", "http://HOST/x").with("Origin", "http://HOST"),
    ]
}

/// Keys of the mount. With this seed, Python writes the methods of `Allow` in the same order in each process.
const KEYS: &str = "processes = 1\nenv = { PYTHONHASHSEED = \"0\" }";
/// The `Host` of all requests.
const NAME: &str = "httpbin.example";

struct Both {
    node: Node,
    gunicorn: WebServer,
    prefix: &'static str,
    comparison: Comparison,
}

impl Both {
    /// Starts httpbin below a path, behind a mount and under gunicorn itself.
    async fn start(prefix: &'static str) -> Self {
        let path = if prefix.is_empty() { "/" } else { prefix };
        let file = mount(path, "wsgi = \"httpbin:app\"", SITES, KEYS);
        let environment: &[(&str, &str)] = &[("SCRIPT_NAME", prefix), ("PYTHONHASHSEED", "0")];
        let application = Application { name: "httpbin:app", directory: SITES, environment };
        let (node, gunicorn) = tokio::join!(setup(&file).start(), WebServer::gunicorn(&application));
        served(&node, &format!("{prefix}/get")).await;
        Self { node, gunicorn, prefix, comparison: Comparison::new() }
    }

    /// Returns the answers of both, behind the mount first. Both have the same name, which httpbin shows also in compressed
    /// answers, and the header with it that a mount adds and httpbin does not hide.
    async fn ask(&self, asked: &Asked) -> [Seen; 2] {
        let mut asked = asked.clone().with("Host", NAME).with("X-Forwarded-Host", NAME);
        asked.path = format!("{}{}", self.prefix, asked.path);
        let (mounted, direct) = tokio::join!(
            self.comparison.ask(self.node.address(), &asked),
            self.comparison.ask(self.gunicorn.address, &asked)
        );
        [mounted, direct]
    }
}

/// Replaces what is new in each answer: identifiers, which are hexadecimal, and times, also that in the head of gzip.
fn settled(mut seen: Seen) -> Seen {
    if seen.body.starts_with(b"\x1f\x8b") {
        seen.body[4..8].fill(0);
    }
    if let Some(times) = seen.headers.get_mut("last-modified") {
        times.iter_mut().for_each(|time| "TIME".clone_into(time));
    }
    for value in seen.headers.values_mut().flatten() {
        let parts = value.split_inclusive(|letter: char| !letter.is_ascii_hexdigit() && letter != '-');
        let is_id = |part: &&str| part.len() >= 30;
        *value = parts.map(|part| if is_id(&part) { "ID" } else { part }).collect();
    }
    seen
}

async fn compare(both: &Both, asked: &Asked) -> Option<String> {
    let [mounted, direct] = both.ask(asked).await.map(settled);
    (mounted != direct).then(|| format!("{asked:?}\n  mount  {mounted:?}\n  direct {direct:?}"))
}

#[tokio::test]
async fn httpbin_answers_behind_a_mount_as_under_gunicorn_itself() {
    for prefix in ["", "/bin"] {
        let both = Both::start(prefix).await;
        let mut differences = Vec::new();
        for asked in PATHS.map(Asked::get).iter().chain(&others()) {
            differences.extend(compare(&both, asked).await);
        }
        assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
        // the headers in these bodies are in another order, and the second one shows all of them
        for path in ["/stream/3", "/headers?show_env=1"] {
            let [mounted, direct] = both.ask(&Asked::get(path)).await;
            assert_eq!(without_added(&mounted), without_added(&direct), "{path}");
            for (header, _) in ADDED_HEADERS.iter().filter(|_| path.ends_with("env=1")) {
                assert!(mounted.text().contains(header), "{header}: {}", mounted.text());
            }
        }
        let [mut mounted, mut direct] = both.ask(&Asked::get("/html").with("Accept-Encoding", "gzip")).await;
        assert!(mounted.header("content-encoding") == "gzip" && mounted.body.len() < direct.body.len());
        for (header, _) in COMPRESSED_HEADERS {
            assert_ne!(mounted.headers.remove(header), direct.headers.remove(header), "{header}");
        }
        assert_eq!((mounted.status, mounted.headers), (direct.status, direct.headers));
    }
}

/// Returns the JSON of an answer that shows all headers of its request, without those that a mount adds.
fn without_added(seen: &Seen) -> Vec<Value> {
    let mut shown: Vec<Value> = serde_json::Deserializer::from_slice(&seen.body)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap_or_else(|error| panic!("{error}: {}", seen.text()));
    for headers in shown.iter_mut().filter_map(|value| value["headers"].as_object_mut()) {
        headers.retain(|name, _| !ADDED_HEADERS.iter().any(|(added, _)| added == name));
    }
    shown
}

fn seen_json(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap_or_else(|error| panic!("{error}: {}", seen.text()))
}

/// Returns the answer to a challenge of digest authentication with SHA-256, and without `qop`.
fn digest(challenge: &str, uri: &str) -> String {
    let value = |name: &str| {
        let (_, rest) = challenge.split_once(&format!("{name}=\"")).expect("a parameter");
        rest.split('"').next().unwrap_or_default().to_owned()
    };
    let hash = |text: String| -> String {
        Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let (realm, nonce, opaque) = (value("realm"), value("nonce"), value("opaque"));
    let (user, method) = (hash(format!("ann:{realm}:secret")), hash(format!("GET:{uri}")));
    let response = hash(format!("{user}:{nonce}:00000001:c:auth:{method}"));
    format!(
        "Digest username=\"ann\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", qop=auth, nc=00000001, \
         cnonce=\"c\", response=\"{response}\", opaque=\"{opaque}\", algorithm=SHA-256"
    )
}

#[tokio::test]
async fn a_digest_login_and_a_chain_of_redirects_with_cookies_end_where_they_should() {
    let both = Both::start("/bin").await;
    let path = "/digest-auth/auth/ann/secret/SHA-256";
    for address in [both.node.address(), both.gunicorn.address] {
        let uri = format!("/bin{path}");
        let challenge = both.comparison.ask(address, &Asked::get(uri.as_str())).await;
        assert_eq!(challenge.status, 401);
        let answer = digest(challenge.header("www-authenticate"), &uri);
        let cookies: Vec<String> =
            ["stale_after", "fake"].iter().filter_map(|name| challenge.cookie(name)).collect();
        let login = Asked::get(uri.as_str()).with("Authorization", answer).with("Cookie", cookies.join("; "));
        let login = both.comparison.ask(address, &login).await;
        assert_eq!(login.status, 200, "{login:?}");
        let (mut path, mut cookie, mut steps) = ("/bin/cookies/set/a/b".to_owned(), None, 0);
        let end = loop {
            let mut asked = Asked::get(path.as_str());
            asked.headers.extend(cookie.clone().map(|cookie| ("Cookie", cookie)));
            let seen = both.comparison.ask(address, &asked).await;
            cookie = seen.cookie("a").or(cookie);
            if seen.status != 302 {
                break seen;
            }
            steps += 1;
            path = seen.header("location").replace("http://HOST", "");
            assert!(path.starts_with("/bin/"), "{path}");
        };
        assert_eq!((steps, end.status), (1, 200));
        assert_eq!(seen_json(&end)["cookies"]["a"], "b");
    }
}
