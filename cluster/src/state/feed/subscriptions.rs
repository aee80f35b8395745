//! All followers in this process. Pure.
//!
//! Owns: which trees are followed, and by which followers; a tree without followers is not stored here. Never: the
//! notifications (`replica`).

use std::collections::{BTreeMap, BTreeSet};

use super::replica::{Action, TreeReplica};
use crate::engine::Entry;
use crate::id::Entity;
use crate::id::Key;
use crate::state::Path;
use crate::state::writer::Found;

#[derive(Debug, Default)]
pub(in crate::state) struct Subscriptions {
    trees: BTreeMap<String, TreeReplica>,
    /// Paths that each follower follows.
    paths: BTreeMap<Key, BTreeSet<(String, Path)>>,
    /// Last number of a read. Numbers are never reused, so that the result of a read for a tree that was dropped and
    /// followed again is recognised as old.
    numbers: u64,
}

impl Subscriptions {
    pub(in crate::state) fn follow(&mut self, owner: Entity, path: Path, who: Key, seen: u64) -> Vec<Action> {
        let key = owner.tree_key();
        self.paths.entry(who).or_default().insert((key.clone(), path.clone()));
        let followed = self.trees.entry(key).or_insert_with(|| TreeReplica::new(owner));
        followed.join(path, who, seen, &mut self.numbers)
    }

    pub(in crate::state) fn unfollow(&mut self, owner: &Entity, path: &Path, who: Key) {
        let key = owner.tree_key();
        self.remove_from(&key, path, who);
        if let Some(paths) = self.paths.get_mut(&who) {
            paths.remove(&(key, path.clone()));
            if paths.is_empty() {
                self.paths.remove(&who);
            }
        }
    }

    /// Removes a follower from all paths.
    pub(in crate::state) fn leave(&mut self, who: Key) {
        for (key, path) in self.paths.remove(&who).unwrap_or_default() {
            self.remove_from(&key, &path, who);
        }
    }

    pub(in crate::state) fn on_entry(&mut self, entry: &Entry) -> Vec<Action> {
        let followed = self.trees.get_mut(&entry.key);
        followed.map(|followed| followed.on_entry(entry, &mut self.numbers)).unwrap_or_default()
    }

    pub(in crate::state) fn on_delete(&mut self, key: &str) -> Vec<Action> {
        let followed = self.trees.get_mut(key);
        followed.map(|followed| followed.on_delete(&mut self.numbers)).unwrap_or_default()
    }

    pub(in crate::state) fn found(&mut self, key: &str, number: u64, found: Found) -> Vec<Action> {
        let followed = self.trees.get_mut(key);
        followed.map(|followed| followed.found(number, found, &mut self.numbers)).unwrap_or_default()
    }

    fn remove_from(&mut self, key: &str, path: &Path, who: Key) {
        if self.trees.get_mut(key).is_some_and(|followed| followed.remove(path, who)) {
            self.trees.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_follows_costs_nothing() {
        let (ann, bob) = (Key::from_bits(1), Key::from_bits(2));
        let (user, session) = (Entity::User("ann".into()), Entity::Session(Key::from_bits(9)));
        let path: Path = "a.b".parse().unwrap();
        let mut followers = Subscriptions::default();
        assert_eq!(followers.follow(user.clone(), Path::ROOT, ann, 0).len(), 1);
        assert_eq!(followers.follow(user.clone(), path.clone(), bob, 0), [], "one reading for both");
        assert_eq!(followers.follow(session, path.clone(), ann, 0).len(), 1);
        followers.unfollow(&user, &path, bob);
        followers.unfollow(&user, &path, bob);
        assert_eq!((followers.trees.len(), followers.paths.len()), (2, 1));
        followers.leave(ann);
        assert!(followers.trees.is_empty() && followers.paths.is_empty());
    }

    #[test]
    fn the_answer_to_a_question_of_a_former_life_is_ignored() {
        let (ann, user) = (Key::from_bits(1), Entity::User("ann".into()));
        let mut followers = Subscriptions::default();
        let follow = |followers: &mut Subscriptions| {
            let actions = followers.follow(user.clone(), Path::ROOT, ann, 0);
            let [Action::Read { key, number }] = &actions[..] else { panic!("{actions:?}") };
            (key.clone(), *number)
        };
        let (key, old) = follow(&mut followers);
        followers.leave(ann);
        let (_, new) = follow(&mut followers);
        assert_eq!(followers.found(&key, old, None), []);
        assert_eq!(followers.found(&key, new, None).len(), 1);
    }
}
