//! The corpus through a mount whose application runs in processes of the node, on private sockets.

use super::message::{Message, responses};
use super::servers::expected;
use crate::environment::mounts::served;
use crate::framing::corpus::{self, CorpusCase};
use crate::framing::{SMUGGLED, exchange};
use crate::mount_processes::{SITES, mount, setup};

/// Returns the answers to a case, of which `requests` are expected.
async fn answers(address: std::net::SocketAddr, case: &CorpusCase, requests: &[Message]) -> Vec<Message> {
    let received = exchange(address, &case.name, &[&case.stream, SMUGGLED].concat()).await;
    let methods: Vec<&str> = requests.iter().map(Message::method).collect();
    let (answers, rest) = responses(&received, &methods);
    assert!(rest.is_empty(), "{}: {}", case.name, String::from_utf8_lossy(&received));
    answers
}

#[tokio::test]
async fn an_application_understands_unusual_requests_as_its_node_does_and_answers_no_malformed_one() {
    for server in ["gunicorn", "granian"] {
        let keys = format!("server = \"{server}\"\nprocesses = 1");
        let file = format!("native = []\n{}", mount("/", "wsgi = \"echo:application\"", SITES, &keys));
        let node = setup(&file).start().await;
        served(&node, "/").await;
        for case in corpus::accepted() {
            let requests = expected(&case);
            let answers = answers(node.address(), &case, &requests).await;
            assert_eq!(answers.len(), requests.len(), "{server}: {}: {answers:?}", case.name);
            for (request, answer) in requests.iter().zip(&answers).filter(|(sent, _)| sent.method() != "HEAD")
            {
                // `smuggling::servers` knows which ones are refused
                let is_same = answer.status() == 400 || answer.json() == Some(request.understood());
                assert!(is_same, "{server}: {}: {request:?} {answer:?}", case.name);
            }
        }
        for case in corpus::refused() {
            let answers = answers(node.address(), &case, &[]).await;
            assert!(
                answers.iter().all(|answer| answer.status() >= 400),
                "{server}: {}: {answers:?}",
                case.name
            );
        }
    }
}
