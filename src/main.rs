//! The program `pagewire`: one binary for everything. What it can do is in `pagewire::cli`.

use std::process::ExitCode;

/// Thousands of sockets with small, short-lived buffers: the system's allocator keeps too much of them. Without huge
/// pages (feature `no_thp`): the kernel gives 2 MiB for the first byte of one, and takes none back while a byte is used.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pagewire::cli::main()
}
