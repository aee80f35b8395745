//! A program with handlers of its own.
//!
//! Owns: its handlers with their options, its classes of pages, its mounts, and its start. Never: how a handler is run
//! (`adapter`).

use std::fmt;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use pagewire_cluster::timing::Timing;
use pagewire_cluster::worker::Affinity;
use pagewire_worker::handlers::{HandlerOptions, Serial};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::adapter::{OwnHandler, handlers};
use super::ctx::{BlockingCtx, Ctx};
use super::fail::Fail;
use super::handle::{Handle, NodeError};
use super::page_class::{PageClass, ResidentPage};
use crate::cli::{self, Program};
use crate::config::{Sources, load};
use crate::mount::OwnMount;
use crate::roles::OwnProgram;

/// A program with handlers of its own.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use pagewire::{App, Ctx, Fail};
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Report {
///     month: String,
/// }
///
/// async fn report(ctx: Ctx, Report { month }: Report) -> Result<u64, Fail> {
///     ctx.page().send(&format!("{month} is being counted")).await?;
///     Ok(42)
/// }
///
/// fn main() -> ExitCode {
///     App::new().handler("report", report).assigned().retries(5).main()
/// }
/// ```
///
/// Each node and worker of the program runs the handlers, in the pool `default`, unless `[[pool]]` of the configuration
/// says otherwise. The options [`assigned`](App::assigned), [`any`](App::any), [`retries`](App::retries),
/// [`timeout`](App::timeout), [`one_per_user`](App::one_per_user) and [`one_per_page`](App::one_per_page) are those of the
/// handler that was added last.
#[derive(Clone, Default)]
pub struct App {
    handlers: Vec<OwnHandler>,
    /// The classes of resident pages, and their methods.
    pages: Vec<OwnHandler>,
    mounts: Vec<OwnMount>,
    configuration: String,
}

impl App {
    /// Creates a program without handlers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler: an async function of its context and parameters. It replaces an earlier one of the same name.
    ///
    /// The parameters are any type of serde; wrong ones are answered with `malformed` and their name. When the work has to
    /// stop, the future is dropped at its next `.await`. A panic is a failure of the work.
    #[must_use]
    pub fn handler<P, R, F, W>(self, name: &str, run: F) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        F: Fn(Ctx, P) -> W + Send + Sync + 'static,
        W: Future<Output = Result<R, Fail>> + Send + 'static,
    {
        self.add(OwnHandler::new(name, run))
    }

    /// Adds a handler that blocks: a function that runs on a thread of its own. It stops by itself when the work has to:
    /// [`Ctx::track`] and [`Ctx::check`] say when.
    #[must_use]
    pub fn blocking<P, R, F>(self, name: &str, run: F) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        F: Fn(BlockingCtx, P) -> Result<R, Fail> + Send + Sync + 'static,
    {
        self.add(OwnHandler::blocking(name, run))
    }

    /// Adds a class of resident pages with its methods: `.page::<Board>(|class| class.method("add", Board::add))`. It
    /// replaces an earlier class of the same name, and is not changed by the options of handlers.
    #[must_use]
    pub fn page<T: ResidentPage>(mut self, methods: impl FnOnce(PageClass<T>) -> PageClass<T>) -> Self {
        self.pages.retain(|handler| handler.name.split('.').next() != Some(T::CLASS));
        self.pages.extend(methods(PageClass::new()).into_handlers());
        self
    }

    fn add(mut self, handler: OwnHandler) -> Self {
        self.handlers.push(handler);
        self
    }

    fn change(mut self, change: impl FnOnce(&mut OwnHandler)) -> Self {
        if let Some(last) = self.handlers.last_mut() {
            change(last);
        }
        self
    }

    fn option(self, change: impl FnOnce(&mut HandlerOptions)) -> Self {
        self.change(|handler| change(&mut handler.options))
    }

    /// Lets the work of the handler run at the executor that its user is assigned to, unless the caller says otherwise.
    #[must_use]
    pub fn assigned(self) -> Self {
        self.option(|options| options.affinity = Some(Affinity::Assigned))
    }

    /// Lets any executor run the work of the handler, unless the caller says otherwise.
    #[must_use]
    pub fn any(self) -> Self {
        self.option(|options| options.affinity = Some(Affinity::Free))
    }

    /// Sets how often a failed job of the handler is tried again, unless its submitter says otherwise.
    #[must_use]
    pub fn retries(self, retries: u32) -> Self {
        self.option(|options| options.retries = Some(retries))
    }

    /// Sets the time after which the work of the handler has to stop.
    #[must_use]
    pub fn timeout(self, limit: Duration) -> Self {
        self.change(|handler| handler.timeout = Some(limit))
    }

    /// Lets the calls of a user run one after the other.
    #[must_use]
    pub fn one_per_user(self) -> Self {
        self.option(|options| options.serial = Serial::User)
    }

    /// Lets the calls of a page run one after the other.
    #[must_use]
    pub fn one_per_page(self) -> Self {
        self.option(|options| options.serial = Serial::Page)
    }

    /// Adds a service of this program, for example an `axum::Router`, at a path.
    #[must_use]
    pub fn mount(mut self, mount: OwnMount) -> Self {
        self.mounts.push(mount);
        self
    }

    /// Sets configuration, as the text of a `pagewire.toml`. The file, the environment and the flags override it.
    #[must_use]
    pub fn configuration(mut self, toml: &str) -> Self {
        self.configuration = toml.to_owned();
        self
    }

    /// Runs the command line `pagewire` with the handlers of this program: `serve`, `worker`, `dev` and all others.
    pub fn main(self) -> ExitCode {
        let (own, configuration) = self.into_parts(Timing::from_environment());
        cli::main(&Program { own, configuration })
    }

    /// Starts a node inside this program, and returns when it takes traffic. It has the configuration of the program, of
    /// `pagewire.toml` and of the environment. The log goes to the subscriber of `tracing` that the program has.
    ///
    /// A program whose configuration has pools or mounts with child processes calls [`run_guard`](crate::run_guard) first.
    ///
    /// # Errors
    ///
    /// When the configuration is wrong, or when an address or the engine cannot be used.
    pub async fn start(self) -> Result<Handle, NodeError> {
        self.start_with(Sources::of_process(None, Vec::new()), Timing::from_environment()).await
    }

    /// Starts a node with other sources of its configuration and other time-outs.
    pub(crate) async fn start_with(self, sources: Sources, timing: Timing) -> Result<Handle, NodeError> {
        let (own, program) = self.into_parts(timing);
        let config = load(&Sources { program, ..sources }).map_err(NodeError::new)?;
        Handle::start(config, own, timing).await
    }

    fn all(&self) -> impl Iterator<Item = &OwnHandler> {
        self.handlers.iter().chain(&self.pages)
    }

    fn into_parts(self, timing: Timing) -> (OwnProgram, String) {
        let handlers = handlers(self.all(), timing);
        (OwnProgram { handlers, mounts: self.mounts }, self.configuration)
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.all().map(|handler| handler.name.as_str()).collect();
        f.debug_struct("App").field("handlers", &names).field("mounts", &self.mounts).finish_non_exhaustive()
    }
}
