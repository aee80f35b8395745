//! A program beside the site, `manage.py restock`, as the files of each phase start it.

use super::spread::nodes;
use crate::environment::Nats;
use crate::environment::store::StoreRoom;

/// The step of the visitors that runs the program.
const TOLD: &str = "a program beside the site fills up, and the pages are told";

#[tokio::test]
async fn in_phases_0_to_5_a_program_beside_the_site_has_the_register_and_the_push_of_the_phase() {
    let room = StoreRoom::open().await;
    let gunicorn = room.gunicorn().await;
    let steps = room.visited_with_program("before", &[&format!("http://{}", gunicorn.address)]).await;
    assert!(steps.contains(TOLD), "{steps}");
    drop(gunicorn);
    for phase in ["0", "3", "shadow", "4", "5"] {
        let node = room.serve(phase).await;
        let steps = room.visited_with_program(phase, &[&node.url()]).await;
        assert!(steps.contains(TOLD), "{steps}");
    }
}

#[tokio::test]
async fn phase_7_a_program_at_one_node_tells_the_pages_at_both() {
    let (mut room, nats) = (StoreRoom::open().await, Nats::start().await);
    room.stop_daemon();
    let [one, two] = nodes(&room, &nats).await;
    let steps = room.visited_with_program("7", &[&two.url(), &one.url()]).await;
    assert!(steps.contains(TOLD), "{steps}");
}
