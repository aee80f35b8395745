//! The command line: one file per subcommand.
//!
//! Owns: arguments, what is printed, and exit codes. Never: what a node does (`node`) or what a push means; the
//! client commands only ask a node's server API.
//!
//! Exit codes: 0 done · 1 refused or failed · 2 wrong usage or configuration · 3 the server cannot be reached.

mod api_client;
mod config;
mod healthcheck;
mod job;
mod json_arg;
mod keys;
mod output;
mod push;
mod rollout;
mod serve;
mod show;
mod sse;
mod state;
mod status;
mod target_args;
mod token;
mod unregister;
mod users;
mod worker;
mod workers;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A server for single-page applications: pages, state, push and jobs, from one process to a cluster over NATS.
#[derive(Parser)]
#[command(version, propagate_version = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 refused or failed, 2 wrong usage or configuration, \
    3 the server cannot be reached.";

#[derive(Subcommand)]
enum Command {
    /// Run a node: everything in this process, or one of a cluster with --nats. Without any argument, too.
    Serve(serve::Serve),
    /// Run handlers for the nodes of a cluster: its calls and jobs.
    Worker(worker::WorkerArgs),
    /// Send a message to pages.
    Push(push::PushArgs),
    /// Submit durable work, follow it, cancel it, list it.
    Job(job::JobArgs),
    /// Show the living workers, or ask one to leave.
    Workers(workers::WorkersArgs),
    /// Read, write and watch state trees.
    State(state::StateArgs),
    /// Show the cluster: its nodes and lanes, and what they hold.
    Status(status::StatusArgs),
    /// List users: who is online, who may come back.
    Users(users::Users),
    /// Show a user, connection, session or page, and what is below it.
    Show(show::Show),
    /// Close every page below a user, connection, session or page, on every node.
    Unregister(unregister::Unregister),
    /// Send a share of the users to another lane, and see how it goes.
    Rollout(rollout::RolloutArgs),
    /// Show the keys that sign page tokens, or make a new one.
    Keys(keys::KeysArgs),
    /// Make tokens for trying things out.
    Token(token::Token),
    /// Check, print or explain the configuration.
    Config(config::ConfigCommand),
    /// Ask a node whether it is ready; for containers.
    Healthcheck(healthcheck::Healthcheck),
}

/// Why a command ends badly.
#[derive(Debug)]
struct CommandFailure {
    exit: Exit,
    message: String,
}

/// How a command can end badly; the number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Exit {
    /// The server or the system refused, or it went wrong.
    Failed = 1,
    /// The arguments or the configuration are wrong.
    Usage = 2,
    /// Nobody answers at the server's address.
    Unreachable = 3,
}

impl Exit {
    fn with_message(self, reason: impl ToString) -> CommandFailure {
        CommandFailure { exit: self, message: reason.to_string() }
    }
}

/// Runs the program. Without arguments it serves: who tries it out needs to know nothing.
pub fn main() -> ExitCode {
    let bare = std::env::args_os().len() < 2;
    let cli = if bare { Cli::parse_from(["pagewire", "serve"]) } else { Cli::parse() };
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::print_error(&failure.message);
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn run(command: Command) -> Result<(), CommandFailure> {
    match command {
        Command::Serve(serve) => serve.run(),
        Command::Worker(worker) => worker.run(),
        Command::Push(push) => block_on(push.run()),
        Command::Job(job) => block_on(job.run()),
        Command::Workers(workers) => block_on(workers.run()),
        Command::State(state) => block_on(state.run()),
        Command::Status(status) => block_on(status.run()),
        Command::Users(users) => block_on(users.run()),
        Command::Show(show) => block_on(show.run()),
        Command::Unregister(unregister) => block_on(unregister.run()),
        Command::Rollout(rollout) => block_on(rollout.run()),
        Command::Keys(keys) => block_on(keys.run()),
        Command::Token(token) => token.run(),
        Command::Config(config) => config.run(),
        Command::Healthcheck(healthcheck) => block_on(healthcheck.run()),
    }
}

/// Runs a client command: one request at a time needs no second thread.
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
    fn a_push_has_exactly_one_target() {
        let parse =
            |arguments: &[&str]| Cli::try_parse_from([&["pagewire", "push"], arguments].concat()).is_ok();
        assert!(parse(&["--user", "ann", "1"]) && parse(&["--all", "1"]));
        assert!(!parse(&["1"]) && !parse(&["--user", "ann", "--all", "1"]) && !parse(&["--user", "ann"]));
    }
}
