//! `auth`: a new token for a page's socket. When an anonymous page gets its first user, its connection gets that user
//! too.

use super::{Caller, Context, Reply, enrolment};
use crate::pages::LoginError;
use crate::protocol::{AuthFrame, Close, CloseCode, CommandError, ErrorCode};

/// Verifies the token of the frame and, for an anonymous page, logs its connection in.
///
/// # Errors
///
/// The outer error closes the socket: the token or the connection belongs to another user. The inner error is sent to
/// the page as the terminal frame.
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
        (None, Some(user)) => match context.pages.login.identify(caller.page.connection().key, user).await {
            Ok(()) => {
                enrolment::logged_in(context, user, caller.page.connection().key, &verified).await;
            }
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
