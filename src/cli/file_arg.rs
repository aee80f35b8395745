//! Reads arguments that are files.

use std::path::Path;

use super::{CommandFailure, Exit};

/// Reads the text of a file, or of the standard input if its name is `-`.
pub(super) fn read_file(file: &Path) -> Result<String, CommandFailure> {
    let text = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(file),
    };
    text.map_err(|error| Exit::Usage.with_message(format!("{}: {error}", file.display())))
}
