//! A tree: one JSON object whose objects are branches. Pure.
//!
//! Owns: reading and changing by path, the order of keys, the limits. Never: revisions, or who may do it.
//!
//! Keys stand in the order in which they came; replacing a value keeps its place, deleting keeps the order of the
//! others. Arrays and scalars are leaves: writing below one replaces it by a branch.

use serde_json::{Map, Value};

use super::change::{Change, Edit, Event};
use super::path::Step;
use super::value::{legal, length, same};
use super::{Locator, MAX_CHANGES, MAX_TREE, Path, Refusal};

/// The data of a user, connection, session or page.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Always an object.
    root: Value,
    /// Its length as JSON.
    size: usize,
}

impl Default for Tree {
    fn default() -> Self {
        Self { root: Value::Object(Map::new()), size: 2 }
    }
}

/// By the equality of values: order counts, 1 equals 1.0.
impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        same(&self.root, &other.root)
    }
}

impl Tree {
    /// A tree that was stored: nothing is checked but that it is one.
    pub(super) fn stored(root: Value) -> Option<Self> {
        let size = length(&root);
        root.is_object().then_some(Self { root, size })
    }

    /// Its length in bytes as JSON.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The whole tree as a JSON object.
    pub fn as_dict(&self) -> &Value {
        &self.root
    }

    /// What stands at a path: a value or a branch.
    pub fn get(&self, path: &Path) -> Option<&Value> {
        path.keys().iter().try_fold(&self.root, |node, key| node.get(&**key))
    }

    /// What stands at a path, else the default.
    pub fn get_or<'a>(&'a self, path: &Path, default: &'a Value) -> &'a Value {
        self.get(path).unwrap_or(default)
    }

    /// Every leaf, and every branch that has nothing below it, in order.
    pub fn walk(&self) -> impl Iterator<Item = (Path, &Value)> {
        let mut ahead = vec![(Path::ROOT, &self.root)];
        std::iter::from_fn(move || {
            loop {
                let (path, node) = ahead.pop()?;
                match node {
                    Value::Object(members) if !members.is_empty() => {
                        let members = members.iter().rev();
                        ahead.extend(members.map(|(key, member)| (path.child(key), member)));
                    }
                    _ => return Some((path, node)),
                }
            }
        })
        .filter(|(path, _)| *path != Path::ROOT)
    }

    /// The keys that a client's path means here and now.
    pub fn resolve(&self, locator: &Locator) -> Result<Path, Refusal> {
        let (mut path, mut node) = (Path::ROOT, Some(&self.root));
        for step in &locator.0 {
            match step {
                Step::Key(key) => {
                    path.push(key);
                    node = node.and_then(|node| node.get(&**key));
                }
                Step::Child(position) => {
                    let members = node.and_then(Value::as_object);
                    let child = members.and_then(|members| members.iter().nth(*position));
                    let (key, child) = child.ok_or(Refusal::Child(*position))?;
                    path.push(key);
                    node = Some(child);
                }
            }
        }
        Ok(path)
    }

    /// Writes a value, and branches above it where there are none. `None` when it stood there already.
    pub fn set(&mut self, path: &Path, value: Value) -> Result<Option<Event>, Refusal> {
        let Some((_, above)) = path.keys().split_last() else { return self.replace(value) };
        legal(&value, path.keys().len())?;
        let (standing, missing) = path.keys().split_at(self.branches(above));
        let Some((key, below)) = missing.split_first() else { return Ok(None) };
        let branch = descend(&mut self.root, standing);
        let Some(branch) = branch else { return Ok(None) };
        let new = Some(value.clone());
        let value = below.iter().rev().fold(value, |value, key| branch_of(key, value));
        let old = branch.get(&**key);
        if below.is_empty() && old.is_some_and(|old| same(old, &value)) {
            return Ok(None);
        }
        let size = match old {
            Some(old) => self.size - length(old) + length(&value),
            None => self.size + length(&**key) + 1 + length(&value) + usize::from(!branch.is_empty()),
        };
        if size > MAX_TREE {
            return Err(Refusal::Size);
        }
        // a leaf that became a branch did not stand at the path
        let old = branch.insert(key.to_string(), value).filter(|_| below.is_empty());
        self.size = size;
        Ok(Some(Event { path: path.clone(), old, new, from: None }))
    }

    /// Deletes what stands at a path; the branch above it stays. `None` when nothing stood there.
    pub fn delete(&mut self, path: &Path) -> Option<Event> {
        let Some((key, above)) = path.keys().split_last() else {
            let old = std::mem::take(self);
            let event = Event { path: Path::ROOT, old: Some(old.root), new: None, from: None };
            return (old.size > 2).then_some(event);
        };
        let branch = descend(&mut self.root, above)?;
        let old = branch.shift_remove(&**key)?;
        self.size -= length(&**key) + 1 + length(&old) + usize::from(!branch.is_empty());
        Some(Event { path: path.clone(), old: Some(old), new: None, from: None })
    }

    /// What a stored or sent change does here.
    pub fn change(&mut self, change: Change) -> Result<Option<Event>, Refusal> {
        let event = match change.value {
            Some(value) => self.set(&change.path, value)?,
            None => self.delete(&change.path),
        };
        Ok(event.map(|event| Event { from: change.from, ..event }))
    }

    /// All edits one after the other, or none of them; what happened.
    pub fn patch(&mut self, edits: &[Edit]) -> Result<Vec<Event>, Refusal> {
        if edits.len() > MAX_CHANGES {
            return Err(Refusal::Changes);
        }
        // one edit is all or nothing by itself
        let before = (edits.len() > 1).then(|| self.clone());
        let mut events = Vec::new();
        for edit in edits {
            match self.edit(edit) {
                Ok(event) => events.extend(event),
                Err(refusal) => {
                    if let Some(before) = before {
                        *self = before;
                    }
                    return Err(refusal);
                }
            }
        }
        Ok(events)
    }

    fn edit(&mut self, edit: &Edit) -> Result<Option<Event>, Refusal> {
        let path = self.resolve(&edit.path)?;
        self.change(Change { path, value: edit.value.clone(), from: None })
    }

    fn replace(&mut self, value: Value) -> Result<Option<Event>, Refusal> {
        if !value.is_object() {
            return Err(Refusal::Root);
        }
        legal(&value, 0)?;
        let size = length(&value);
        if size > MAX_TREE {
            return Err(Refusal::Size);
        }
        if same(&self.root, &value) {
            return Ok(None);
        }
        let old = std::mem::replace(self, Self { root: value.clone(), size });
        Ok(Some(Event { path: Path::ROOT, old: Some(old.root), new: Some(value), from: None }))
    }

    /// Through how many of these keys branches lead.
    fn branches(&self, keys: &[Box<str>]) -> usize {
        let mut node = &self.root;
        let standing = keys.iter().take_while(|key| match node.get(&***key) {
            Some(below @ Value::Object(_)) => {
                node = below;
                true
            }
            _ => false,
        });
        standing.count()
    }
}

fn descend<'a>(root: &'a mut Value, keys: &[Box<str>]) -> Option<&'a mut Map<String, Value>> {
    keys.iter().try_fold(root, |node, key| node.get_mut(&**key))?.as_object_mut()
}

fn branch_of(key: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(key.to_owned(), value)]))
}

#[cfg(test)]
pub(super) mod tests;
