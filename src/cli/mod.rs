//! The command line: one file per subcommand.
//!
//! Owns: arguments, output and exit codes. Never: the behaviour of a node (`node`) or the meaning of a push; client
//! commands only send requests to a node's server API.

mod api_client;
mod child;
mod config;
mod dev;
mod file_arg;
mod healthcheck;
mod job;
mod json_arg;
mod keys;
mod node;
mod output;
mod push;
mod register;
mod rollout;
mod serve;
mod show;
mod sse;
mod state;
mod status;
mod target_args;
mod token;
mod types;
mod unregister;
mod users;
mod worker;
mod workers;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pagewire_worker::runtime::child::guard;

pub(crate) use self::api_client::{escape, segment};
use crate::roles::OwnProgram;

/// A server for single-page applications: pages, state, push and jobs, from one process to a cluster over NATS.
#[derive(Parser)]
#[command(version, propagate_version = true, after_help = exit_codes())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The exit codes and their meaning; `docs/operations.md` has the same rows.
const EXIT_CODES: [(u8, &str); 5] = [
    (0, "success"),
    (
        Exit::Failed as u8,
        "the server refused the request, or the command failed; also: `push`, `unregister`: a node did not respond; \
         `job watch`, `job submit` with `--watch` or `--wait`: the job has ended without success; a change of a \
         rollout: not every process has applied it; `healthcheck`: the node is not ready; `child check`: a case failed",
    ),
    (Exit::Usage as u8, "wrong usage or configuration"),
    (Exit::Unreachable as u8, "the server cannot be reached"),
    (
        Exit::Incompatible as u8,
        "`serve` and `worker`: the cluster protocol has no version in common with a process of the cluster",
    ),
];

/// Returns the part of the help that lists the exit codes.
fn exit_codes() -> String {
    let rows = EXIT_CODES.iter().map(|(code, meaning)| format!("\n  {code}  {meaning}"));
    format!("Exit codes:{}", rows.collect::<String>())
}

#[derive(Subcommand)]
enum Command {
    /// Run a node: standalone, or as a member of a cluster with --nats (the default command).
    Serve(serve::Serve),
    /// Run a worker: handlers for the calls and jobs of a cluster.
    Worker(worker::WorkerArgs),
    /// Run an application on this machine, to develop it: one node, or several real ones with --nodes.
    Dev(dev::DevArgs),
    /// Check programs that run handlers as child processes.
    Child(child::ChildArgs),
    /// Write the types of a program's handlers, for callers in TypeScript or Python.
    Types(types::TypesArgs),
    /// Send a message to pages.
    Push(push::PushArgs),
    /// Submit, follow, cancel and list durable jobs.
    Job(job::JobArgs),
    /// List the live workers, or drain one.
    Workers(workers::WorkersArgs),
    /// Drain a node.
    Node(node::NodeArgs),
    /// Read, write and watch state trees.
    State(state::StateArgs),
    /// Show the cluster: its nodes and lanes with their pages.
    Status(status::StatusArgs),
    /// List users: online, or able to return.
    Users(users::Users),
    /// Show a user, connection, session or page with its descendants.
    Show(show::Show),
    /// Close every page below a user, connection, session or page, on every node.
    Unregister(unregister::Unregister),
    /// Send a share of the users to another lane and follow the change.
    Rollout(rollout::RolloutArgs),
    /// Move the users and connections of a legacy application from one register to another one.
    Register(register::RegisterArgs),
    /// List the keys that sign page tokens, or create a new one.
    Keys(keys::KeysArgs),
    /// Create tokens for development.
    Token(token::Token),
    /// Check, print or explain the configuration.
    Config(config::ConfigCommand),
    /// Check whether a node is ready; for containers.
    Healthcheck(healthcheck::Healthcheck),
}

/// The reason why a command failed.
#[derive(Debug)]
struct CommandFailure {
    exit: Exit,
    message: String,
}

/// The kinds of failure. The number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Exit {
    /// The request was rejected or failed.
    Failed = 1,
    /// The arguments or the configuration are wrong.
    Usage = 2,
    /// No server replied at the address.
    Unreachable = 3,
    /// Another process of the cluster speaks no common version of the cluster protocol.
    Incompatible = 4,
}

impl Exit {
    fn with_message(self, reason: impl ToString) -> CommandFailure {
        CommandFailure { exit: self, message: reason.to_string() }
    }
}

/// Runs this process as the guard of a child process if it was started as one, and returns its exit code. A program with a
/// `main` of its own calls this first, because above each child process there is a process of its binary.
pub fn run_guard() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let is_guard = arguments.next().is_some_and(|first| first == guard::SUBCOMMAND);
    is_guard.then(|| guard::run(&arguments.collect::<Vec<_>>()))
}

/// The program that the command line belongs to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Program {
    /// What it adds to the nodes and workers that it runs.
    pub(crate) own: OwnProgram,
    /// Its configuration, which the file and the environment override.
    pub(crate) configuration: String,
}

/// Runs the command line of a program. Without arguments it runs `serve`, so that trying it out needs no knowledge of the
/// options.
pub(crate) fn main(program: &Program) -> ExitCode {
    if let Some(code) = run_guard() {
        return code;
    }
    let bare = std::env::args_os().len() < 2;
    let cli = if bare { Cli::parse_from(["pagewire", "serve"]) } else { Cli::parse() };
    match run(cli.command, program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::print_error(&failure.message);
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn run(command: Command, program: &Program) -> Result<(), CommandFailure> {
    match command {
        Command::Serve(serve) => serve.run(program),
        Command::Worker(worker) => worker.run(program),
        Command::Dev(dev) => dev.run(program),
        Command::Child(child) => block_on(child.run()),
        Command::Types(types) => block_on(types.run()),
        Command::Push(push) => block_on(push.run()),
        Command::Job(job) => block_on(job.run()),
        Command::Workers(workers) => block_on(workers.run()),
        Command::Node(node) => block_on(node.run()),
        Command::State(state) => block_on(state.run()),
        Command::Status(status) => block_on(status.run()),
        Command::Users(users) => block_on(users.run()),
        Command::Show(show) => block_on(show.run()),
        Command::Unregister(unregister) => block_on(unregister.run()),
        Command::Rollout(rollout) => block_on(rollout.run()),
        Command::Register(register) => block_on(register.run()),
        Command::Keys(keys) => block_on(keys.run()),
        Command::Token(token) => token.run(),
        Command::Config(config) => config.run(program),
        Command::Healthcheck(healthcheck) => block_on(healthcheck.run()),
    }
}

/// Runs a client command on the current thread, which is enough for one request at a time.
fn block_on(command: impl Future<Output = Result<(), CommandFailure>>) -> Result<(), CommandFailure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Exit::Failed.with_message(error))?.block_on(command)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_documented_exit_codes_are_those_of_the_table() {
        let document = include_str!("../../docs/operations.md");
        let (_, table) = document.split_once("| exit code | meaning |\n|---|---|\n").unwrap();
        let rows = EXIT_CODES.iter().map(|(code, meaning)| format!("| {code} | {meaning} |\n"));
        assert_eq!(table.split("\n\n").next().map(|rows| format!("{rows}\n")), Some(rows.collect()));
    }

    #[test]
    fn a_push_has_exactly_one_target() {
        let parse =
            |arguments: &[&str]| Cli::try_parse_from([&["pagewire", "push"], arguments].concat()).is_ok();
        assert!(parse(&["--user", "ann", "1"]) && parse(&["--all", "1"]));
        assert!(!parse(&["1"]) && !parse(&["--user", "ann", "--all", "1"]) && !parse(&["--user", "ann"]));
    }
}
