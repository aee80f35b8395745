//! Serves the files of a folder.
//!
//! Owns: the answer to a request for a file. Never: which requests are for files (the mount's route), or compression
//! while an answer is sent (`compression`).
//!
//! `file_path` reads the path, `folder` finds and opens the file in one step on a thread for blocking work, tower-http's
//! `ServeDir` over `backend` applies conditions and ranges, and this module adds what is particular to a mount.

mod backend;
mod cache;
mod file_body;
mod file_path;
mod folder;
mod recent;
mod single_page;
mod version;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use tower_http::services::ServeDir;

use self::backend::OneFile;
pub(super) use self::cache::CacheRule;
use self::cache::{REVALIDATE, cache_control};
use self::file_body::file_body;
use self::file_path::{FilePath, encoded};
use self::folder::{Content, Found, OpenedFile, Search};
use self::recent::{RecentFile, RecentFiles};
pub(super) use self::version::FileVersion;
use super::body::{MountResponse, empty, whole};
use super::coding::{Coding, add_vary};

/// Bytes that are read from a large file at once. Each read is a step on another thread, and a download in progress has
/// two such buffers; with half of it, a file of 1 MB takes about 1.5 times the CPU.
const CHUNK: usize = 128 * 1024;

/// The methods of a file.
const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD");

/// The headers of a request that decide whether and which part of a file is sent.
const CONDITIONS: [HeaderName; 5] = [
    header::IF_MATCH,
    header::IF_UNMODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::RANGE,
];

/// The configuration of a folder.
#[derive(Debug, Clone)]
pub(super) struct StaticOptions {
    /// The folder.
    pub(super) directory: PathBuf,
    /// The file in it that answers for each page of a single-page application, for example `index.html`.
    pub(super) fallback: Option<String>,
    /// `Cache-Control` of its files.
    pub(super) cache: Vec<CacheRule>,
}

/// The files of a folder.
#[derive(Debug, Clone)]
pub(super) struct StaticFiles {
    directory: Arc<PathBuf>,
    fallback: Option<FilePath>,
    cache: Arc<[CacheRule]>,
    recent: Arc<RecentFiles>,
}

/// The answer of a folder.
#[derive(Debug)]
pub(super) enum StaticAnswer {
    /// The file, or an answer about it: not modified, a redirect to the folder, a method that files do not have.
    File(MountResponse),
    /// No file has the path.
    Missing,
}

impl StaticFiles {
    /// The files of a folder, which does not have to exist yet. A fallback that is no plain path inside the folder is
    /// never found.
    pub(super) fn new(options: StaticOptions) -> Self {
        let fallback = options.fallback.and_then(|name| FilePath::parse(&format!("/{name}")));
        Self {
            directory: Arc::new(options.directory),
            fallback,
            cache: options.cache.into(),
            recent: Arc::default(),
        }
    }

    /// Answers a request. `path` is the raw path below the folder with a `/` at its beginning; `query` is kept in
    /// redirects, and `codings` are those that the client accepts, the best one first.
    pub(super) async fn serve(
        &self,
        method: &Method,
        headers: &HeaderMap,
        path: &str,
        query: Option<&str>,
        codings: &[Coding],
    ) -> StaticAnswer {
        let is_read = [Method::GET, Method::HEAD].contains(method);
        if is_read && let Some(recent) = self.recent.get(path, codings) {
            return StaticAnswer::File(self.again(method, headers, &recent).await);
        }
        let Some(plain) = FilePath::parse(path) else { return StaticAnswer::Missing };
        match self.find(method, headers, plain.clone(), codings.to_vec()).await {
            Ok(Found::Missing) => StaticAnswer::Missing,
            Ok(_) if !is_read => StaticAnswer::File(not_allowed()),
            Ok(Found::Folder) => StaticAnswer::File(redirect(plain.name().unwrap_or_default(), query)),
            Ok(Found::File(file)) => {
                let file = OneFile::new(*file);
                let version = self.version(&file);
                if let Some(version) = &version {
                    self.keep(path, codings.to_vec(), &file, version.clone()).await;
                }
                let mut response = self.answer(method, headers, &file).await;
                mark(&mut response, &file, version.filter(|_| is_whole(method, headers)));
                StaticAnswer::File(response)
            }
            Err(error) => {
                tracing::error!(%error, directory = %self.directory.display(), path, "a file cannot be read");
                StaticAnswer::File(with_status(StatusCode::INTERNAL_SERVER_ERROR))
            }
        }
    }

