//! A view of the cluster alone in a process: what it adds to a node's memory per page.

use std::io;
use std::time::Duration;

use pagewire_cluster::id::{Address, Key, NodeNumber};
use pagewire_cluster::registry::{Row, View};

use super::measure;
use super::order::Answer;

#[derive(clap::Args)]
pub(super) struct Options {
    /// Rows to keep.
    #[arg(long)]
    pages: u64,
}

/// Tells how much this process has grown with the view.
pub(super) fn run(options: &Options) -> io::Result<()> {
    let own = std::process::id();
    let before = measure::rss(own)?;
    let mut view = View::default();
    for number in 1..=options.pages {
        let Some(node) = NodeNumber::new(1) else { return Err(io::Error::other("1 is a node number")) };
        let at = || Address { key: Key::random(), node };
        let row = Row {
            node,
            epoch: 1,
            generation: 1,
            prev: None,
            session: at(),
            connection: at(),
            user: Some(user(number)),
            lane: "stable".to_owned(),
            release: "dev".to_owned(),
            opened: number,
            agent: String::new(),
        };
        view.put_page(Key::random(), number, row);
    }
    let bytes = settled(own)?.saturating_sub(before);
    // asked after the measurement, so that the view is still there; its node never lived
    let pages = view.dead().len();
    Answer::Grown { bytes, pages }.tell()
}

/// The allocator returns what it has no use for with a delay, and only while it is in use.
fn settled(own: u32) -> io::Result<u64> {
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(10));
        let pages: Vec<Box<[u8; 512]>> = (0..64).map(|_| Box::new([1; 512])).collect();
        drop(pages);
    }
    measure::rss(own)
}

/// The user of a page, each its own.
pub(super) fn user(number: u64) -> String {
    format!("bench-{number:06}")
}
