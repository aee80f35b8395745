//! Sending the present socket of a page to another node.
//!
//! Owns: whether the client of the socket knows `move`, and how the socket is sent away. Never: where it goes.

use super::Page;
use super::socket::SendAway;
use crate::protocol::{Close, FrameBody};

/// Sends the present socket away: with `moving` if its client knows `move`, else with the close.
pub(in crate::pages) fn send_away(page: &Page, moving: FrameBody, close: Close) -> SendAway {
    let sent = page.lock().send_away(moving, close);
    if sent != SendAway::NoSocket {
        page.changed.notify_one();
    }
    sent
}

/// Returns whether the client of the present socket knows `move`.
pub(in crate::pages) fn knows_move(page: &Page) -> bool {
    page.lock().knows_move
}

/// Records whether the client of the present socket knows `move`.
pub fn set_knows_move(page: &Page, knows: bool) {
    page.lock().knows_move = knows;
}