    async fn find(
        &self,
        method: &Method,
        headers: &HeaderMap,
        path: FilePath,
        codings: Vec<Coding>,
    ) -> io::Result<Found> {
        let is_read = [Method::GET, Method::HEAD].contains(method);
        let fallback = self.fallback.clone().filter(|_| is_read && single_page::wants_page(headers, &path));
        let (directory, read) = (self.directory.clone(), is_whole(method, headers));
        let search = move || Search { directory: &directory, path, codings, read, fallback }.run();
        tokio::task::spawn_blocking(search).await.map_err(io::Error::other)?
    }

    /// Returns the version of a file on disk. `None`: it has changed just now.
    fn version(&self, file: &OneFile) -> Option<Arc<FileVersion>> {
        let opened = file.file();
        let suffix = opened.coding.map_or("", Coding::extension);
        let place = opened.path.with_suffix(suffix).below(&self.directory);
        FileVersion::of(place, &opened.metadata).map(Arc::new)
    }

    /// Keeps a file that has been read, except the fallback, which answers any number of paths.
    async fn keep(&self, path: &str, codings: Vec<Coding>, file: &OneFile, version: Arc<FileVersion>) {
        if file.in_memory().is_none() || file.file().is_fallback {
            return;
        }
        let headers = self.apply(file, &Method::HEAD, HeaderMap::new()).await.into_parts().0.headers;
        if let Some(recent) = RecentFile::new(file.clone(), version, codings, headers) {
            self.recent.insert(path, recent);
        }
    }

    /// Answers with a file in memory.
    async fn again(&self, method: &Method, headers: &HeaderMap, recent: &RecentFile) -> MountResponse {
        match recent.file.in_memory() {
            Some(content) if is_whole(method, headers) => {
                let mut response = Response::new(whole(content.clone()));
                *response.headers_mut() = recent.headers.clone();
                mark(&mut response, &recent.file, Some(recent.version.clone()));
                response
            }
            _ => self.answer(method, headers, &recent.file).await,
        }
    }

    async fn answer(&self, method: &Method, headers: &HeaderMap, file: &OneFile) -> MountResponse {
        if is_whole(method, headers)
            && let Content::Open(open) = &file.file().content
            && let Ok(open) = open.try_clone()
        {
            let head = self.apply(file, &Method::HEAD, HeaderMap::new()).await;
            return match head.status() {
                StatusCode::OK => head.map(|_| file_body(open, file.length())),
                _ => head,
            };
        }
        let mut conditions = HeaderMap::new();
        for name in CONDITIONS {
            if let Some(value) = headers.get(&name) {
                conditions.insert(name, value.clone());
            }
        }
        // a range is defined for GET only
        let range = conditions.remove(header::RANGE).filter(|_| method == Method::GET);
        if let Some(range) = range.and_then(|range| usable_range(range, file.length())) {
            conditions.insert(header::RANGE, range);
        }
        if let Some(validator) = headers.get(header::IF_RANGE)
            && conditions.contains_key(header::RANGE)
        {
            let whole = self.apply(file, &Method::HEAD, HeaderMap::new()).await;
            if !is_current(validator, whole.headers()) {
                conditions.remove(header::RANGE);
            }
        }
        self.apply(file, method, conditions).await
    }

