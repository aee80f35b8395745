//! Resident pages: the trait of their objects, and the methods of a class.
//!
//! Owns: what each step of an object's life calls. Never: where the objects live (`page_objects`), or when they move.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::wire::HandlerError;
use pagewire_cluster::worker::Affinity;
use pagewire_worker::handlers::{HandlerInput, HandlerOptions, ObjectRole, RunFailure, RunResult};
use pagewire_worker::object::{ObjectStep, ObjectWork};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::adapter::{Ended, OwnHandler, TaskLimits, on_thread};
use super::ctx::{BlockingCtx, Ctx};
use super::fail::Fail;
use super::page_objects::PageObjects;
use super::params::{decode, encode};

/// The object of a resident page: one for each open page that has named its class, from the opening of the page to its end.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use pagewire::{App, BlockingCtx, Fail, Page};
/// use serde_json::{Value, json};
///
/// struct Counter {
///     n: u64,
/// }
///
/// impl Counter {
///     fn add(&mut self, _: BlockingCtx, by: Option<u64>) -> Result<u64, Fail> {
///         self.n += by.unwrap_or(1);
///         Ok(self.n)
///     }
/// }
///
/// impl Page for Counter {
///     const CLASS: &'static str = "Counter";
///
///     fn open(_: BlockingCtx) -> Result<Self, Fail> {
///         Ok(Self { n: 0 })
///     }
///
///     fn save(&self) -> Option<Value> {
///         Some(json!(self.n))
///     }
///
///     fn restore(ctx: BlockingCtx, saved: Option<Value>, _why: &str) -> Result<Self, Fail> {
///         match saved {
///             Some(n) => Ok(Self { n: serde_json::from_value(n)? }),
///             None => Self::open(ctx),
///         }
///     }
/// }
///
/// fn main() -> ExitCode {
///     App::new().page::<Counter>(|class| class.method("add", Counter::add)).main()
/// }
/// ```
///
/// All functions run on a thread on which they may block, one at a time for each object, in the order in which the page has
/// sent its messages. One that does not stop in time keeps the next one waiting until it returns. A panic is a failure of
/// the message; the object lives on with what it has changed until then. `docs/resident.md` says when objects move.
pub trait ResidentPage: Sized + Send + 'static {
    /// The name of the class, which the page names when it opens: 1 to 200 bytes without a dot.
    const CLASS: &'static str;

    /// Makes the object of a page that has opened.
    ///
    /// # Errors
    ///
    /// Then there is no object, and the next message of the page makes it.
    fn open(ctx: BlockingCtx) -> Result<Self, Fail>;

    /// Makes the object again with what [`save`](Self::save) of the one before it has returned; `None` if that one is lost
    /// or has saved nothing. `why` is one of the reasons in `docs/child.md`, for example `drain`, `idle` or `lost`. A class
    /// without an own `restore` begins anew.
    ///
    /// # Errors
    ///
    /// Then there is no object, and the next message of the page tries again with the same value.
    fn restore(ctx: BlockingCtx, saved: Option<Value>, why: &str) -> Result<Self, Fail> {
        let _ = (saved, why);
        Self::open(ctx)
    }

    /// Returns what a planned move keeps, at most 192 KiB. The object ends here.
    fn save(&self) -> Option<Value> {
        None
    }

    /// Runs when the page has lost its socket. It may come back.
    ///
    /// # Errors
    ///
    /// An error is logged.
    fn away(&mut self, ctx: BlockingCtx) -> Result<(), Fail> {
        let _ = ctx;
        Ok(())
    }

    /// Runs when the page has a socket again.
    ///
    /// # Errors
    ///
    /// An error is logged.
    fn back(&mut self, ctx: BlockingCtx) -> Result<(), Fail> {
        let _ = ctx;
        Ok(())
    }

    /// Runs when the page has ended, and ends the object.
    ///
    /// # Errors
    ///
    /// An error is logged.
    fn close(self, ctx: BlockingCtx) -> Result<(), Fail> {
        let _ = ctx;
        Ok(())
    }
}

/// A class of resident pages with its methods, see [`App::page`](crate::App::page).
pub struct PageClass<T> {
    objects: Arc<PageObjects<T>>,
    /// The class first, then its methods.
    handlers: Vec<OwnHandler>,
}

