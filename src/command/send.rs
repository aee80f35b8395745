//! `send`: a message to a page, session, connection or user.

use super::{Caller, Context, Reply};
use crate::auth::Role;
use crate::config::SendLevel;
use crate::pages::Membership;
use crate::protocol::{CommandError, ErrorCode, SendFrame, Target};

pub(super) async fn run(context: &Context, caller: &Caller, frame: SendFrame) -> Result<Reply, CommandError> {
    if let Target::All(_) = frame.to {
        return Err(CommandError::new(ErrorCode::Malformed, "only a program sends to all pages"));
    }
    if !caller.roles.has(Role::Push) && !is_own_target(context, caller, &frame.to) {
        let message = "this page may address its own session, connection and user as far as the server allows; \
                       other targets need the role push";
        return Err(CommandError::new(ErrorCode::Forbidden, message));
    }
    let from = context.pages.store.address(&caller.page);
    Ok(Reply::reach(&context.deliver.send(frame.to.scope()?, frame.payload, from).await?))
}

/// Whether the target belongs to the caller's own page, session, connection, user or topics, at a level that the
/// deployment allows.
fn is_own_target(context: &Context, caller: &Caller, target: &Target) -> bool {
    let page = &caller.page;
    match target {
        Target::User(user) => {
            context.allow.contains(&SendLevel::User) && page.user().as_deref() == Some(user)
        }
        Target::Connection(address) => {
            context.allow.contains(&SendLevel::Connection) && page.connection().key == address.key
        }
        Target::Session(address) => {
            context.allow.contains(&SendLevel::Session) && page.session().key == address.key
        }
        Target::Topic(topic) => {
            let own = page.place().topics;
            context.allow.contains(&SendLevel::Topic) && own.iter().any(|known| **known == **topic)
        }
        Target::All(_) => false,
        Target::Page(address) if address.key == page.key() => true,
        Target::Page(address) => context
            .pages
            .store
            .find(address.key)
            .is_some_and(|other| share_a_level(&context.allow, &caller.page.place(), &other)),
    }
}

/// Whether two pages have a common parent at a level that a page may address.
fn share_a_level(allow: &[SendLevel], own: &Membership, other: &Membership) -> bool {
    allow.iter().any(|level| match level {
        SendLevel::Page | SendLevel::Session => own.session.key == other.session.key,
        SendLevel::Connection => own.connection.key == other.connection.key,
        SendLevel::User => own.user.is_some() && own.user == other.user,
        SendLevel::Topic => false,
    })
}

#[cfg(test)]
mod tests {
    use pagewire_cluster::id::{Address, Key, NodeNumber};

    use super::*;

    fn place(session: u128, connection: u128, user: Option<&str>) -> Membership {
        let at = |bits| Address { key: Key::from_bits(bits), node: NodeNumber::new(1).unwrap() };
        let user = user.map(Into::into);
        Membership::new(at(session), at(connection), user)
    }

    #[test]
    fn a_page_reaches_only_pages_of_its_own_chain() {
        let all = [SendLevel::Session, SendLevel::Connection, SendLevel::User];
        let own = place(1, 1, Some("ann"));
        assert!(share_a_level(&all, &own, &place(1, 1, None)));
        assert!(share_a_level(&all, &own, &place(2, 1, None)));
        assert!(share_a_level(&all, &own, &place(2, 2, Some("ann"))));
        assert!(!share_a_level(&all, &own, &place(2, 2, Some("bob"))));
        assert!(
            !share_a_level(&all, &place(1, 1, None), &place(2, 2, None)),
            "two anonymous pages are not one user"
        );
        assert!(!share_a_level(&[], &own, &own.clone()));
    }
}
