//! The address at which a Genropy site that keeps its daemon pushes to its pages: `/wsproxy` on a Unix socket, in the place of
//! the framework's `gnr web async`.
//!
//! Owns: the socket, its file, and reading what is sent. Never: what happens with a message (`pushes`).
//!
//! A site opens a connection for each message and closes it without reading the answer. Connections are read at the same time, and their
//! messages are passed on in the order in which the connections came.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pagewire_cluster::timing::Timing;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// The path of a message.
const PATH: &str = "/wsproxy";
/// Maximum size of a message, in bytes.
const MAX_MESSAGE: usize = 8 * 1024 * 1024;
/// Connections that are read at a time.
const CONNECTIONS: usize = 64;

/// The socket of a site.
#[derive(Debug)]
pub(crate) struct SiteListener {
    listener: UnixListener,
    path: PathBuf,
}

/// What a site sends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SiteRequest {
    /// The pages, with commas between them; `*` for all; empty for a message to this server.
    pub(super) pages: String,
    /// The message.
    pub(super) envelope: String,
}

impl SiteListener {
    /// Binds a socket that only the user of this process can connect to. The file of a listener that has ended is replaced.
    ///
    /// # Errors
    ///
    /// The reason of the system; `AddrInUse` when another process listens there.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
        match StdUnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if is_socket && error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)?;
            }
            // nothing is there, or the reason is reported by the bind
            Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Passes on what is sent. Never returns.
    pub(super) async fn serve(self, timing: &Timing, pass_on: impl Fn(SiteRequest)) {
        let mut reading = FuturesOrdered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if reading.len() < CONNECTIONS => match accepted {
                    Ok((stream, _)) => {
                        let read = timeout(timing.site_push, read(stream));
                        reading.push_back(AbortOnDropHandle::new(tokio::spawn(read)));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection of a site is not accepted");
                        tokio::time::sleep(timing.site_retry).await;
                    }
                },
                Some(sent) = reading.next() => match sent {
                    Ok(Ok(Some(sent))) => pass_on(sent),
                    Ok(Ok(None)) => {}
                    Ok(Err(_)) | Err(_) => tracing::warn!("a message of a site did not arrive in time"),
                },
            }
        }
    }
}

impl Drop for SiteListener {
    fn drop(&mut self) {
        // the next one that binds replaces it
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Reads the request of a connection, and answers it.
async fn read(stream: UnixStream) -> Option<SiteRequest> {
    let found = Arc::new(Mutex::new(None));
    let service = service_fn(|request| {
        let found = found.clone();
        async move {
            let (status, sent) = match sent_in(request).await {
                Ok(sent) => (StatusCode::OK, Some(sent)),
                Err(status) => (status, None),
            };
            *found.lock().unwrap_or_else(PoisonError::into_inner) = sent;
            let mut response = Response::new(Full::<Bytes>::default());
            *response.status_mut() = status;
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let mut builder = http1::Builder::new();
    // the site does not wait for the answer
    builder.half_close(true).keep_alive(false);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::trace!(%error, "the connection of a site ended");
    }
    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
    found.take()
}

/// Returns what a request sends.
///
/// # Errors
///
/// The status of the refusal.
async fn sent_in(request: Request<Incoming>) -> Result<SiteRequest, StatusCode> {
    if request.uri().path() != PATH {
        return Err(StatusCode::NOT_FOUND);
    }
    if request.method() != Method::POST {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let body = Limited::new(request.into_body(), MAX_MESSAGE).collect().await;
    let body = body.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?.to_bytes();
    sent(&body).ok_or(StatusCode::BAD_REQUEST)
}

/// Reads the form of a message. `None` for one without a message, or for a service, because no services are connected.
/// The framework sends the word `None` for what is not given.
fn sent(form: &[u8]) -> Option<SiteRequest> {
    let mut sent = SiteRequest::default();
    for (name, value) in form_urlencoded::parse(form) {
        let value = if value == "None" { "".into() } else { value };
        match &*name {
            "page_id" => sent.pages = value.into_owned(),
            "envelope" => sent.envelope = value.into_owned(),
            "remote_service" if !value.is_empty() => return None,
            _ => {}
        }
    }
    (!sent.envelope.is_empty()).then_some(sent)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tokio::sync::mpsc;

    use super::*;

    fn form(pages: &str, envelope: &str) -> Option<SiteRequest> {
        Some(SiteRequest { pages: pages.to_owned(), envelope: envelope.to_owned() })
    }

    #[test]
    fn a_form_names_pages_and_has_a_message() {
        assert_eq!(sent(b"page_id=a%2Cb&remote_service=None&envelope=%3Ca%2F%3E"), form("a,b", "<a/>"));
        assert_eq!(sent(b"page_id=&remote_service=None&envelope=x+y"), form("", "x y"));
        for other in [&b""[..], b"page_id=a", b"page_id=a&remote_service=s&envelope=x", b"\xff=&%%"] {
            assert_eq!(sent(other), None, "{other:?}");
        }
    }

    #[tokio::test]
    async fn messages_arrive_in_order_from_connections_that_do_not_read_the_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sockets/async.sock");
        let listener = SiteListener::bind(&path).unwrap();
        assert_eq!(SiteListener::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (sender, mut sent) = mpsc::unbounded_channel();
        let served = listener.serve(&Timing::TEST, move |sent| sender.send(sent).unwrap());
        let served = tokio::spawn(served);
        let writer = path.clone();
        let written = tokio::task::spawn_blocking(move || {
            for number in 0..50 {
                let body = format!("page_id=p&remote_service=None&envelope={number}");
                let mut stream = StdUnixStream::connect(&writer).unwrap();
                let length = body.len();
                write!(stream, "POST /wsproxy HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")
                    .unwrap();
            }
        });
        written.await.unwrap();
        for number in 0..50 {
            assert_eq!(sent.recv().await, form("p", &number.to_string()));
        }
        served.abort();
        assert!(served.await.unwrap_err().is_cancelled());
        assert!(!path.exists(), "the file ends with the listener");
    }

    #[tokio::test]
    async fn the_file_of_a_listener_that_has_ended_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("async.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(SiteListener::bind(&path).is_ok());
        std::fs::write(&path, "text").unwrap();
        assert!(SiteListener::bind(&path).is_err(), "a file with content is kept");
        assert_eq!(std::fs::read(&path).unwrap(), b"text");
    }
}
