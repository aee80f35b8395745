//! A Django site with its admin, behind a mount and under gunicorn itself, at `/` and below a path.

use std::net::SocketAddr;
use std::path::Path;

use reqwest::Method;
use serde_json::json;

use crate::comparison::{Asked, Comparison, Seen};
use crate::environment::mounts::served;
use crate::environment::{Application, Node, WebServer, venv};
use crate::mount_processes::{SITES, mount, setup};

/// A style of the admin that the folder of the static rule has.
const STYLE: &str = "/static/admin/css/base.css";
/// A style that is missing in the folder, so that Django sends it.
const MISSING_STYLE: &str = "/static/admin/css/login.css";

/// A browser at one of the two: its cookies, and the token of the last form.
struct Browser<'a> {
    comparison: &'a Comparison,
    address: SocketAddr,
    prefix: &'a str,
    cookies: Vec<String>,
    token: String,
}

impl Browser<'_> {
    async fn get(&mut self, path: &str) -> Seen {
        self.ask(Asked::get(path)).await
    }

    /// Sends a form with the token of the page before.
    async fn submit(&mut self, path: &str, fields: &str) -> Seen {
        let body = format!("csrfmiddlewaretoken={}&{fields}", self.token);
        let asked = Asked::of(Method::POST, path).sending("application/x-www-form-urlencoded", body);
        self.ask(asked.with("Origin", "http://HOST")).await
    }

    async fn ask(&mut self, mut asked: Asked) -> Seen {
        asked.path = format!("{}{}", self.prefix, asked.path);
        let seen = self.comparison.ask(self.address, &asked.with("Cookie", self.cookies.join("; "))).await;
        for name in ["csrftoken", "sessionid", "messages"] {
            if let Some(cookie) = seen.cookie(name) {
                self.cookies.retain(|kept| !kept.starts_with(name));
                self.cookies.push(cookie);
            }
        }
        if let Some((_, rest)) = seen.text().split_once("name=\"csrfmiddlewaretoken\" value=\"") {
            self.token = rest.split('"').next().unwrap_or_default().to_owned();
        }
        self.settled(seen)
    }

    /// Replaces what is new in each session: tokens, and the times in cookies.
    fn settled(&self, mut seen: Seen) -> Seen {
        if !self.token.is_empty() {
            seen.body = seen.text().replace(&self.token, "TOKEN").into_bytes();
        }
        for cookie in seen.headers.get_mut("set-cookie").into_iter().flatten() {
            let mut parts = cookie.split("; ").map(|part| match part.split_once('=') {
                Some((name @ ("csrftoken" | "sessionid" | "messages" | "expires"), _)) => {
                    format!("{name}=NEW")
                }
                _ => part.to_owned(),
            });
            *cookie = parts.by_ref().collect::<Vec<_>>().join("; ");
        }
        for name in ["expires", "last-modified"] {
            seen.headers.entry(name.to_owned()).and_modify(|values| *values = vec!["TIME".to_owned()]);
        }
        seen
    }
}

/// Logs in, adds a group, renames it and logs out, as the pages of the admin do. Returns every answer.
async fn day_at_the_admin(browser: &mut Browser<'_>) -> Vec<Seen> {
    let mut seen = vec![browser.get("/admin/").await, browser.get("/admin/login/?next=/admin/").await];
    let login = "username=ann&password=secret+of+ann&next=/done/";
    let token = std::mem::take(&mut browser.token);
    seen.push(browser.submit("/admin/login/", login).await);
    browser.token = token;
    seen.push(browser.submit("/admin/login/", login).await);
    seen.push(browser.get("/admin/").await);
    seen.push(browser.get("/admin/auth/group/add/").await);
    seen.push(browser.submit("/admin/auth/group/add/", "name=nurses&_save=Save").await);
    seen.push(browser.get("/admin/auth/group/").await);
    seen.push(browser.get("/admin/auth/group/1/change/").await);
    seen.push(browser.submit("/admin/auth/group/1/change/", "name=doctors&_save=Save").await);
    seen.push(browser.get("/admin/auth/group/").await);
    seen.push(browser.get("/admin/auth/group/1").await);
    seen.push(browser.get("/admin/jsi18n/").await);
    seen.push(browser.submit("/admin/logout/", "").await);
    seen.push(browser.get("/admin/").await);
    seen
}

