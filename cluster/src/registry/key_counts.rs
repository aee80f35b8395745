//! Ordered keys with the number of pages of each. Pure.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::id::Key;

/// The pages and the idle mark of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct KeyShare {
    pages: u32,
    /// Whether the key is kept without a page.
    idle: bool,
}

/// Keys without a tree in the common case of one key.
#[derive(Debug, Default)]
enum Keys {
    #[default]
    None,
    One(Key, KeyShare),
    Many(BTreeMap<Key, KeyShare>),
}

/// The sessions of a user with the number of their pages, and similar sets. A key is present while it has a page or an
/// idle row.
#[derive(Debug, Default)]
pub(super) struct KeyCounts {
    pages: u32,
    keys: Keys,
}

impl KeyCounts {
    /// Adds a page to a key.
    pub(super) fn add_page(&mut self, key: Key) {
        self.pages += 1;
        self.change(key, |share| share.pages += 1);
    }

    /// Removes a page from a key that has one.
    pub(super) fn remove_page(&mut self, key: Key) {
        self.pages = self.pages.saturating_sub(1);
        self.change(key, |share| share.pages = share.pages.saturating_sub(1));
    }

    /// Sets whether a key has an idle row.
    pub(super) fn set_idle(&mut self, key: Key, idle: bool) {
        self.change(key, |share| share.idle = idle);
    }

    /// Returns the number of all pages.
    pub(super) fn pages(&self) -> usize {
        self.pages as usize
    }

    /// Returns the number of keys.
    pub(super) fn len(&self) -> usize {
        match &self.keys {
            Keys::None => 0,
            Keys::One(..) => 1,
            Keys::Many(keys) => keys.len(),
        }
    }

    /// Returns whether there is no key.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.keys, Keys::None)
    }

    /// Iterates in order over the keys after `after`, or over all of them. The cost depends only on the keys taken.
    pub(super) fn after(&self, after: Option<Key>) -> impl Iterator<Item = Key> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (one, many) = match &self.keys {
            Keys::None => (None, None),
            Keys::One(key, _) => (Some(*key).filter(|key| after.is_none_or(|after| *key > after)), None),
            Keys::Many(keys) => (None, Some(keys.range((from, Bound::Unbounded)).map(|(key, _)| *key))),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    fn change(&mut self, key: Key, change: impl FnOnce(&mut KeyShare)) {
        match &mut self.keys {
            Keys::One(only, share) if *only == key => {
                change(share);
                if *share == KeyShare::default() {
                    self.keys = Keys::None;
                }
            }
            Keys::Many(keys) => {
                let share = keys.entry(key).or_default();
                change(share);
                if *share == KeyShare::default() {
                    keys.remove(&key);
                }
                if let (1, Some((key, share))) = (keys.len(), keys.first_key_value()) {
                    self.keys = Keys::One(*key, *share);
                }
            }
            keys => {
                let mut share = KeyShare::default();
                change(&mut share);
                if share != KeyShare::default() {
                    *keys = match keys {
                        Keys::One(only, known) => Keys::Many(BTreeMap::from([(*only, *known), (key, share)])),
                        _ => Keys::One(key, share),
                    };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Compares with a plain map.
        #[test]
        fn a_tally_says_what_was_put_into_it(steps in prop::collection::vec((0u128..5, 0u8..4), 0..60)) {
            let (mut tally, mut model) = (KeyCounts::default(), BTreeMap::<Key, KeyShare>::new());
            for (bits, step) in steps {
                let key = Key::from_bits(bits);
                let share = model.entry(key).or_default();
                match step {
                    0 => { tally.add_page(key); share.pages += 1; }
                    1 if share.pages > 0 => { tally.remove_page(key); share.pages -= 1; }
                    1 => {}
                    _ => { tally.set_idle(key, step == 2); share.idle = step == 2; }
                }
                model.retain(|_, share| *share != KeyShare::default());
                prop_assert_eq!(tally.after(None).collect::<Vec<_>>(), model.keys().copied().collect::<Vec<_>>());
                let after: Vec<Key> = model.keys().copied().filter(|other| *other > key).collect();
                prop_assert_eq!(tally.after(Some(key)).collect::<Vec<_>>(), after);
                prop_assert_eq!((tally.len(), tally.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!(tally.pages(), model.values().map(|share| share.pages as usize).sum::<usize>());
            }
        }
    }
}
