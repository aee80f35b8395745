//! `register.…`: the registers of legacy applications.
//!
//! Owns: which of these requests exist, and their errors. Never: the rows of a register (`pagewire_cluster::register`).

mod items;
mod pages;
mod publishing;

use self::items::{ListItems, ReadItems, WriteItems};
use self::pages::{DropItem, RelabelConnection, Subscribe};
use self::publishing::{FollowedTables, Publish, Take, Withdraw};
use super::members::{Members, malformed};
use crate::effects::Effects;
use crate::handlers::HandlerResult;
use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::register::{ItemKey, ItemLevel, RegisterError, RegisterName};
use pagewire_cluster::wire::HandlerError;

/// How the names of these requests begin.
pub(super) const PREFIX: &str = "register.";

/// The register that a request uses if it does not name one.
const DEFAULT: &str = "default";

/// A request, and the register that it uses.
pub(super) struct RegisterRequest {
    name: RegisterName,
    action: Action,
}

/// What a request asks of a register.
enum Action {
    Read(ReadItems),
    Write(WriteItems),
    List(ListItems),
    Relabel(RelabelConnection),
    Drop(DropItem),
    Subscribe(Subscribe),
    Tables(FollowedTables),
    Publish(Publish),
    Take(Take),
    Withdraw(Withdraw),
}

impl RegisterRequest {
    pub(super) fn parse(method: &str, members: &mut Members) -> Result<Self, HandlerError> {
        let register: Option<String> = members.optional("register")?;
        let name = RegisterName::new(register.as_deref().unwrap_or(DEFAULT))
            .map_err(|error| malformed("register", error))?;
        let action = match method.strip_prefix(PREFIX).unwrap_or_default() {
            "read" => Action::Read(ReadItems::parse(members)?),
            "write" => Action::Write(WriteItems::parse(members)?),
            "list" => Action::List(ListItems::parse(members)?),
            "relabel" => Action::Relabel(RelabelConnection::parse(members)?),
            "drop" => Action::Drop(DropItem::parse(members)?),
            "subscribe" => Action::Subscribe(Subscribe::parse(members)?),
            "tables" => Action::Tables(FollowedTables::parse(members)?),
            "publish" => Action::Publish(Publish::parse(members)?),
            "take" => Action::Take(Take::parse(members)?),
            "withdraw" => Action::Withdraw(Withdraw::parse(members)?),
            _ => {
                let message = format!("there is no request {method:?}");
                return Err(HandlerError::new(ErrorCode::Unsupported, message));
            }
        };
        Ok(Self { name, action })
    }

    pub(super) async fn run(self, effects: &Effects) -> HandlerResult {
        let register = effects.registers()?.open(self.name).await.map_err(refused)?;
        match self.action {
            Action::Read(request) => request.run(&register).await,
            Action::Write(request) => request.run(&register).await,
            Action::List(request) => request.run(&register).await,
            Action::Relabel(request) => request.run(&register).await,
            Action::Drop(request) => request.run(&register).await,
            Action::Subscribe(request) => request.run(&register).await,
            Action::Tables(request) => request.run(&register),
            Action::Publish(request) => request.run(&register).await,
            Action::Take(request) => request.run(&register).await,
            Action::Withdraw(request) => request.run(&register).await,
        }
    }
}

fn refused(error: RegisterError) -> HandlerError {
    HandlerError::new(error.code(), error.to_string())
}

/// Takes the item that a request names.
fn named_item(members: &mut Members) -> Result<ItemKey, HandlerError> {
    let (level, id) = (members.required("level")?, members.optional::<String>("id")?);
    key(level, id.as_deref().unwrap_or_default())
}

/// Takes the page that a request names.
fn named_page(members: &mut Members) -> Result<ItemKey, HandlerError> {
    page(&members.required::<String>("page")?)
}

fn key(level: ItemLevel, id: &str) -> Result<ItemKey, HandlerError> {
    ItemKey::new(level, id).map_err(|error| malformed("id", error))
}

fn page(id: &str) -> Result<ItemKey, HandlerError> {
    ItemKey::new(ItemLevel::Page, id).map_err(|error| malformed("page", error))
}

/// Returns the ids of items.
fn ids(keys: &[ItemKey]) -> Vec<&str> {
    keys.iter().map(|key| &*key.id).collect()
}

/// Checks the number of parts of a request.
fn bounded(name: &str, count: usize, most: usize) -> Result<(), HandlerError> {
    let message = || format!("{name}: at most {most} in one request");
    if count <= most { Ok(()) } else { Err(HandlerError::new(ErrorCode::TooLarge, message())) }
}

/// An item as a request shows it.
fn level_and_id(key: &ItemKey) -> serde_json::Value {
    match key.level {
        ItemLevel::Global => serde_json::json!({ "level": key.level }),
        level => serde_json::json!({ "level": level, "id": key.id }),
    }
}
