//! The cryptography of TLS.
//!
//! Owns: the provider of this process. Never: certificates or connections.

use rustls::crypto::ring;

/// Installs the provider. Must run before the first client of a process is created; another call has no effect.
pub fn install() {
    // an error means that a provider is installed already
    let _ = ring::default_provider().install_default();
}
