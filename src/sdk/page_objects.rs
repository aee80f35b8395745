//! The objects of the resident pages of one class in this process.
//!
//! Owns: where each object lives, and that one message at a time uses it. Never: which worker has the object of a page, or
//! the order of its messages (`pagewire_worker::residence`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pagewire_cluster::id::Key;
use pagewire_worker::object::{ObjectStep, Seat};
use tokio::sync::Mutex as MessageLock;

/// The number of the only executor of this process.
const EXECUTOR: u64 = 1;

/// An object, which is not there before it was made and after it has ended. A message locks it: one that did not stop in
/// time keeps the next one waiting, without a thread. A panic leaves the object as it was at that moment.
pub(super) type ObjectPlace<T> = Arc<MessageLock<Option<T>>>;

/// The living objects by the keys of their pages. Each has its seat, so that a worker which has lost a page does not find
/// the object that was made after that, for example by another node in this process.
pub(super) struct PageObjects<T>(Mutex<HashMap<Key, (Seat, ObjectPlace<T>)>>);

impl<T> Default for PageObjects<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> PageObjects<T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, (Seat, ObjectPlace<T>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the place of an object for a step: a new one for an object that is made, and one that is left behind for an
    /// object that ends. `None` if the object does not live here.
    pub(super) fn place(&self, step: &ObjectStep, seat: &Seat) -> Option<ObjectPlace<T>> {
        match step {
            ObjectStep::Open | ObjectStep::Restore { .. } => {
                let place = ObjectPlace::<T>::default();
                self.lock().insert(seat.page(), (seat.clone(), place.clone()));
                Some(place)
            }
            ObjectStep::Save { .. } | ObjectStep::Close => self.remove(seat),
            ObjectStep::Call | ObjectStep::Away | ObjectStep::Back => {
                let objects = self.lock();
                objects.get(&seat.page()).filter(|(own, _)| own.is(seat)).map(|(_, place)| place.clone())
            }
        }
    }

    /// Records whether the object of a seat was made.
    pub(super) fn made(&self, seat: &Seat, has_succeeded: bool) {
        if has_succeeded {
            seat.take(EXECUTOR);
        } else {
            self.remove(seat);
        }
    }

    fn remove(&self, seat: &Seat) -> Option<ObjectPlace<T>> {
        let mut objects = self.lock();
        if !objects.get(&seat.page())?.0.is(seat) {
            return None;
        }
        objects.remove(&seat.page()).map(|(_, place)| place)
    }
}

#[cfg(test)]
mod tests {
    use pagewire_cluster::wire::MoveReason;
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn a_step_for_an_object_that_has_moved_away_does_not_find_the_one_that_came_after_it() {
        let objects = PageObjects::<u8>::default();
        let (messages, _) = mpsc::unbounded_channel();
        let [old, new] = [(); 2].map(|()| Seat::new(Key::from_bits(1), messages.clone()));
        let save = ObjectStep::Save { why: MoveReason::Drain };
        assert!(objects.place(&ObjectStep::Open, &old).is_some());
        objects.made(&old, true);
        assert_eq!(old.executor(), Some(EXECUTOR));
        let place = objects.place(&ObjectStep::Open, &new).expect("a place");
        for step in [&ObjectStep::Call, &save] {
            assert!(objects.place(step, &old).is_none(), "{step:?}");
        }
        let found = objects.place(&ObjectStep::Call, &new).expect("the new one");
        assert!(Arc::ptr_eq(&found, &place));
        assert!(objects.place(&save, &new).is_some_and(|saved| Arc::ptr_eq(&saved, &place)));
        assert!(objects.place(&ObjectStep::Call, &new).is_none(), "it has ended");
    }

    #[test]
    fn an_object_that_could_not_be_made_leaves_nothing_behind() {
        let objects = PageObjects::<u8>::default();
        let seat = Seat::new(Key::from_bits(1), mpsc::unbounded_channel().0);
        assert!(objects.place(&ObjectStep::Open, &seat).is_some());
        objects.made(&seat, false);
        assert_eq!(seat.executor(), None);
        assert!(objects.lock().is_empty());
    }
}
