//! The content of a large file.
//!
//! Owns: reading it in steps on a thread for blocking work. Never: parts of it, which tower-http's `ServeDir` reads
//! (`backend`). That way copies each byte once more, because it reads into a buffer that it does not send.

use std::fs::File;
use std::io::{self, Read};

use bytes::Bytes;
use futures_util::stream::try_unfold;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::CHUNK;
use crate::mount::body::MountBody;

/// Returns the first `length` bytes of a file that has not been read. If the file has become shorter, the body ends
/// with an error, so that the answer does not look complete.
pub(super) fn file_body(file: File, length: u64) -> MountBody {
    let steps = try_unfold((file, length), async |(file, rest)| {
        if rest == 0 {
            return Ok(None);
        }
        let reading = tokio::task::spawn_blocking(move || step(file, rest.min(CHUNK as u64)));
        let (bytes, file) = reading.await.map_err(io::Error::other)??;
        let rest = rest - bytes.len() as u64;
        Ok(Some((Frame::data(bytes), (file, rest))))
    });
    StreamBody::new(steps).boxed_unsync()
}

fn step(mut file: File, size: u64) -> io::Result<(Bytes, File)> {
    let mut bytes = Vec::with_capacity(size as usize);
    if (&mut file).take(size).read_to_end(&mut bytes)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((bytes.into(), file))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file.reopen().unwrap()
    }

    #[tokio::test]
    async fn a_file_is_read_in_steps() {
        let content: Vec<u8> = (0..CHUNK * 2 + 7).map(|n| (n % 251) as u8).collect();
        let read = file_body(file(&content), content.len() as u64).collect().await.unwrap().to_bytes();
        assert!(read == content);
        let part = file_body(file(&content), 10).collect().await.unwrap().to_bytes();
        assert!(part == content[..10], "a file that has become longer");
    }

    #[tokio::test]
    async fn a_file_that_has_become_shorter_does_not_look_complete() {
        assert!(file_body(file(b"short"), 6).collect().await.is_err());
    }
}
