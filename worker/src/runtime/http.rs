//! Handlers of the user's own HTTP backend, as described in `docs/http.md`.
//!
//! Owns: the requests to the backend, and the addresses at which it reports progress. Never: claims or retries of work,
//! or serving HTTP: the listener of the process gives what it receives to [`callbacks`].
//!
//! - [`pool`]: the handlers of a backend, and one piece of work from request to result;
//! - `work_request`: the body and the headers of a request (pure);
//! - `backend_answer`: the result that a response stands for (pure);
//! - `redirects`, `private_address`: which redirects are followed, and to which addresses (pure);
//! - [`callbacks`]: the work that may report progress, by its token.

mod backend_answer;
pub mod callbacks;
pub mod options;
pub mod pool;
mod private_address;
mod redirects;
#[cfg(test)]
mod tests;
mod work_request;
