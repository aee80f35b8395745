//! Measures a registry view alone in a process: its memory per page and the time of its queries.

use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

use pagewire_cluster::id::{Address, Key, NodeNumber, Scope};
use pagewire_cluster::lease::NodeRow;
use pagewire_cluster::registry::{PageRow, View};

use crate::helper_protocol::HelperResponse;
use crate::measure;

/// Number of times that each query runs; the median counts.
const SAMPLES: usize = 101;
/// Number of entries in one page of a list.
const PIECE: usize = 1000;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of rows in the view.
    #[arg(long)]
    pages: u64,
    /// Number of nodes that hold the pages.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    nodes: u16,
    /// Number of pages in one session, beside the others; if set, queries are measured too.
    #[arg(long)]
    crowd: Option<u64>,
}

/// Reports how much this process has grown with the view, then the time of each query.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    let own = std::process::id();
    let before = measure::rss(own)?;
    let mut view = View::default();
    let nodes: Vec<NodeNumber> = (1..=options.nodes).filter_map(NodeNumber::new).collect();
    for node in &nodes {
        drop(view.put_node(*node, 1, NodeRow::default()));
    }
    let node = |number: u64| nodes[number as usize % nodes.len()];
    let started = Instant::now();
    for number in 1..=options.pages {
        drop(view.put_page(Key::random(), number, row(number, node(number), user(number))));
    }
    let filled = started.elapsed();
    let bytes = settled(own)?.saturating_sub(before);
    HelperResponse::Grown { bytes, pages: view.stats().total.pages }.send()?;
    let Some(crowd) = options.crowd else { return Ok(()) };
    let alone = restart(&mut view, nodes[0]);
    let session = Address { key: Key::random(), node: nodes[0] };
    for number in 1..=crowd {
        let row = PageRow { session, ..row(number, node(number), "crowd".to_owned()) };
        drop(view.put_page(Key::random(), options.pages + number, row));
    }
    let mut times =
        vec![("filling it, per row".to_owned(), filled.as_secs_f64() * 1e6 / options.pages as f64)];
    times.extend(queries(&mut view, options, session, &nodes));
    times.push(("a node goes and comes, with all its pages".to_owned(), alone));
    times.push(("the same, with its share of the crowd".to_owned(), restart(&mut view, nodes[0])));
    HelperResponse::Timed { times }.send()
}

/// Returns the row of a page with its own session and connection.
pub(crate) fn row(number: u64, node: NodeNumber, user: String) -> PageRow {
    let at = || Address { key: Key::random(), node };
    PageRow {
        node,
        epoch: 1,
        generation: 1,
        prev: None,
        session: at(),
        connection: at(),
        user: Some(user),
        pins: Default::default(),
        resident: None,
        placed: 0,
        topics: Vec::new(),
        lane: "stable".to_owned(),
        release: "dev".to_owned(),
        opened: number,
        agent: String::new(),
    }
}

/// Returns the time of each query in microseconds.
fn queries(view: &mut View, options: &Options, session: Address, nodes: &[NodeNumber]) -> Vec<(String, f64)> {
    let middle = user(options.pages / 2);
    let (one, crowd) = (Scope::User(middle.clone()), Scope::User("crowd".to_owned()));
    let half = view.pages_after(session.key, None).nth(PIECE).map(|(key, _)| key);
    let mut times = Vec::new();
    let mut measure = |name: &str, times_of: f64| times.push((name.to_owned(), times_of));
    measure("all counts", timed(|| view.stats()));
    measure("is a user online", timed(|| view.user(&middle).is_some()));
    let users = || view.users_after(Some(&middle)).take(PIECE).map(|seen| seen.pages).collect::<Vec<_>>();
    measure("1,000 users from the middle", timed(users));
    measure("a user's sessions", timed(|| view.sessions_of_user(&middle, None).collect::<Vec<_>>()));
    measure("the nodes of a user", timed(|| view.holders(&one)));
    let piece = || view.pages_after(session.key, half).take(PIECE).map(|(key, _)| key).collect::<Vec<_>>();
    measure("1,000 pages of the crowd", timed(piece));
    measure("the crowd's counts", timed(|| view.user("crowd").is_some()));
    measure("the nodes of the crowd", timed(|| view.candidate_holders(&crowd)));
    let mut rev = u64::MAX / 2;
    let mut come_and_go = |row: &dyn Fn() -> PageRow| {
        timed(|| {
            rev += 1;
            let key = Key::random();
            drop(view.put_page(key, rev, row()));
            drop(view.delete_page(key));
        })
    };
    measure("a page comes and goes", come_and_go(&|| row(1, nodes[0], "one-user".to_owned())));
    let joins = || PageRow { session, ..row(1, nodes[0], "crowd".to_owned()) };
    measure("one of the crowd comes and goes", come_and_go(&joins));
    times
}

/// Measures how long a node takes to leave and return with all its pages, in microseconds.
fn restart(view: &mut View, node: NodeNumber) -> f64 {
    let started = Instant::now();
    drop(view.delete_node(node));
    drop(view.put_node(node, 1, NodeRow::default()));
    started.elapsed().as_secs_f64() * 1e6
}

fn timed<T>(mut measure: impl FnMut() -> T) -> f64 {
    let mut times: Vec<f64> = (0..SAMPLES)
        .map(|_| {
            let started = Instant::now();
            drop(black_box(measure()));
            started.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[SAMPLES / 2]
}

/// Reads the resident memory once the allocator has returned unused memory, which it does with a delay and only while
/// it is in use.
fn settled(own: u32) -> io::Result<u64> {
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(10));
        let pages: Vec<Box<[u8; 512]>> = (0..64).map(|_| Box::new([1; 512])).collect();
        drop(pages);
    }
    measure::rss(own)
}

/// Returns the user of a page; each page has its own.
pub(crate) fn user(number: u64) -> String {
    format!("bench-{number:06}")
}
