//! Error codes: one row each.
//!
//! Owns: the code that programs see, its HTTP status, whether the same request can succeed later, and its meaning. The
//! browser protocol, the server API, the errors of jobs and the table in `docs/protocol.md` use these rows. Never: the
//! message of one error, or the cause behind it.

/// Declares the codes, so that everything about one code is in one row.
macro_rules! error_codes {
    ($($name:ident $text:literal $status:expr, $retryable:literal, $meaning:literal;)*) => {
        /// The reason why a request, a call or a job failed. The code is for programs, and stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $(#[doc = concat!("`", $text, "`: ", $meaning, ".")] $name,)*
        }

        impl ErrorCode {
            /// All codes, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Returns the code that is sent.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Returns the HTTP status of a response with this code; `None` for a code that only the error of a job
            /// has, because a job that failed is still a successful response.
            pub const fn status(self) -> Option<u16> {
                match self { $(Self::$name => $status,)* }
            }

            /// Returns whether the same request can succeed later.
            pub const fn retryable(self) -> bool {
                match self { $(Self::$name => $retryable,)* }
            }

            /// Returns the meaning, for the documentation.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }
        }
    };
}

error_codes! {
    Malformed "malformed" Some(400), false,
        "the frame or request does not have the required shape";
    Unsupported "unsupported" Some(400), false,
        "the server does not know this type or method";
    Unauthenticated "unauthenticated" Some(401), false,
        "no valid token or key";
    Forbidden "forbidden" Some(403), false,
        "this identity has no permission";
    Unknown "unknown" Some(404), false,
        "no such page, session, connection, path or pool";
    TooLarge "too_large" Some(413), false,
        "over a limit";
    NoExecutor "no_executor" Some(503), true,
        "no executor can run this method now";
    Failed "failed" Some(422), false,
        "the handler returned an error; a handler may use a code of its own, and decides itself whether it is retryable";
    Cancelled "cancelled" Some(409), false,
        "cancelled by its page; the handler may have done a part of the work";
    Uncertain "uncertain" Some(409), false,
        "the server has no record of it: it may have happened, or may still happen";
    Timeout "timeout" Some(504), true,
        "no result in time; the work may still happen";
    Unavailable "unavailable" Some(503), true,
        "no connection to the cluster";
    RateLimited "rate_limited" Some(429), true,
        "too many at once; the message names the limit";
    Conflict "conflict" Some(409), false,
        "another writer changed the value first, or the idempotency key belongs to another request";
    WorkerLost "worker_lost" Some(502), true,
        "the executor died while it ran the call: a part of the work may have happened";
    Quarantined "quarantined" Some(503), false,
        "three executors died while they ran nothing but this kind: it runs again when an operator has lifted it";
    Stale "stale" Some(409), false,
        "the work that asks for it does not stand any more: another executor has taken it over, or it has ended";
    Locked "locked" Some(423), true,
        "another holder has the lock";
    LaneWithoutWorkers "lane_without_workers" Some(409), true,
        "a rollout would send users to a lane without workers; `force` applies it anyway";
    Lost "lost" None, true,
        "of a job: its workers died while they ran it, more often than it may be started again";
    Expired "expired" None, true,
        "of a job: no worker claimed it in time";
    Internal "internal" Some(500), true,
        "an error of the server";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_causes_share_a_code() {
        let texts: BTreeSet<_> = ErrorCode::ALL.iter().map(|code| code.text()).collect();
        assert_eq!(texts.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn a_status_is_an_error_of_the_client_or_of_the_server() {
        for code in ErrorCode::ALL {
            assert!(code.status().is_none_or(|status| (400..600).contains(&status)), "{code:?}");
        }
    }
}
