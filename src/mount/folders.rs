//! The folders of a mount, at their paths.
//!
//! Owns: which folder is asked for a path, and the redirect to its own path. Never: the files in it (`static_files`).

use http::header::HeaderValue;
use http::{HeaderMap, Method, Uri};

use super::body::MountResponse;
use super::coding::Coding;
use super::path::below;
use super::static_files::{CacheRule, StaticAnswer, StaticFiles, StaticOptions, redirect};
use crate::config::{MountConfig, StaticConfig};

/// The folders of a mount, the longest path first.
#[derive(Default)]
pub(super) struct Folders(Vec<Folder>);

struct Folder {
    path: String,
    files: StaticFiles,
}

impl Folders {
    /// The folders of a configuration. A folder that does not exist is logged, and served as soon as it does.
    pub(super) fn new(config: &MountConfig) -> Self {
        let rules = match &config.files {
            None => Vec::new(),
            Some(StaticConfig::Folder(directory)) => vec![(config.path.clone(), directory.clone())],
            Some(StaticConfig::Rules(rules)) => {
                rules.iter().map(|rule| (rule.path.clone(), rule.directory.clone())).collect()
            }
        };
        let cache = config.cache.iter().filter_map(|rule| {
            let value = HeaderValue::from_str(&rule.value).ok()?;
            Some(CacheRule { files: rule.files.clone(), value })
        });
        let cache: Vec<_> = cache.collect();
        let mut folders: Vec<_> = rules
            .into_iter()
            .map(|(path, directory)| {
                if !directory.is_dir() {
                    tracing::warn!(path, directory = %directory.display(), "the folder of a mount does not exist");
                }
                let (fallback, cache) = (config.fallback.clone(), cache.clone());
                Folder { path, files: StaticFiles::new(StaticOptions { directory, fallback, cache }) }
            })
            .collect();
        folders.sort_by_key(|folder| std::cmp::Reverse(folder.path.len()));
        Self(folders)
    }

    /// Returns the answer of the first folder that has a file for the request.
    pub(super) async fn serve(
        &self,
        method: &Method,
        headers: &HeaderMap,
        uri: &Uri,
        codings: &[Coding],
    ) -> Option<MountResponse> {
        for folder in &self.0 {
            let Some(path) = below(uri.path(), &folder.path) else { continue };
            // the folder itself, without a slash: its links are relative to the path with one
            let (method, path, is_itself) = match path {
                "" => (&Method::HEAD, "/", true),
                path => (method, path, false),
            };
            if let StaticAnswer::File(response) =
                folder.files.serve(method, headers, path, uri.query(), codings).await
            {
                let name = folder.path.rsplit('/').next().unwrap_or_default();
                return Some(if is_itself { redirect(name, uri.query()) } else { response });
            }
        }
        None
    }
}
