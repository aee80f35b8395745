//! Any text: parsing a path of a state tree never panics, and formatting a parsed path gives the same path.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pagewire_cluster::state::{ClientPath, Path};

fuzz_target!(|text: &str| {
    let _ = text.parse::<ClientPath>();
    if let Ok(path) = text.parse::<Path>() {
        assert_eq!(path.to_string().parse::<Path>().as_ref(), Ok(&path));
    }
});