    /// Applies conditions and ranges to a file.
    async fn apply(&self, file: &OneFile, method: &Method, conditions: HeaderMap) -> MountResponse {
        let opened = file.file();
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = method.clone();
        *request.headers_mut() = conditions;
        // the type of the content follows from the name
        if let Ok(uri) = format!("/{}", encoded(opened.path.name().unwrap_or_default())).parse() {
            *request.uri_mut() = uri;
        }
        let chunk = file.length().clamp(1, CHUNK as u64) as usize;
        let serve = ServeDir::with_backend("", file.clone())
            .with_buf_chunk_size(chunk)
            .ignore_multi_range_requests(true)
            .try_call(request);
        match serve.await {
            Ok(response) => self.complete(opened, response.map(BodyExt::boxed_unsync)),
            Err(error) => {
                tracing::error!(%error, directory = %self.directory.display(), "a file cannot be read");
                with_status(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// Adds the headers of a mount.
    fn complete(&self, file: &OpenedFile, mut response: MountResponse) -> MountResponse {
        let has_content = response.status().is_success();
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        add_vary(headers, header::ACCEPT_ENCODING);
        if has_content {
            if let Some(coding) = file.coding {
                headers.insert(header::CONTENT_ENCODING, coding.header_value());
            }
            if let Some(kind) =
                headers.get(header::CONTENT_TYPE).and_then(|kind| media_type(&file.path, kind))
            {
                headers.insert(header::CONTENT_TYPE, kind);
            }
        }
        if has_content || response.status() == StatusCode::NOT_MODIFIED {
            let value = match file.is_fallback {
                true => REVALIDATE,
                false => cache_control(&self.cache, &file.path),
            };
            response.headers_mut().insert(header::CACHE_CONTROL, value);
        }
        response
    }
}

/// Notes in the response which version of a file it has, so that the content is compressed once for this version.
fn mark(response: &mut MountResponse, file: &OneFile, version: Option<Arc<FileVersion>>) {
    if let Some(version) = version.filter(|_| file.file().coding.is_none()) {
        response.extensions_mut().insert(version);
    }
}

/// Whether the whole content of the file answers the request.
fn is_whole(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::GET && !CONDITIONS.iter().any(|name| headers.contains_key(name))
}

/// Returns the range as `ServeDir` understands it. `None`: it is ignored, because its unit is not bytes or the file is
/// empty. The last bytes of a file that has fewer are all of it, where `ServeDir` would refuse.
fn usable_range(range: HeaderValue, length: u64) -> Option<HeaderValue> {
    let bytes = range.to_str().ok()?.strip_prefix("bytes=").filter(|_| length > 0)?;
    let suffix: Option<u64> = bytes.strip_prefix('-').and_then(|suffix| suffix.trim().parse().ok());
    match suffix.is_some_and(|suffix| suffix > length) {
        true => Some(HeaderValue::from_static("bytes=0-")),
        false => Some(range),
    }
}

/// Whether the validator of `If-Range` is that of the file: a strong tag, or exactly its time.
fn is_current(validator: &HeaderValue, file: &HeaderMap) -> bool {
    let name = if validator.as_bytes().starts_with(b"\"") { header::ETAG } else { header::LAST_MODIFIED };
    file.get(name) == Some(validator)
}

/// Returns the media type of a file where it differs from the guess: text is UTF-8, except XML, which names its own
/// encoding; a source map is JSON.
fn media_type(path: &FilePath, guess: &HeaderValue) -> Option<HeaderValue> {
    let extension = path.name()?.rsplit_once('.')?.1.to_ascii_lowercase();
    let fixed = match extension.as_str() {
        "map" => "application/json",
        "mjs" | "cjs" => "text/javascript; charset=utf-8",
        _ => {
            let guess = guess.to_str().ok()?;
            let is_text = guess.starts_with("text/") && guess != "text/xml" && !guess.contains(';');
            return is_text.then(|| HeaderValue::try_from(format!("{guess}; charset=utf-8")).ok())?;
        }
    };
    Some(HeaderValue::from_static(fixed))
}

/// A redirect from a folder to the path with a slash at its end, so that relative links of the folder's page work. The
/// location is relative and begins with `./`, so it has no host and no scheme. The status allows no cache to keep it,
/// because the folder can become a file.
pub(super) fn redirect(name: &str, query: Option<&str>) -> MountResponse {
    let folder = format!("./{}/", encoded(name));
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = with_status(StatusCode::TEMPORARY_REDIRECT);
    // a query that cannot be in a header is dropped
    let location = HeaderValue::try_from(format!("{folder}{query}"));
    if let Ok(location) = location.or_else(|_| HeaderValue::try_from(folder)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn not_allowed() -> MountResponse {
    let mut response = with_status(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(header::ALLOW, ALLOWED);
    response
}

fn with_status(status: StatusCode) -> MountResponse {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    response
}
