//! The small process above each child. It kills the child with all of its descendants when the supervisor is gone.
//!
//! Owns: the process of the program and everything that it starts. Never: the wire (`adapter`).
//!
//! The guard reads its standard input, which is a pipe of the supervisor: `T` sends SIGTERM to the process group of the
//! program, `H` sends SIGHUP, `K` sends SIGKILL, and the end of the pipe means that the supervisor is gone. The guard adopts descendants
//! whose parent has ended, so that none of them outlives it, in whichever process group they are. If the guard itself is
//! killed, the kernel kills the program (`PR_SET_PDEATHSIG`). A guard with an adapter also speaks the wire for its program.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use super::adapter::{ADAPT, Adapter, OWN_VARIABLES};

/// First argument of a process that is a guard.
pub const SUBCOMMAND: &str = "child-guard";
/// The binary of this process, even if another one has its path by now.
const OWN_BINARY: &str = "/proc/self/exe";
/// First argument of the second stage, which becomes the program.
const EXEC: &str = "--exec";
/// Exit code when the program cannot be started, as in a shell.
const NOT_STARTED: u8 = 127;
/// Added to the number of the signal that has killed the program, as in a shell.
const SIGNALLED: i32 = 128;
/// Pause before descendants that have been killed are looked for again.
const PAUSE: Duration = Duration::from_millis(5);
/// How often descendants are looked for. A program that forks without end loses this race only to the kernel.
const ROUNDS: usize = 400;

/// Byte for SIGTERM.
pub const TERMINATE: u8 = b'T';
/// Byte for SIGHUP.
pub const HANG_UP: u8 = b'H';
/// Byte for SIGKILL.
pub const KILL: u8 = b'K';

/// Returns the command that starts a program below a guard of its own: with pipes for its signals and its outputs, and out
/// of reach of the signals of a terminal.
pub fn command(program: &[String]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(OWN_BINARY);
    command
        .arg(SUBCOMMAND)
        .args(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    command
}

/// Runs the guard of a program and returns its exit code. `command` is the program and its arguments.
pub fn run(command: &[OsString]) -> ExitCode {
    match command.split_first() {
        Some((first, rest)) if first == EXEC => exec(rest),
        Some((first, rest)) if first == ADAPT => match Adapter::parse(rest) {
            Some((adapter, program)) => guarded(program, Some(adapter)),
            None => ExitCode::from(NOT_STARTED),
        },
        _ => guarded(command, None),
    }
}

fn guarded(command: &[OsString], adapter: Option<Adapter>) -> ExitCode {
    ExitCode::from(guard(command, adapter).unwrap_or_else(|error| {
        report(&format!("the program was not started: {error}"));
        NOT_STARTED
    }))
}

/// Becomes the program, which the kernel kills when the guard is killed.
fn exec(command: &[OsString]) -> ExitCode {
    let Some((guard, [program, arguments @ ..])) = command.split_first() else {
        return ExitCode::from(NOT_STARTED);
    };
    let limited = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let guard = guard.to_str().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
    // the guard may have been killed before the signal was set
    if limited.is_err() || guard.is_none() || rustix::process::getppid() != guard {
        return ExitCode::from(NOT_STARTED);
    }
    let error = Command::new(program).args(arguments).exec();
    report(&format!("cannot start {}: {error}", program.to_string_lossy()));
    ExitCode::from(NOT_STARTED)
}

fn guard(command: &[OsString], adapter: Option<Adapter>) -> io::Result<u8> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut own = Command::new(OWN_BINARY);
    if adapter.is_some() {
        for name in OWN_VARIABLES {
            own.env_remove(name);
        }
    }
    let program = own
        .args([SUBCOMMAND, EXEC, &std::process::id().to_string()])
        .args(command)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()?;
    let program = i32::try_from(program.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    std::thread::spawn(move || follow_supervisor(program));
    if let Some(adapter) = adapter {
        std::thread::spawn(move || adapter.run(program));
    }
    let status = wait_for(program)?;
    kill_descendants();
    Ok(exit_code(status))
}

/// Sends signals on request until the supervisor is gone, and then kills everything.
fn follow_supervisor(program: Pid) {
    let mut input = io::stdin().lock();
    let mut byte = [0];
    loop {
        let signal = match input.read(&mut byte) {
            Ok(1) if byte[0] == TERMINATE => Signal::TERM,
            Ok(1) if byte[0] == HANG_UP => Signal::HUP,
            Ok(1) if byte[0] == KILL => Signal::KILL,
            Ok(1) => continue,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            _ => break,
        };
        // an error means that the group has ended
        let _ = rustix::process::kill_process_group(program, signal);
    }
    let _ = rustix::process::kill_process_group(program, Signal::KILL);
}

/// Waits for the program, and for adopted descendants that end before it.
fn wait_for(program: Pid) -> io::Result<WaitStatus> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((ended, status))) if ended == program => return Ok(status),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Kills what the program has left, until nothing is left. Descendants become children of the guard one level at a time.
fn kill_descendants() {
    for _ in 0..ROUNDS {
        for child in children() {
            // an error means that it has ended
            let _ = rustix::process::kill_process(child, Signal::KILL);
        }
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// Returns the children of this process.
fn children() -> Vec<Pid> {
    let own = std::process::id().to_string();
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| parent_of(*pid).as_deref() == Some(own.as_str())).filter_map(Pid::from_raw).collect()
}

/// Returns the parent of a process: the second member after the name, which is in parentheses and may contain any.
pub(super) fn parent_of(pid: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, members) = stat.rsplit_once(") ")?;
    members.split(' ').nth(1).map(str::to_owned)
}

fn exit_code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| Some(SIGNALLED + status.terminating_signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(NOT_STARTED)
}

/// The guard has no log of its own: its output is that of the program.
#[expect(clippy::print_stderr, reason = "the output of the program")]
pub(super) fn report(message: &str) {
    eprintln!("pagewire: {message}");
}