impl<T: ResidentPage> PageClass<T> {
    pub(super) fn new() -> Self {
        const { assert!(is_class(T::CLASS), "the name of a class has 1 to 200 bytes and no dot") };
        let objects = Arc::<PageObjects<T>>::default();
        let own = objects.clone();
        let class = object_handler(T::CLASS, ObjectRole::Class, move |limits, input| {
            run_hook(own.clone(), limits, input)
        });
        Self { objects, handlers: vec![class] }
    }

    /// Adds a method: a function of the object, its context and parameters. It replaces an earlier one of the same name.
    ///
    /// The parameters and the result are as for [`App::handler`](crate::App::handler).
    #[must_use]
    pub fn method<P, R, F>(mut self, name: &str, run: F) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        F: Fn(&mut T, BlockingCtx, P) -> Result<R, Fail> + Send + Sync + 'static,
    {
        let (objects, run, name) = (self.objects.clone(), Arc::new(run), format!("{}.{name}", T::CLASS));
        let role = ObjectRole::Method { concurrent: false };
        self.handlers.push(object_handler(&name, role, move |limits, input| {
            run_method(objects.clone(), run.clone(), limits, input)
        }));
        self
    }

    /// Sets the time after which the method that was added last has to stop.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        if let [_, .., method] = self.handlers.as_mut_slice() {
            method.timeout = Some(limit);
        }
        self
    }

    pub(super) fn into_handlers(self) -> Vec<OwnHandler> {
        self.handlers
    }
}

impl<T> fmt::Debug for PageClass<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.handlers.iter().map(|handler| handler.name.as_str()).collect();
        f.debug_struct("PageClass").field("handlers", &names).finish_non_exhaustive()
    }
}

/// Returns whether pages can name a class so.
const fn is_class(name: &str) -> bool {
    let (bytes, mut at) = (name.as_bytes(), 0);
    while at < bytes.len() {
        if bytes[at] == b'.' {
            return false;
        }
        at += 1;
    }
    !bytes.is_empty() && bytes.len() <= 200
}

fn object_handler<W>(
    name: &str,
    object: ObjectRole,
    run: impl Fn(TaskLimits, HandlerInput) -> W + Send + Sync + 'static,
) -> OwnHandler
where
    W: Future<Output = RunResult> + Send + 'static,
{
    let mut handler = OwnHandler::of(name, true, run);
    handler.options = HandlerOptions { affinity: Some(Affinity::Assigned), object, ..handler.options };
    handler
}

fn no_page() -> RunFailure {
    let message = "only a page that has named this class when it opened has its object";
    RunFailure::Failed(HandlerError::new(ErrorCode::Malformed, message))
}

/// Runs a method of an object.
async fn run_method<T, P, R, F>(
    objects: Arc<PageObjects<T>>,
    run: Arc<F>,
    limits: TaskLimits,
    mut input: HandlerInput,
) -> RunResult
where
    T: ResidentPage,
    P: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    F: Fn(&mut T, BlockingCtx, P) -> Result<R, Fail> + Send + Sync + 'static,
{
    let ObjectWork { step, seat } = input.object.take().ok_or_else(no_page)?;
    let place = objects.place(&step, &seat).ok_or(RunFailure::NoObject)?;
    let work = move |ctx: Ctx, params: Box<RawValue>| async move {
        let params = decode(&params)?;
        let mut object = place.lock_owned().await;
        ctx.check()?;
        let call = move |context| run(living(&mut object)?, context, params);
        encode(ctx.method(), &on_thread(&ctx, call).await?)
    };
    limits.run(input, work).await
}

/// Runs what the class does at a step of the life of an object.
async fn run_hook<T: ResidentPage>(
    objects: Arc<PageObjects<T>>,
    limits: TaskLimits,
    mut input: HandlerInput,
) -> RunResult {
    let ObjectWork { step, seat } = input.object.take().ok_or_else(no_page)?;
    let place = objects.place(&step, &seat).ok_or(RunFailure::NoObject)?;
    let makes = matches!(step, ObjectStep::Open | ObjectStep::Restore { .. });
    let work = move |ctx: Ctx, _| async move {
        let mut object = place.lock_owned().await;
        on_thread(&ctx, move |context| take_step(&mut object, step, context)).await
    };
    let ended = limits.run(input, work).await;
    if makes {
        objects.made(&seat, ended.is_ok());
    }
    ended
}

