//! A program that runs a node with a handler and a service of its own, beside the mounts of its configuration.
//!
//! `cargo run --example embedded` serves <http://127.0.0.1:8080/admin/hello>. A program with a `main` of its own calls
//! [`App::start`] instead of [`App::main`].

use std::process::ExitCode;

use axum::Router;
use axum::routing::get;
use pagewire::{App, Ctx, Fail, OwnMount};

/// As in a `pagewire.toml`, which overrides it.
const CONFIGURATION: &str = r#"
[[mount]]
path = "/shop"
http = "http://127.0.0.1:3000"
"#;

async fn double(_: Ctx, number: f64) -> Result<f64, Fail> {
    Ok(2.0 * number)
}

fn main() -> ExitCode {
    let routes = Router::new().route("/hello", get(async || "hello"));
    let admin = OwnMount::new("/admin", Router::new().nest("/admin", routes)).max_body(1 << 20);
    App::new().handler("double", double).mount(admin).configuration(CONFIGURATION).main()
}
