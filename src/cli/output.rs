//! Printing of results and messages.
//!
//! Results are written to standard output, everything else to standard error. A closed reader (`| head`) is not an
//! error.

use std::io::{self, Write};

use pagewire_cluster::clock::is_off;
use serde_json::Value;

use super::{CommandFailure, Exit};

/// Prints a result.
pub(super) fn print(text: &str) {
    // a write error means that the reader has closed the pipe: there is nothing to do
    let _ = writeln!(io::stdout().lock(), "{}", text.trim_end());
}

/// Prints a result as JSON.
pub(super) fn print_json(value: &Value) {
    print(&format!("{value:#}"));
}

/// Prints a message to standard error, beside the result.
pub(super) fn print_stderr(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints an error to standard error.
pub(super) fn print_error(text: &str) {
    for line in text.lines() {
        print_stderr(&format!("error: {line}"));
    }
}

/// Fails unless every requested node has replied.
pub(super) fn check_unreachable(outcome: &Value) -> Result<(), CommandFailure> {
    match outcome["unreachable"].as_array().map(Vec::as_slice) {
        None | Some([]) => Ok(()),
        Some(silent) => {
            let names: Vec<_> = silent.iter().filter_map(Value::as_str).collect();
            Err(Exit::Failed.with_message(format!("no response from {}", names.join(", "))))
        }
    }
}

/// Replaces the current line of the terminal.
pub(super) fn redraw(line: &str) {
    let mut out = io::stdout().lock();
    let _ = write!(out, "\r\x1b[K{line}").and_then(|()| out.flush());
}

/// Formats a number with its noun: `1 node`, `2 nodes`.
pub(super) fn count(number: u64, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

/// Makes foreign text safe for a terminal: control characters become blanks.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Returns a line for each listed process whose clock is more than two seconds off. `of` names its id.
pub(super) fn clock_warnings(items: &[Value], of: &str) -> String {
    let off = items.iter().filter_map(|item| {
        let offset = item["offset_ms"].as_i64()?;
        let (seconds, side) =
            (offset.unsigned_abs() as f64 / 1000.0, if offset < 0 { "behind" } else { "ahead of" });
        let id = plain(item[of].as_str().unwrap_or("?"));
        is_off(Some(offset)).then(|| {
            format!("\nwarning: the clock of {of} {id} is {seconds:.1} s {side} the clock of the cluster")
        })
    });
    off.collect()
}

/// Formats a table: columns under their titles, each as wide as its widest cell.
pub(super) fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).chain([titles[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut titles.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_them_is_no_plural() {
        assert_eq!([0, 1, 2].map(|number| count(number, "node")), ["0 nodes", "1 node", "2 nodes"]);
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["p01".to_owned(), "é".to_owned()], vec!["p100".to_owned(), "canary".to_owned()]];
        assert_eq!(table(&["NODE", "LANE"], &rows), "NODE  LANE\np01   é\np100  canary");
    }
}
