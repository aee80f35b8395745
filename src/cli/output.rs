//! What is printed, and where.
//!
//! Results go to standard output, everything else to standard error. A reader that has gone away (`| head`) is no
//! fault.

use std::io::{self, Write};

use serde_json::Value;

use super::{CommandFailure, Exit};

/// Prints a result.
pub(super) fn print(text: &str) {
    // nobody reads it: nothing to do about it
    let _ = writeln!(io::stdout().lock(), "{}", text.trim_end());
}

/// Prints a result as JSON.
pub(super) fn print_json(value: &Value) {
    print(&format!("{value:#}"));
}

/// Says something beside the result.
pub(super) fn print_stderr(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Says what went wrong.
pub(super) fn print_error(text: &str) {
    for line in text.lines() {
        print_stderr(&format!("error: {line}"));
    }
}

/// Whether all nodes have answered that a request was for.
pub(super) fn answered(outcome: &Value) -> Result<(), CommandFailure> {
    match outcome["unreachable"].as_array().map(Vec::as_slice) {
        None | Some([]) => Ok(()),
        Some(silent) => {
            let names: Vec<_> = silent.iter().filter_map(Value::as_str).collect();
            Err(Exit::Failed.with_message(format!("no answer from {}", names.join(", "))))
        }
    }
}

/// Replaces the line that a terminal's cursor is on.
pub(super) fn redraw(line: &str) {
    let mut out = io::stdout().lock();
    let _ = write!(out, "\r\x1b[K{line}").and_then(|()| out.flush());
}

/// `1 node`, `2 nodes`.
pub(super) fn count(number: u64, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

/// A text from elsewhere, as it may be shown: whatever could control a terminal is a blank.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Columns under their titles, as wide as their widest cell.
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
