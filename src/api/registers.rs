//! The users and connections of a register: `GET` and `POST /registers/{register}/items`.
//!
//! For the move of an application from its own daemon and back: without them, its users would have to log in again. Pages and
//! data are not moved: data are values of the application, which nobody else may write.

use axum::Json;
use axum::extract::{Path, State};
use pagewire_cluster::register::{
    Creation, Fields, IndexedItem, ItemEdit, ItemKey, ItemLevel, Register, RegisterError, RegisterName,
    items_after,
};
use serde::{Deserialize, Serialize};

use super::ApiState;
use super::error::{ApiError, ErrorBody};
use super::extract::{Body, Query};
use super::pagination::{PageQuery, Paginated};

/// A level of items that are moved.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum MovedLevel {
    User,
    Connection,
}

/// A user or connection of an application.
#[derive(Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RegisterItem {
    level: MovedLevel,
    id: String,
    /// A flat object.
    #[schema(value_type = Object)]
    fields: Fields,
}

/// Query of the list.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ItemQuery {
    level: MovedLevel,
    /// `next_cursor` of the previous response.
    cursor: Option<String>,
    /// Maximum number of items, up to 1000; 100 if absent.
    limit: Option<usize>,
}

/// Items to create.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewItems {
    /// At most 1000.
    items: Vec<RegisterItem>,
}

/// What has become of the items.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct CreatedItems {
    /// Items that are new.
    created: usize,
    /// Items that existed; they are as they were.
    kept: usize,
}

const MAX_ITEMS: usize = 1000;

impl MovedLevel {
    const fn level(self) -> ItemLevel {
        match self {
            Self::User => ItemLevel::User,
            Self::Connection => ItemLevel::Connection,
        }
    }

    fn item(self, indexed: &IndexedItem) -> RegisterItem {
        RegisterItem { level: self, id: indexed.key.id.to_string(), fields: indexed.fields().clone() }
    }
}

impl From<RegisterError> for ApiError {
    fn from(error: RegisterError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

async fn register(parts: &ApiState, name: &str) -> Result<Register, ApiError> {
    Ok(parts.registers.open(RegisterName::new(name)?).await?)
}

/// Lists the users or the connections of a register with their fields, in the order of their ids.
#[utoipa::path(get, path = "/api/v1/registers/{register}/items", tag = "registers",
    params(("register" = String, Path), ItemQuery),
    responses((status = 200, body = Paginated<RegisterItem>), (status = "default", body = ErrorBody)))]
pub(super) async fn items(
    State(parts): State<ApiState>,
    Path(name): Path<String>,
    Query(which): Query<ItemQuery>,
) -> Result<Json<Paginated<RegisterItem>>, ApiError> {
    let register = register(&parts, &name).await?;
    let limit = PageQuery { cursor: None, limit: which.limit }.limit();
    let found = items_after(&register, which.level.level(), which.cursor.as_deref(), limit + 1);
    let listed = found.iter().map(|item| which.level.item(item));
    Ok(Json(Paginated::paginate(listed, limit, |item| item.id.clone())))
}

/// Creates users and connections in a register. Those that exist stay as they are, so that a repeated request does no harm.
#[utoipa::path(post, path = "/api/v1/registers/{register}/items", tag = "registers",
    params(("register" = String, Path)), request_body = NewItems,
    responses((status = 200, body = CreatedItems), (status = "default", body = ErrorBody)))]
pub(super) async fn create_items(
    State(parts): State<ApiState>,
    Path(name): Path<String>,
    Body(NewItems { items }): Body<NewItems>,
) -> Result<Json<CreatedItems>, ApiError> {
    if items.len() > MAX_ITEMS {
        return Err(ApiError::malformed("items: at most 1000 in one request"));
    }
    let register = register(&parts, &name).await?;
    let mut done = CreatedItems { created: 0, kept: 0 };
    for RegisterItem { level, id, fields } in items {
        let key = ItemKey::new(level.level(), &id)?;
        let edit = ItemEdit { create: Some(Creation::New), fields, ..ItemEdit::default() };
        match register.write(&key, &edit).await {
            Ok(_) => done.created += 1,
            Err(RegisterError::Conflict { .. }) => done.kept += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Json(done))
}
