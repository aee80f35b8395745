//! `subscribe`, `unsubscribe`: the topics of a page.

use super::{Caller, Context, Reply};
use crate::auth::Role;
use crate::protocol::{CommandError, ErrorCode, Subscribe, Unsubscribe};

/// Subscribes to a topic. Allowed for an open topic, for a topic that a token names, and for any topic with the role
/// push.
pub(super) async fn subscribe(
    context: &Context,
    caller: &Caller,
    frame: Subscribe,
) -> Result<Reply, CommandError> {
    let open = caller.roles.has(Role::Push) || matches(&context.open_topics, &frame.topic);
    if !open && !granted(context, caller, &frame)? {
        let message = "this topic is not open: list it in topics.open, or use a token that names it or has the \
                       role push";
        return Err(CommandError::new(ErrorCode::Forbidden, message));
    }
    context.pages.topics.subscribe(&caller.page, &frame.topic).await?;
    Ok(Reply::Nothing)
}

pub(super) async fn unsubscribe(
    context: &Context,
    caller: &Caller,
    frame: Unsubscribe,
) -> Result<Reply, CommandError> {
    context.pages.topics.unsubscribe(&caller.page, &frame.topic).await?;
    Ok(Reply::Nothing)
}

/// Whether the token of the frame names the topic. The token must belong to the page's own user.
fn granted(context: &Context, caller: &Caller, frame: &Subscribe) -> Result<bool, CommandError> {
    let Some(token) = &frame.token else { return Ok(false) };
    let verified = context
        .authenticator
        .verify(token)
        .map_err(|error| CommandError::new(ErrorCode::Unauthenticated, error.to_string()))?;
    let own = caller.page.user().is_none_or(|user| verified.identity.user.as_ref() == Some(&user));
    Ok(own && matches(&verified.topics, &frame.topic))
}

/// Whether a pattern matches the topic. A pattern is a topic name, or a prefix followed by `*`.
fn matches(patterns: &[String], topic: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => topic.starts_with(start),
        None => pattern == topic,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_name_or_the_start_of_names() {
        let patterns = ["news".to_owned(), "room.*".to_owned()];
        for (topic, expected) in
            [("news", true), ("news.sport", false), ("room.7", true), ("room", false), ("*", false)]
        {
            assert_eq!(matches(&patterns, topic), expected, "{topic}");
        }
        assert!(matches(&["*".to_owned()], "anything") && !matches(&[], "anything"));
    }
}
