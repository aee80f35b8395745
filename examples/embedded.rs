//! A program that runs a node and mounts services of its own, beside the mounts of its configuration.
//!
//! `cargo run --example embedded` serves <http://127.0.0.1:8080/admin/hello>.

use std::error::Error;
use std::process::ExitCode;

use axum::Router;
use axum::routing::get;
use pagewire::config::{MountConfig, Sources, load};
use pagewire::mount::OwnMount;
use pagewire::roles::run_with;
use pagewire_cluster::timing::Timing;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    // above each child process, for example of a mount with wsgi, there is a process of this binary
    if let Some(code) = pagewire::cli::run_guard() {
        return Ok(code);
    }
    tokio::runtime::Runtime::new()?.block_on(serve())?;
    Ok(ExitCode::SUCCESS)
}

async fn serve() -> Result<(), Box<dyn Error>> {
    // pagewire.toml and the environment, as for `pagewire serve`
    let mut config = load(&Sources::of_process(None, Vec::new()))?;
    config.mount.push(MountConfig {
        path: "/shop".to_owned(),
        http: "http://127.0.0.1:3000".to_owned(),
        ..MountConfig::default()
    });
    let routes = Router::new().route("/hello", get(async || "hello"));
    let admin = OwnMount::new("/admin", Router::new().nest("/admin", routes)).max_body(1 << 20);
    let stop = async {
        // an error means that the system has no signals: the program then runs until it is killed
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    };
    run_with(config, vec![admin], Timing::PRODUCTION, stop).await?;
    Ok(())
}
