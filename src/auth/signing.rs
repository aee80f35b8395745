//! Signature algorithms of tokens: HMAC with a shared secret only.
//!
//! Owns: the cryptography provider of `jsonwebtoken`. The providers that come with that crate contain every algorithm
//! for every kind of key, including RSA and elliptic curves. A server with shared secrets only does not need to
//! compile them or to be responsible for them.

use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Signer, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey};
use sha2::{Sha256, Sha384, Sha512};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Installs the provider. Must run before the first token of a process; another call has no effect.
pub(super) fn install() {
    // fails if a provider is installed already
    let _ = PROVIDER.install_default();
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    Ok(Box::new(Keyed::new(*algorithm, key.family(), key.as_bytes())?))
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    Ok(Box::new(Keyed::new(*algorithm, key.family(), key.try_get_as_bytes()?)?))
}

/// A secret, prepared for one algorithm.
enum Keyed {
    Hs256(Hmac<Sha256>),
    Hs384(Hmac<Sha384>),
    Hs512(Hmac<Sha512>),
}

impl Keyed {
    fn new(algorithm: Algorithm, family: AlgorithmFamily, secret: &[u8]) -> Result<Self, Error> {
        if family != AlgorithmFamily::Hmac {
            return Err(ErrorKind::InvalidKeyFormat.into());
        }
        // cannot fail: HMAC accepts a secret of any length
        let wrong = |_| Error::from(ErrorKind::InvalidKeyFormat);
        match algorithm {
            Algorithm::HS256 => Hmac::new_from_slice(secret).map(Self::Hs256).map_err(wrong),
            Algorithm::HS384 => Hmac::new_from_slice(secret).map(Self::Hs384).map_err(wrong),
            Algorithm::HS512 => Hmac::new_from_slice(secret).map(Self::Hs512).map_err(wrong),
            _ => Err(ErrorKind::InvalidAlgorithm.into()),
        }
    }

    const fn name(&self) -> Algorithm {
        match self {
            Self::Hs256(_) => Algorithm::HS256,
            Self::Hs384(_) => Algorithm::HS384,
            Self::Hs512(_) => Algorithm::HS512,
        }
    }
}

impl Signer<Vec<u8>> for Keyed {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(match self {
            Self::Hs256(key) => key.clone().chain_update(message).finalize().into_bytes().to_vec(),
            Self::Hs384(key) => key.clone().chain_update(message).finalize().into_bytes().to_vec(),
            Self::Hs512(key) => key.clone().chain_update(message).finalize().into_bytes().to_vec(),
        })
    }
}

impl Verifier<Vec<u8>> for Keyed {
    /// Compares in constant time, and accepts only complete signatures.
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        match self {
            Self::Hs256(key) => key.clone().chain_update(message).verify_slice(signature),
            Self::Hs384(key) => key.clone().chain_update(message).verify_slice(signature),
            Self::Hs512(key) => key.clone().chain_update(message).verify_slice(signature),
        }
        .map_err(|_| signature::Error::new())
    }
}

impl JwtSigner for Keyed {
    fn algorithm(&self) -> Algorithm {
        self.name()
    }
}

impl JwtVerifier for Keyed {
    fn algorithm(&self) -> Algorithm {
        self.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2, for each hash.
    #[test]
    fn signatures_are_those_of_the_standard_and_half_a_one_is_none() {
        let (secret, message) = (b"Jefe", b"what do ya want for nothing?");
        for (algorithm, begins, length) in [
            (Algorithm::HS256, [0x5b, 0xdc, 0xc1, 0x46], 32),
            (Algorithm::HS384, [0xaf, 0x45, 0xd2, 0xe3], 48),
            (Algorithm::HS512, [0x16, 0x4b, 0x7a, 0x7b], 64),
        ] {
            let key = Keyed::new(algorithm, AlgorithmFamily::Hmac, secret).unwrap();
            let mut signature = key.try_sign(message).unwrap();
            assert_eq!((&signature[..4], signature.len()), (&begins[..], length), "{algorithm:?}");
            assert!(key.verify(message, &signature).is_ok());
            assert!(key.verify(b"something else", &signature).is_err());
            assert!(key.verify(message, &signature[..length / 2].to_vec()).is_err());
            assert!(key.verify(message, &Vec::new()).is_err());
            signature[length - 1] ^= 1;
            assert!(key.verify(message, &signature).is_err());
        }
    }

    #[test]
    fn no_other_algorithm_and_no_other_kind_of_key_is_known() {
        for algorithm in [Algorithm::RS256, Algorithm::PS512, Algorithm::ES256, Algorithm::EdDSA] {
            assert!(Keyed::new(algorithm, AlgorithmFamily::Hmac, b"secret").is_err(), "{algorithm:?}");
        }
        assert!(Keyed::new(Algorithm::HS256, AlgorithmFamily::Rsa, b"secret").is_err());
    }
}