/// Makes a database with a user.
async fn make_database(folder: &Path) {
    let mut command = tokio::process::Command::new(venv().join("bin/python"));
    command.args(["-c", "import clinic"]).current_dir(SITES).env("PYTHONDONTWRITEBYTECODE", "1");
    let made = command.env("CLINIC_DATABASE", folder.join("first.db")).status().await.expect("a Python");
    assert!(made.success(), "the site makes no database: {made}");
}

/// Returns the path of a copy of the database.
fn database(folder: &Path, name: &str) -> String {
    let copy = folder.join(name);
    std::fs::copy(folder.join("first.db"), &copy).expect("a copy");
    copy.display().to_string()
}

/// Starts the site behind a mount with a rule for its static files.
async fn mounted(path: &str, prefix: &str, folder: &Path) -> Node {
    let files = folder.join("static");
    let variables = json!({
        "CLINIC_DATABASE": database(folder, "mounted.db"), "CLINIC_PATH": prefix, "CLINIC_STATIC": files,
    });
    let variables = variables.as_object().expect("variables").iter();
    let variables: Vec<String> = variables.map(|(name, value)| format!("{name} = {value}")).collect();
    let keys = format!(
        "processes = 1\nenv = {{ {} }}\n[[mount.static]]\npath = \"{prefix}/static\"\ndirectory = {}",
        variables.join(", "),
        json!(files)
    );
    let node = setup(&mount(path, "wsgi = \"clinic:application\"", SITES, &keys)).start().await;
    served(&node, &format!("{prefix}/admin/login/")).await;
    node
}

#[tokio::test]
async fn the_admin_of_a_django_site_works_behind_a_mount_as_under_gunicorn_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    make_database(folder.path()).await;
    for (path, prefix) in [("/", ""), ("/shop", "/shop")] {
        let database = database(folder.path(), "direct.db");
        let environment = [("CLINIC_DATABASE", &*database), ("CLINIC_PATH", prefix), ("SCRIPT_NAME", prefix)];
        let application =
            Application { name: "clinic:application", directory: SITES, environment: &environment };
        let (node, gunicorn) =
            tokio::join!(mounted(path, prefix, folder.path()), WebServer::gunicorn(&application));
        let comparison = Comparison::new();
        let browser = |address| Browser {
            comparison: &comparison,
            address,
            prefix,
            cookies: Vec::new(),
            token: String::new(),
        };
        let (mut through, mut direct) = (browser(node.address()), browser(gunicorn.address));
        let (seen, expected) = tokio::join!(day_at_the_admin(&mut through), day_at_the_admin(&mut direct));
        for (step, (seen, expected)) in seen.iter().zip(&expected).enumerate() {
            assert_eq!(seen, expected, "step {step} at {path}");
        }
        let statuses: Vec<u16> = seen.iter().map(|seen| seen.status).collect();
        assert_eq!(statuses, [302, 200, 403, 302, 200, 200, 302, 200, 200, 302, 200, 301, 200, 200, 302]);
        assert_eq!(seen[0].header("location"), format!("{prefix}/admin/login/?next={prefix}/admin/"));
        assert_eq!(seen[3].header("location"), "/done/");
        let pages = [(1, format!("{prefix}{STYLE}")), (4, "Site administration".to_owned())];
        let groups = [(7, "nurses".to_owned()), (10, "doctors".to_owned())];
        for (step, text) in pages.into_iter().chain(groups) {
            assert!(seen[step].text().contains(&text), "{text} in step {step}: {}", seen[step].text());
        }
        static_files(&mut through, &mut direct, &folder.path().join("static")).await;
    }
}

/// A file of the folder comes from the rule, and one that is not there from Django.
async fn static_files(through: &mut Browser<'_>, direct: &mut Browser<'_>, folder: &Path) {
    let (ours, django) = (through.get(STYLE).await, direct.get(STYLE).await);
    assert_eq!((ours.status, django.status), (200, 200));
    assert!(ours.body == django.body && ours.header("content-type").starts_with("text/css"));
    assert!(!ours.header("etag").is_empty() && django.header("etag").is_empty(), "{ours:?}");
    std::fs::remove_file(folder.join("admin/css/login.css")).expect("a file of collectstatic");
    assert_eq!(through.get(MISSING_STYLE).await, direct.get(MISSING_STYLE).await);
    assert_eq!(through.get("/static/nothing.css").await.status, 404);
}
