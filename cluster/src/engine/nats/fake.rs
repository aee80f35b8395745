//! A fake server that implements just enough of the protocol to misbehave on demand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

const NOTHING: &str = r#"{"error":{"code":404,"err_code":10037,"description":"no message found"}}"#;

/// Routes messages between the subscriptions of one connection. A message to `burst` makes it send as many
/// messages to `t.x` as its payload states, in one write. JetStream leaves the first request unanswered, as
/// during the election of a leader, and replies to later requests that nothing is stored.
pub(super) struct Fake {
    port: u16,
}

impl Fake {
    /// Starts the server. It runs until the test process ends.
    pub(super) fn start(version: &str, max_payload: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let info = format!(
            "INFO {{\"server_id\":\"f\",\"version\":\"{version}\",\"headers\":true,\"max_payload\":{max_payload}}}\r\n"
        );
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let info = info.clone();
                // a client that disconnects does not fail the test
                std::thread::spawn(move || drop(serve(stream, &info)));
            }
        });
        Self { port }
    }

    pub(super) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

fn serve(mut stream: TcpStream, info: &str) -> std::io::Result<()> {
    stream.write_all(info.as_bytes())?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut subscriptions: Vec<(String, String)> = Vec::new();
    let mut line = String::new();
    let mut leader = false;
    while reader.read_line(&mut line)? > 0 {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        line.clear();
        match words.first().map(String::as_str) {
            Some("PING") => stream.write_all(b"PONG\r\n")?,
            Some("SUB") => subscriptions.push((words[1].clone(), words[words.len() - 1].clone())),
            Some("PUB") => {
                let mut payload = vec![0; words[words.len() - 1].parse::<usize>().unwrap() + 2];
                reader.read_exact(&mut payload)?;
                let text = String::from_utf8_lossy(&payload).trim().to_owned();
                let (subject, text, times) = match words[1].as_str() {
                    "burst" => ("t.x", text.clone(), text.parse().unwrap()),
                    request if request.starts_with("$JS.API.") => (
                        words[2].as_str(),
                        NOTHING.to_owned(),
                        usize::from(std::mem::replace(&mut leader, true)),
                    ),
                    subject => (subject, text, 1),
                };
                let matching = subscriptions.iter().find(|(pattern, _)| {
                    pattern == subject
                        || pattern.strip_suffix('*').is_some_and(|start| subject.starts_with(start))
                });
                if let Some((_, sid)) = matching {
                    let message = format!("MSG {subject} {sid} {}\r\n{text}\r\n", text.len());
                    stream.write_all(message.repeat(times).as_bytes())?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}