/// Lets an object take a step other than a call, and returns its result.
fn take_step<T: ResidentPage>(object: &mut Option<T>, step: ObjectStep, ctx: BlockingCtx) -> Ended {
    let mut kept = None;
    match step {
        ObjectStep::Open => *object = Some(T::open(ctx)?),
        ObjectStep::Restore { why, saved } => {
            let saved = saved.as_deref().map(decode).transpose()?;
            *object = Some(T::restore(ctx, saved, why.text())?);
        }
        ObjectStep::Call => {}
        ObjectStep::Away => living(object)?.away(ctx)?,
        ObjectStep::Back => living(object)?.back(ctx)?,
        ObjectStep::Save { .. } => kept = object.take().and_then(|object| object.save()),
        ObjectStep::Close => object.take().map_or(Ok(()), |object| object.close(ctx))?,
    }
    encode(T::CLASS, &kept)
}

/// Returns the object, which is missing when the message before this one has ended it.
fn living<T>(object: &mut Option<T>) -> Result<&mut T, Fail> {
    object.as_mut().ok_or_else(Fail::stopped)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use pagewire_cluster::id::Key;
    use pagewire_cluster::timing::Timing;
    use pagewire_worker::handlers::Handlers;
    use pagewire_worker::object::Seat;

    use super::*;
    use crate::sdk::App;
    use crate::sdk::adapter::handlers;

    struct Count(u32);

    impl ResidentPage for Count {
        const CLASS: &'static str = "Count";

        fn open(_: BlockingCtx) -> Result<Self, Fail> {
            Ok(Self(0))
        }
    }

    /// Returns the handlers of the class. `stuck` does not stop when it has to, and counts when it is released.
    fn count() -> (Handlers, Sender<()>) {
        let (release, released) = channel();
        let released: Mutex<Receiver<()>> = Mutex::new(released);
        let stuck = move |count: &mut Count, _: BlockingCtx, (): ()| {
            released.lock().unwrap().recv().unwrap();
            count.0 += 1;
            Ok::<_, Fail>(())
        };
        let read = |count: &mut Count, _: BlockingCtx, (): ()| Ok(count.0);
        let class = PageClass::new().method("read", read).method("stuck", stuck);
        let class = class.timeout(Duration::from_millis(1)).into_handlers();
        (handlers(class.iter(), Timing::TEST), release)
    }

    async fn run(handlers: &Handlers, name: &str, step: ObjectStep, seat: &Seat) -> RunResult {
        let object = Some(ObjectWork { step, seat: seat.clone() });
        handlers.run(name, HandlerInput { object, ..HandlerInput::call(RawValue::NULL.to_owned()) }).await
    }

    #[tokio::test]
    async fn a_message_waits_for_a_method_that_did_not_stop_in_time() {
        let (handlers, release) = count();
        let seat = Seat::new(Key::from_bits(1), tokio::sync::mpsc::unbounded_channel().0);
        let missing = run(&handlers, "Count.read", ObjectStep::Call, &seat).await;
        assert_eq!(missing.unwrap_err(), RunFailure::NoObject);
        run(&handlers, Count::CLASS, ObjectStep::Open, &seat).await.unwrap();
        let stuck = run(&handlers, "Count.stuck", ObjectStep::Call, &seat).await.unwrap_err();
        assert!(matches!(&stuck, RunFailure::Failed(error) if error.code == "timeout"), "{stuck:?}");
        let mut read = std::pin::pin!(run(&handlers, "Count.read", ObjectStep::Call, &seat));
        assert!(futures_util::poll!(&mut read).is_pending());
        release.send(()).unwrap();
        assert_eq!(read.await.unwrap().get(), "1");
        assert_eq!(run(&handlers, Count::CLASS, ObjectStep::Close, &seat).await.unwrap().get(), "null");
        let ended = run(&handlers, "Count.read", ObjectStep::Call, &seat).await;
        assert_eq!(ended.unwrap_err(), RunFailure::NoObject);
    }

    #[test]
    fn a_class_replaces_an_earlier_one_of_its_name_with_all_methods() {
        let read = |count: &mut Count, _: BlockingCtx, (): ()| Ok(count.0);
        let app = App::new().page::<Count>(|class| class.method("old", read));
        let app = format!("{:?}", app.page::<Count>(|class| class.method("new", read)));
        assert!(app.contains(r#"["Count", "Count.new"]"#), "{app}");
    }

    #[test]
    fn a_class_has_a_name_that_pages_can_name() {
        assert!(is_class("Board") && is_class(&"a".repeat(200)));
        for refused in ["", "a.b", &"a".repeat(201)] {
            assert!(!is_class(refused), "{refused}");
        }
    }
}
