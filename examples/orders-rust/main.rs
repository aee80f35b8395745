//! Orders: a small board in Rust. Its handlers, its web site and the whole command line of Pagewire are one program.

mod orders;
mod site;

use std::process::ExitCode;
use std::time::Duration;

use pagewire::{App, OwnMount};

/// What this program wants to have otherwise than by default. `pagewire.toml` and the environment override it.
const CONFIGURATION: &str = "welcome = false";

fn main() -> ExitCode {
    App::new()
        .handler("list_orders", orders::list_orders)
        .handler("add_order", orders::add_order)
        .handler("move_order", orders::move_order)
        .blocking("report", orders::report)
        .retries(3)
        .timeout(Duration::from_secs(120))
        .mount(OwnMount::new("/", site::routes()))
        .configuration(CONFIGURATION)
        .main()
}
