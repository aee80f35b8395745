//! The edge: listener, HTTP, upgrade and one task per socket.
//!
//! Owns: everything between a TCP connection and a frame. Never: what a frame leads to (`command`) or which
//! pages exist (`session`). Only this folder and `api` name axum.

pub mod start;
pub mod websocket;
