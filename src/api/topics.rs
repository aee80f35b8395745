//! `/topics`: the pages and users of each topic, as far as pages have subscribed.

use axum::Json;
use axum::extract::State;
use pagewire_cluster::id::Scope;

use serde::Serialize;

use super::ApiState;
use super::error::{ApiError, ErrorBody};
use super::extract::Query;
use super::id::UserId;
use super::pagination::{PageQuery, Paginated};

/// A topic with at least one page.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Topic {
    topic: String,
    /// Number of its pages.
    pages: usize,
    /// The users of its pages.
    users: Vec<String>,
    /// Pages without a user.
    anonymous: usize,
    /// The nodes that own its pages.
    nodes: Vec<String>,
}

/// A topic in a list.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct TopicSummary {
    topic: String,
    pages: usize,
}

/// Lists the topics that have pages, in the order of their names.
#[utoipa::path(get, path = "/api/v1/topics", tag = "registry", params(PageQuery),
    responses((status = 200, body = Paginated<TopicSummary>)))]
pub(super) async fn topics(
    State(parts): State<ApiState>,
    Query(piece): Query<PageQuery>,
) -> Json<Paginated<TopicSummary>> {
    let view = parts.registry.view();
    let after = view.topics_after(piece.cursor.as_deref());
    let lines = after.map(|(topic, pages)| TopicSummary { topic: topic.to_owned(), pages });
    Json(Paginated::paginate(lines, piece.limit(), |line: &TopicSummary| line.topic.clone()))
}

/// Returns the current users of a topic. A name that a path cannot carry is written `~<base64url>`.
#[utoipa::path(get, path = "/api/v1/topics/{id}", tag = "registry", params(("id" = String, Path)),
    responses((status = 200, body = Topic), (status = "default", body = ErrorBody)))]
pub(super) async fn topic(
    State(parts): State<ApiState>,
    UserId(topic): UserId,
) -> Result<Json<Topic>, ApiError> {
    let view = parts.registry.view();
    let scope = Scope::Topic(topic.clone());
    let (mut users, mut pages, mut anonymous) = (Vec::new(), 0, 0);
    for (_, seen) in view.pages_of(&scope) {
        pages += 1;
        match &seen.user {
            Some(user) => users.push(user.to_string()),
            None => anonymous += 1,
        }
    }
    users.sort_unstable();
    users.dedup();
    let nodes = view.holders(&scope).into_iter().map(|holder| holder.node.to_string()).collect();
    Ok(Json(Topic { topic, pages, users, anonymous, nodes }))
}
