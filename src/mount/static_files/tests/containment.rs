//! No request reads a file outside of the folder, or a hidden one.

use proptest::prelude::*;

use super::*;

#[tokio::test]
async fn hidden_files_and_links_that_leave_the_folder_are_missing() {
    let site = Site::with(|options| options.fallback = Some("index.html".into()));
    for target in [
        "/.env",
        "/%2eenv",
        "/docs/.hidden",
        "/link.txt",
        "/up/secret.txt",
        "/up/site/app.js/",
        "/circle",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/docs/..%5c..%5csecret.txt",
        "/%252e%252e/secret.txt",
        "/app.js%00",
        &format!("/{}", "a".repeat(5000)),
        &format!("/{}x.js", "a/".repeat(3000)),
    ] {
        let received = site.get(target, &[("accept", "application/json")]).await;
        assert_eq!(received.status, 404, "{target}");
    }
    assert_eq!(site.get("/inner.js", &[]).await.text(), SCRIPT, "a link inside the folder");
    assert_eq!(site.get("/up/site/app.js", &[]).await.text(), SCRIPT, "a way out and back in");
    assert_eq!(site.get("/.well-known/security.txt", &[]).await.text(), "Contact");
    let page = site.get("/", &[("accept-encoding", "br")]).await;
    assert_eq!(
        (page.text(), page.header("content-encoding")),
        ("<h1>start</h1>", ""),
        "a neighbour is a link"
    );
}

#[tokio::test]
async fn a_folder_may_be_a_link_and_may_be_replaced() {
    let site = Site::new();
    let current = site.root.path().join("current");
    symlink(site.path("docs"), &current).unwrap();
    let options = StaticOptions { directory: current.clone(), fallback: None, cache: Vec::new() };
    let files = StaticFiles::new(options);
    let site = Site { root: site.root, files };
    assert_eq!(site.get("/", &[]).await.text(), "<h1>docs</h1>");
    fs::remove_file(&current).unwrap();
    assert_eq!(site.get("/", &[]).await.status, 404, "between two releases");
    symlink(site.path("."), &current).unwrap();
    assert_eq!(site.get("/", &[]).await.text(), "<h1>start</h1>");
    assert_eq!(site.get("/inner.js", &[]).await.text(), SCRIPT);
    assert_eq!(site.get("/up/secret.txt", &[]).await.status, 404);
}

#[test]
fn no_path_reads_a_file_outside_of_the_folder() {
    let site = Site::with(|options| options.fallback = Some("index.html".into()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let part = prop::sample::select(vec![
        "/",
        "//",
        ".",
        "..",
        "%2e",
        "%2E%2e",
        "%2f",
        "%5c",
        "\\",
        "%00",
        "%252e",
        "secret.txt",
        "link.txt",
        "up",
        "site",
        "docs",
        "app.js",
        ".hidden",
        "circle",
        "%c0%ae",
        ";",
        "~",
        "C:",
        "index.html",
        "?",
        "#",
        " ",
    ]);
    let paths = prop::collection::vec(part, 0..10).prop_map(|parts| format!("/{}", parts.concat()));
    proptest!(|(path in paths)| {
        for coding in ["", "br, gzip"] {
            let received = runtime.block_on(site.get(&path, &[("accept-encoding", coding)]));
            prop_assert!(received.body != SECRET.as_bytes(), "{path:?}");
        }
    });
    assert!(site.root.path().join("secret.txt").exists());
}
