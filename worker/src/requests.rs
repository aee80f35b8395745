//! Requests of handlers, as they are named in `docs/child.md`.
//!
//! Owns: which requests exist, their members and their results. Never: the socket on which they arrive, or whether the
//! work that asks still stands (`effects`).

mod lock;
mod login;
mod members;
mod nested;
mod page;
mod program;
mod push;
mod register;
mod state;
mod stored_job;

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::engine::Unavailable;
use pagewire_cluster::wire::HandlerError;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use self::lock::{AcquireLock, ReleaseLock, RenewLock};
use self::login::{BeginLogin, EndLogin};
use self::members::Members;
use self::nested::{MakeCall, SubmitJob};
use self::page::{ClosePages, GetPage, ListPages};
pub use self::program::ProgramRequests;
use self::push::SendPush;
use self::register::RegisterRequest;
use self::state::{PatchTree, ReadTree};
use self::stored_job::{CancelJob, ReadJob};
use super::effects::Effects;
use super::handlers::HandlerResult;
use super::outgoing::WorkIdentity;

/// How many requests a child, or the programs of a node, have at a time.
pub(crate) const MAX_OPEN: usize = 256;
/// The bytes of the largest value of a request, which is what fits into a frame of the child wire.
const MAX_VALUE: usize = 1 << 20;

/// A request of a handler.
enum Request {
    ReadTree(ReadTree),
    PatchTree(PatchTree),
    SendPush(SendPush),
    SubmitJob(SubmitJob),
    ReadJob(ReadJob),
    CancelJob(CancelJob),
    MakeCall(MakeCall),
    AcquireLock(AcquireLock),
    RenewLock(RenewLock),
    ReleaseLock(ReleaseLock),
    GetPage(GetPage),
    ListPages(ListPages),
    ClosePages(ClosePages),
    BeginLogin(BeginLogin),
    EndLogin(EndLogin),
    Register(RegisterRequest),
}

impl Request {
    fn parse(method: &str, params: &RawValue) -> Result<Self, HandlerError> {
        let parse: fn(&mut Members) -> Result<Self, HandlerError> = match method {
            "state.get" => |members| ReadTree::parse(members).map(Self::ReadTree),
            "state.patch" => |members| PatchTree::parse(members).map(Self::PatchTree),
            "push.send" => |members| SendPush::parse(members).map(Self::SendPush),
            "job.submit" => |members| SubmitJob::parse(members).map(Self::SubmitJob),
            "job.get" => |members| ReadJob::parse(members).map(Self::ReadJob),
            "job.cancel" => |members| CancelJob::parse(members).map(Self::CancelJob),
            "call" => |members| MakeCall::parse(members).map(Self::MakeCall),
            "lock.acquire" => |members| AcquireLock::parse(members).map(Self::AcquireLock),
            "lock.renew" => |members| RenewLock::parse(members).map(Self::RenewLock),
            "lock.release" => |members| ReleaseLock::parse(members).map(Self::ReleaseLock),
            "page.get" => |members| GetPage::parse(members).map(Self::GetPage),
            "page.list" => |members| ListPages::parse(members).map(Self::ListPages),
            "page.close" => |members| ClosePages::parse(members).map(Self::ClosePages),
            "login.begin" => |members| BeginLogin::parse(members).map(Self::BeginLogin),
            "login.end" => |members| EndLogin::parse(members).map(Self::EndLogin),
            method if method.starts_with(register::PREFIX) => {
                let mut members = Members::parse(params)?;
                return RegisterRequest::parse(method, &mut members).map(Self::Register);
            }
            _ => {
                let message = format!("there is no request {method:?}");
                return Err(HandlerError::new(ErrorCode::Unsupported, message));
            }
        };
        parse(&mut Members::parse(params)?)
    }

    async fn run(self, effects: &Effects, work: &WorkIdentity) -> HandlerResult {
        match self {
            Self::ReadTree(request) => request.run(effects, work).await,
            Self::PatchTree(request) => request.run(effects, work).await,
            Self::SendPush(request) => request.run(effects).await,
            Self::SubmitJob(request) => request.run(effects, work).await,
            Self::ReadJob(request) => request.run(effects).await,
            Self::CancelJob(request) => request.run(effects).await,
            Self::MakeCall(request) => request.run(effects, work).await,
            Self::AcquireLock(request) => request.run(effects, work).await,
            Self::RenewLock(request) => request.run(effects).await,
            Self::ReleaseLock(request) => request.run(effects).await,
            Self::GetPage(request) => request.run(effects).await,
            Self::ListPages(request) => request.run(effects).await,
            Self::ClosePages(request) => request.run(effects).await,
            Self::BeginLogin(request) => request.run(effects).await,
            Self::EndLogin(request) => request.run(effects).await,
            Self::Register(request) => request.run(effects).await,
        }
    }
}

/// Answers a request of a handler, in the name of the work that `effects` and `work` belong to, or of an application.
///
/// # Errors
///
/// - `unsupported` for an unknown method, and for work that has no effects,
/// - `malformed` if a member is missing or wrong; the message names it,
/// - `stale` if the work does not stand any more,
/// - the errors of the request itself.
pub async fn answer(
    effects: &Effects,
    work: &WorkIdentity,
    method: &str,
    params: &RawValue,
) -> Result<Box<RawValue>, HandlerError> {
    Request::parse(method, params)?.run(effects, work).await
}

/// Returns the error of a request that needs the engine.
fn engine_unavailable(error: Unavailable) -> HandlerError {
    HandlerError::new(ErrorCode::Unavailable, error.to_string())
}

/// Returns the result of a request.
fn reply(value: &impl Serialize) -> HandlerResult {
    to_raw_value(value).map_err(|error| HandlerError::new(ErrorCode::Internal, error.to_string()))
}
