//! The program `pagewire`: one binary for everything. It is a [`pagewire::App`] without handlers of its own.

use std::process::ExitCode;

/// mimalloc, because the system's allocator keeps too much memory with thousands of sockets and small, short-lived
/// buffers. Without huge pages (feature `no_thp`), because the kernel hands out 2 MiB for the first byte of one and takes
/// none back while a byte is in use.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pagewire::App::new().main()
}
