//! A tree: one JSON object, in which objects are branches. Pure.
//!
//! Owns: reading and changing by path, the order of keys, the limits. Never: revisions, or who may read or write.
//!
//! Keys keep insertion order. Replacing a value keeps the position of its key, and deleting keeps the order of the
//! others. Arrays and scalars are leaves: writing below a leaf replaces it with a branch.

use serde_json::{Map, Value};

use super::change::{Edit, TreeChange, TreeEvent};
use super::path::PathStep;
use super::value::{legal, length, same};
use super::{ClientPath, MAX_CHANGES, MAX_TREE, Path, StateError};

/// The data of a user, connection, session or page.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Always an object.
    root: Value,
    /// Length as JSON, in bytes.
    size: usize,
}

impl Default for Tree {
    fn default() -> Self {
        Self { root: Value::Object(Map::new()), size: 2 }
    }
}

/// Compares values: the order of keys counts, and 1 equals 1.0.
impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        same(&self.root, &other.root)
    }
}

impl Tree {
    /// Wraps a stored tree. Returns `None` when the value is not an object; checks nothing else.
    pub(super) fn stored(root: Value) -> Option<Self> {
        let size = length(&root);
        root.is_object().then_some(Self { root, size })
    }

    /// Returns the length as JSON, in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns the whole tree as a JSON object.
    pub fn as_value(&self) -> &Value {
        &self.root
    }

    /// Returns the value or branch at a path.
    pub fn get(&self, path: &Path) -> Option<&Value> {
        path.keys().iter().try_fold(&self.root, |node, key| node.get(&**key))
    }

    /// Resolves a client's path to keys, in the current tree.
    ///
    /// # Errors
    ///
    /// [`StateError::Child`] when the path names a child by position and there is none.
    pub fn resolve(&self, locator: &ClientPath) -> Result<Path, StateError> {
        let (mut path, mut node) = (Path::ROOT, Some(&self.root));
        for step in &locator.0 {
            match step {
                PathStep::Key(key) => {
                    path.push(key);
                    node = node.and_then(|node| node.get(&**key));
                }
                PathStep::Child(position) => {
                    let members = node.and_then(Value::as_object);
                    let child = members.and_then(|members| members.iter().nth(*position));
                    let (key, child) = child.ok_or(StateError::Child(*position))?;
                    path.push(key);
                    node = Some(child);
                }
            }
        }
        Ok(path)
    }

    /// Writes a value, and creates the branches above it that are missing. Returns `None` when the value is the same
    /// already.
    ///
    /// # Errors
    ///
    /// [`StateError::Root`] when the path is the whole tree and the value is not an object; [`StateError::Depth`],
    /// [`StateError::Key`] or [`StateError::Size`] when the value exceeds a limit. The tree is unchanged then.
    pub fn set(&mut self, path: &Path, value: Value) -> Result<Option<TreeEvent>, StateError> {
        let Some((_, above)) = path.keys().split_last() else { return self.replace(value) };
        legal(&value, path.keys().len())?;
        let (existing, missing) = path.keys().split_at(self.branches(above));
        let Some((key, below)) = missing.split_first() else { return Ok(None) };
        let branch = descend(&mut self.root, existing);
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
            return Err(StateError::Size);
        }
        // a leaf that became a branch was not the old value of the path
        let old = branch.insert(key.to_string(), value).filter(|_| below.is_empty());
        self.size = size;
        Ok(Some(TreeEvent { path: path.clone(), old, new, from: None }))
    }

    /// Deletes the value or branch at a path; the branch above it stays. Returns `None` when the path does not exist.
    pub fn delete(&mut self, path: &Path) -> Option<TreeEvent> {
        let Some((key, above)) = path.keys().split_last() else {
            let old = std::mem::take(self);
            let event = TreeEvent { path: Path::ROOT, old: Some(old.root), new: None, from: None };
            return (old.size > 2).then_some(event);
        };
        let branch = descend(&mut self.root, above)?;
        let old = branch.shift_remove(&**key)?;
        self.size -= length(&**key) + 1 + length(&old) + usize::from(!branch.is_empty());
        Some(TreeEvent { path: path.clone(), old: Some(old), new: None, from: None })
    }

    /// Applies a stored or sent change.
    ///
    /// # Errors
    ///
    /// See [`Tree::set`].
    pub fn change(&mut self, change: TreeChange) -> Result<Option<TreeEvent>, StateError> {
        let event = match change.value {
            Some(value) => self.set(&change.path, value)?,
            None => self.delete(&change.path),
        };
        Ok(event.map(|event| TreeEvent { from: change.from, ..event }))
    }

    /// Applies all edits in order, or none of them, and returns the events.
    ///
    /// # Errors
    ///
    /// [`StateError::Changes`] for more than [`MAX_CHANGES`] edits; otherwise see [`Tree::resolve`] and [`Tree::set`].
    pub fn patch(&mut self, edits: &[Edit]) -> Result<Vec<TreeEvent>, StateError> {
        if edits.len() > MAX_CHANGES {
            return Err(StateError::Changes);
        }
        // a single edit is atomic by itself
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

    fn edit(&mut self, edit: &Edit) -> Result<Option<TreeEvent>, StateError> {
        let path = self.resolve(&edit.path)?;
        self.change(TreeChange { path, value: edit.value.clone(), from: None })
    }

    fn replace(&mut self, value: Value) -> Result<Option<TreeEvent>, StateError> {
        if !value.is_object() {
            return Err(StateError::Root);
        }
        legal(&value, 0)?;
        let size = length(&value);
        if size > MAX_TREE {
            return Err(StateError::Size);
        }
        if same(&self.root, &value) {
            return Ok(None);
        }
        let old = std::mem::replace(self, Self { root: value.clone(), size });
        Ok(Some(TreeEvent { path: Path::ROOT, old: Some(old.root), new: Some(value), from: None }))
    }

    /// Returns how many of the first keys lead to branches.
    fn branches(&self, keys: &[Box<str>]) -> usize {
        let mut node = &self.root;
        let existing = keys.iter().take_while(|key| match node.get(&***key) {
            Some(below @ Value::Object(_)) => {
                node = below;
                true
            }
            _ => false,
        });
        existing.count()
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
