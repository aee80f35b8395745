//! `auth`: a new token for a page's socket. The first user of an anonymous page becomes the user of its connection.

use super::{Caller, Context, Reply};
use crate::pages::LoginError;
use crate::protocol::{AuthFrame, Close, CloseCode, CommandError, ErrorCode};

/// The outer error closes the socket, the inner one is answered.
pub(super) async fn run(
    context: &Context,
    caller: &Caller,
    frame: &AuthFrame,
) -> Result<Result<Reply, CommandError>, Close> {
    let verified = match context.authenticator.verify(&frame.token) {
        Ok(verified) => verified,
        Err(error) => return Ok(Err(CommandError::new(ErrorCode::Unauthenticated, error.to_string()))),
    };
    match (caller.page.user(), &verified.identity.user) {
        (Some(own), Some(user)) if own != *user => {
            return Err(Close::new(CloseCode::Forbidden, "the token is another user's"));
        }
        (None, Some(user)) => match context.sessions.identify(caller.page.connection().key, user).await {
            Ok(()) => {}
            Err(LoginError::Foreign) => {
                return Err(Close::new(CloseCode::Forbidden, "the connection is another user's"));
            }
            Err(LoginError::TooManyPages) => {
                return Ok(Err(CommandError::new(ErrorCode::RateLimited, "too many pages of this user")));
            }
            Err(LoginError::Unavailable) => return Ok(Err(CommandError::unavailable())),
        },
        _ => {}
    }
    Ok(Ok(Reply::Authenticated(verified)))
}
