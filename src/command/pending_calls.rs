//! Calls in flight: a page can cancel them, and their number is bounded per page and per user.
//!
//! Owns: the counts of this node. Never: the work of a call, or the counts of other nodes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pagewire_cluster::id::{Account, Key};
use pagewire_cluster::table;
use tokio::sync::Notify;

use crate::config::LimitsConfig;
use crate::protocol::{CommandError, ErrorCode};

/// The page's own id of a call, exactly as the page wrote it, and the notification that cancels the call.
type Named = (Box<str>, Arc<Notify>);

#[derive(Default)]
struct CallTable {
    by_page: HashMap<Key, Vec<Named>>,
    by_account: HashMap<Account, usize>,
}

/// The calls in flight on this node.
pub struct PendingCalls {
    per_page: usize,
    per_account: usize,
    calls: Mutex<CallTable>,
}

/// A counted call in flight. Dropping it releases the count.
pub struct Counted {
    all: Arc<PendingCalls>,
    account: Account,
}

/// A page's call in flight. Dropping it unregisters the call.
pub(super) struct PendingCall {
    counted: Counted,
    page: Key,
    cancel: Arc<Notify>,
}

impl PendingCalls {
    /// A table without calls in flight.
    pub fn new(limits: &LimitsConfig) -> Self {
        Self { per_page: limits.calls_per_page, per_account: limits.calls_per_user, calls: Mutex::default() }
    }

    /// Each change leaves the maps consistent, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, CallTable> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call of a program for an account.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::RateLimited`] when the account has the maximum number of calls in flight.
    pub fn count(self: &Arc<Self>, account: Account) -> Result<Counted, CommandError> {
        self.lock().count(&account, self.per_account)?;
        Ok(Counted { all: self.clone(), account })
    }

    /// Registers a call of a page. If a client uses an id twice, only the later call can be cancelled.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::RateLimited`] when the page or the account has the maximum number of calls in flight.
    pub(super) fn begin(
        self: &Arc<Self>,
        page: Key,
        account: Account,
        frame: &str,
    ) -> Result<PendingCall, CommandError> {
        let mut calls = self.lock();
        if calls.by_page.get(&page).map_or(0, Vec::len) >= self.per_page {
            return Err(too_many("page", self.per_page, "limits.calls_per_page"));
        }
        calls.count(&account, self.per_account)?;
        let cancel = Arc::new(Notify::new());
        calls.by_page.entry(page).or_default().push((frame.into(), cancel.clone()));
        Ok(PendingCall { counted: Counted { all: self.clone(), account }, page, cancel })
    }

    /// Whether no call is in flight.
    pub fn is_empty(&self) -> bool {
        self.lock().by_account.is_empty()
    }

    /// Cancels a call of a page. Returns whether there was such a call.
    pub(super) fn cancel(&self, page: Key, frame: &str) -> bool {
        let calls = self.lock();
        let named = calls.by_page.get(&page).into_iter().flatten();
        let call = named.rev().find(|(name, _)| **name == *frame);
        call.inspect(|(_, cancel)| cancel.notify_one()).is_some()
    }
}

impl CallTable {
    fn count(&mut self, account: &Account, max: usize) -> Result<(), CommandError> {
        if self.by_account.get(account).copied().unwrap_or(0) >= max {
            let who = match account {
                Account::User(_) => "user",
                Account::Connection(_) => "anonymous browser",
            };
            return Err(too_many(who, max, "limits.calls_per_user"));
        }
        *self.by_account.entry(account.clone()).or_default() += 1;
        Ok(())
    }
}

fn too_many(who: &str, max: usize, key: &str) -> CommandError {
    let message = format!("too many calls in flight: {max} of one {who} at the same time ({key})");
    CommandError::new(ErrorCode::RateLimited, message)
}

impl PendingCall {
    /// Resolves when the page cancels the call.
    pub(super) async fn cancelled(&self) {
        self.cancel.notified().await;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut calls = self.all.lock();
        if let Some(count) = calls.by_account.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                calls.by_account.remove(&self.account);
                table::shrink(&mut calls.by_account);
            }
        }
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        let mut calls = self.counted.all.lock();
        if let Some(named) = calls.by_page.get_mut(&self.page) {
            named.retain(|(_, cancel)| !Arc::ptr_eq(cancel, &self.cancel));
            if named.is_empty() {
                calls.by_page.remove(&self.page);
                table::shrink(&mut calls.by_page);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(per_page: usize, per_account: usize) -> Arc<PendingCalls> {
        Arc::new(PendingCalls { per_page, per_account, calls: Mutex::default() })
    }

    fn key(bits: u128) -> Key {
        Key::from_bits(bits)
    }

    #[tokio::test]
    async fn a_call_can_be_taken_back_by_its_own_page_while_it_is_in_flight() {
        let (calls, ann, bob) = (calls(9, 9), key(1), key(2));
        let account = Account::Connection(key(3));
        let flight = calls.begin(ann, account.clone(), "7").unwrap();
        assert!(!calls.cancel(bob, "7") && !calls.cancel(ann, "\"7\""));
        assert!(calls.cancel(ann, "7"));
        flight.cancelled().await;
        let again = calls.begin(ann, account, "7").unwrap();
        drop(flight);
        assert!(calls.cancel(ann, "7"), "the later call remains");
        drop(again);
        assert!(!calls.cancel(ann, "7"));
        assert!(calls.lock().by_page.is_empty() && calls.lock().by_account.is_empty());
    }

    #[test]
    fn calls_in_flight_are_bounded_per_page_and_per_user_and_the_refusal_names_the_key() {
        let calls = calls(2, 3);
        let ann = || Account::User("ann".into());
        let begin = |page, account| calls.begin(key(page), account, "1");
        let _first = begin(1, ann()).unwrap();
        let second = begin(1, ann()).unwrap();
        let refused = begin(1, ann()).err().unwrap();
        assert!(refused.message.contains("limits.calls_per_page") && refused.code.retryable());
        let _third = begin(2, ann()).unwrap();
        let refused = begin(2, ann()).err().unwrap();
        assert!(refused.message.contains("limits.calls_per_user"), "{refused}");
        assert!(calls.count(ann()).is_err(), "a program's calls for a user count too");
        let _other = begin(2, Account::Connection(key(1))).unwrap();
        drop(second);
        assert!(calls.count(ann()).is_ok());
        assert!(begin(1, ann()).is_ok(), "what was counted is given back");
    }
}
