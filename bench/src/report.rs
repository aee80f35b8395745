//! The report of a measurement, as text and as JSON.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use serde::{Deserialize, Serialize};

use crate::batches::{counted_batches, uncounted_processes};

/// The report of one measurement.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Describes the measurement.
    pub(crate) title: String,
    /// The optimisation level of the measured build.
    pub(crate) build: &'static str,
    /// The machine of the measurement.
    pub(crate) machine: String,
    /// The numbers.
    pub(crate) rows: Vec<Row>,
    /// Atomic batches that the processes of the measurement sent to NATS.
    pub(crate) batches: u64,
    /// `pagewire` processes whose atomic batches are not in `batches`.
    pub(crate) uncounted_processes: u64,
}

/// One number over all runs.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: String,
    unit: &'static str,
    median: f64,
    min: f64,
    max: f64,
    runs: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<Goal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    met: Option<bool>,
}

/// The goal for the median.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl Times {
    /// Computes the percentiles of single times.
    pub(crate) fn of(mut each: Vec<f64>) -> Self {
        Self { p50_us: quantile(&mut each, 50), p99_us: quantile(&mut each, 99) }
    }
}

/// Returns the smallest value that at least `percent` percent of the values do not exceed; 0 without values.
pub(crate) fn quantile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or(0.0)
}

impl Goal {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {}", number(*bound)),
            Self::AtMost(bound) => write!(f, "≤ {}", number(*bound)),
        }
    }
}

impl Report {
    /// Creates a report without numbers.
    pub(crate) fn new(title: String) -> Self {
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        Self { title, build, machine: machine(), rows: Vec::new(), batches: 0, uncounted_processes: 0 }
    }

    /// Adds the atomic batches of this process, of its helper processes up to the end of their last load, and of each
    /// `pagewire serve` and `pagewire worker` from its start until it was stopped; and the number of those whose batches
    /// are not known, because they were not asked or are of a build without the metric.
    pub(crate) fn with_batches(self) -> Self {
        Self { batches: counted_batches(), uncounted_processes: uncounted_processes(), ..self }
    }

    /// Adds a number. Adds nothing without runs.
    pub(crate) fn row(&mut self, name: impl Into<String>, unit: &'static str, runs: &[f64]) {
        self.add(name.into(), unit, runs, None);
    }

    /// Adds a number that has a goal.
    pub(crate) fn goal(&mut self, name: impl Into<String>, unit: &'static str, runs: &[f64], goal: Goal) {
        self.add(name.into(), unit, runs, Some(goal));
    }

    fn add(&mut self, name: String, unit: &'static str, runs: &[f64], goal: Option<Goal>) {
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (sorted.first(), sorted.last()) else { return };
        let middle = sorted.len() / 2;
        let median = f64::midpoint(sorted[middle], sorted[(sorted.len() - 1) / 2]);
        let met = goal.map(|goal| goal.met(median));
        self.rows.push(Row { name, unit, median, min, max, runs: runs.len(), goal, met });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{} build, {}\n", self.title, self.build, self.machine)?;
        let name = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        let unit = self.rows.iter().map(|row| row.unit.chars().count()).max().unwrap_or(0);
        let range = |row: &Row| format!("{} – {}", number(row.min), number(row.max));
        write!(f, "{:name$}  {:>12}  {:unit$}  {:^25}  {:>4}  goal", "", "median", "", "range", "runs")?;
        for row in &self.rows {
            let (median, range) = (number(row.median), range(row));
            write!(
                f,
                "\n{:name$}  {median:>12}  {:unit$}  {range:^25}  {:>4}",
                row.name, row.unit, row.runs
            )?;
            if let (Some(goal), Some(met)) = (row.goal, row.met) {
                write!(f, "  {goal}: {}", if met { "met" } else { "missed" })?;
            }
        }
        if self.batches > 0 {
            write!(
                f,
                "\n\nwarning: {} atomic batches were sent to NATS. A server with file storage creates a store on disk for \
                 each: write single keys, except for an operator's change of a rollout.",
                self.batches
            )?;
        }
        if self.uncounted_processes > 0 {
            write!(
                f,
                "\n\nwarning: the atomic batches of {} processes are not known.",
                self.uncounted_processes
            )?;
        }
        Ok(())
    }
}

/// Formats a number with at least three significant digits and separated thousands.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => thousands(value),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let system = rustix::system::uname();
    let [name, release] =
        [system.sysname(), system.release()].map(|text| text.to_string_lossy().into_owned());
    format!("{cores} cores, {name} {release}, {}", std::env::consts::ARCH)
}

/// Shows the current step on a terminal. The next line overwrites it; an empty line ends it.
pub(crate) fn progress(text: &str) {
    let mut terminal = io::stderr();
    if terminal.is_terminal() {
        // a progress line that cannot be written is not reported
        let _ = write!(terminal, "\r\x1b[2K{text}");
        let _ = terminal.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_median_with_its_range() {
        let mut report = Report::new("t".to_owned());
        report.goal("odd", "µs", &[3.0, 1.0, 2.0], Goal::AtMost(2.0));
        report.goal("even", "µs", &[1.0, 4.0, 2.0, 3.0], Goal::AtLeast(2.6));
        report.row("nothing", "µs", &[]);
        let [odd, even] = &report.rows[..] else { panic!("two rows") };
        assert_eq!((odd.median, odd.min, odd.max, odd.runs, odd.met), (2.0, 1.0, 3.0, 3, Some(true)));
        assert_eq!((even.median, even.met), (2.5, Some(false)));
    }

    #[test]
    fn a_report_warns_of_atomic_batches() {
        let mut report = Report::new("t".to_owned());
        report.row("one", "µs", &[1.0]);
        assert!(!report.to_string().contains("warning"));
        let report = Report { batches: 3, ..report };
        assert!(report.to_string().contains("warning: 3 atomic batches"), "{report}");
        assert!(!report.to_string().contains("not known"), "{report}");
        let report = Report { batches: 0, uncounted_processes: 2, ..report };
        assert!(report.to_string().ends_with("warning: the atomic batches of 2 processes are not known."));
    }

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let mut values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!([50, 99, 100].map(|percent| quantile(&mut values, percent)), [100.0, 198.0, 200.0]);
        assert_eq!((quantile(&mut [7.0], 50), quantile(&mut [], 50)), (7.0, 0.0));
    }

    #[test]
    fn numbers_read_easily() {
        let texts = [1_234_567.8, 999.6, 12.34, 1.234, -1500.0].map(number);
        assert_eq!(texts, ["1,234,568", "1,000", "12.3", "1.23", "-1,500"]);
    }
}
