//! Signatures, by the library that does TLS already: nothing else has to be built for them.

use std::sync::Once;

use graviola::Error;
use graviola::hashing::{Sha256, Sha384};
use graviola::signing::ecdsa::{P256, P384, VerifyingKey as EcKey};
use graviola::signing::eddsa::Ed25519VerifyingKey;
use graviola::signing::rsa::VerifyingKey as RsaKey;
use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};

/// Tells `jsonwebtoken` of it, once a process.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Whoever came first has brought verifiers of its own; they do as well.
        let _ = PROVIDER.install_default();
    });
}

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: |algorithm, key| {
        Ok(Box::new(Signed { algorithm: *algorithm, key: PublicKey::of(*algorithm, key)? }))
    },
    key_utils: KeyUtils::new_unimplemented(),
};

/// Verifies signatures of one key.
struct Signed {
    algorithm: Algorithm,
    key: PublicKey,
}

enum PublicKey {
    Rsa(Box<RsaKey>),
    P256(Box<EcKey<P256>>),
    P384(Box<EcKey<P384>>),
    Ed25519(Box<Ed25519VerifyingKey>),
}

impl PublicKey {
    fn of(algorithm: Algorithm, key: &DecodingKey) -> Result<Self> {
        let bad = |_: Error| ErrorKind::InvalidKeyFormat;
        match (algorithm, key.kind()) {
            (
                Algorithm::RS256
                | Algorithm::RS384
                | Algorithm::RS512
                | Algorithm::PS256
                | Algorithm::PS384
                | Algorithm::PS512,
                DecodingKeyKind::RsaModulusExponent { n, e },
            ) => Ok(Self::Rsa(Box::new(RsaKey::from_pkcs1_der(&pkcs1(n, e)).map_err(bad)?))),
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => {
                Ok(Self::P256(Box::new(EcKey::from_x962_uncompressed(point).map_err(bad)?)))
            }
            (Algorithm::ES384, DecodingKeyKind::SecretOrDer(point)) => {
                Ok(Self::P384(Box::new(EcKey::from_x962_uncompressed(point).map_err(bad)?)))
            }
            (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(bytes)) => {
                Ok(Self::Ed25519(Box::new(Ed25519VerifyingKey::from_bytes(bytes).map_err(bad)?)))
            }
            _ => Err(ErrorKind::UnsupportedAlgorithm.into()),
        }
    }
}

impl JwtVerifier for Signed {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for Signed {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        let verified = match (&self.key, self.algorithm) {
            (PublicKey::Rsa(key), Algorithm::RS256) => key.verify_pkcs1_sha256(signature, message),
            (PublicKey::Rsa(key), Algorithm::RS384) => key.verify_pkcs1_sha384(signature, message),
            (PublicKey::Rsa(key), Algorithm::RS512) => key.verify_pkcs1_sha512(signature, message),
            (PublicKey::Rsa(key), Algorithm::PS256) => key.verify_pss_sha256(signature, message),
            (PublicKey::Rsa(key), Algorithm::PS384) => key.verify_pss_sha384(signature, message),
            (PublicKey::Rsa(key), Algorithm::PS512) => key.verify_pss_sha512(signature, message),
            (PublicKey::P256(key), Algorithm::ES256) => key.verify::<Sha256>(&[message], signature),
            (PublicKey::P384(key), Algorithm::ES384) => key.verify::<Sha384>(&[message], signature),
            (PublicKey::Ed25519(key), Algorithm::EdDSA) => key.verify(signature, message),
            _ => Err(Error::BadSignature),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

/// An RSA key as PKCS #1 has it in DER (RFC 8017, A.1.1): what a JWK gives in two parts.
fn pkcs1(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    tagged(0x30, &[unsigned(modulus), unsigned(exponent)].concat())
}

fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let mut value = vec![0];
    value.extend_from_slice(&bytes[start..]);
    // The zero in front says that the number is not negative; elsewhere DER wants none.
    let value = if value.get(1).is_some_and(|first| *first < 0x80) { &value[1..] } else { &value[..] };
    tagged(0x02, value)
}

fn tagged(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = value.len().to_be_bytes();
    let length = &length[length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1)..];
    match *length {
        [short] if short < 0x80 => out.push(short),
        // No key is longer than what eight bytes can count.
        _ => {
            out.push(0x80 | length.len() as u8);
            out.extend_from_slice(length);
        }
    }
    out.extend_from_slice(value);
    out
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use graviola::signing::ecdsa::SigningKey as EcSigner;
    use graviola::signing::eddsa::Ed25519SigningKey;
    use graviola::signing::rsa::{KeySize, SigningKey as RsaSigner};

    use super::*;

    fn verifier(algorithm: Algorithm, key: &DecodingKey) -> Signed {
        Signed { algorithm, key: PublicKey::of(algorithm, key).unwrap() }
    }

    fn checks(verifier: &Signed, signature: &[u8]) {
        verifier.verify(b"said", &signature.to_vec()).unwrap();
        assert!(verifier.verify(b"not said", &signature.to_vec()).is_err());
        assert!(verifier.verify(b"said", &signature[1..].to_vec()).is_err());
    }

    #[test]
    fn rsa() {
        let signer = RsaSigner::generate(KeySize::Rsa2048).unwrap();
        let mut der = [0; 512];
        let der = signer.public_key().to_pkcs1_der(&mut der).unwrap().to_vec();
        // SEQUENCE { INTEGER n, INTEGER e }: 4 bytes of head each for those that are long.
        let (n, e) = (&der[8..8 + 257], &der[8 + 257 + 2..]);
        let key = DecodingKey::from_rsa_raw_components(&n[1..], e);
        assert_eq!(pkcs1(&n[1..], e), der);
        let mut signature = [0; 256];
        checks(&verifier(Algorithm::RS256, &key), signer.sign_pkcs1_sha256(&mut signature, b"said").unwrap());
        checks(&verifier(Algorithm::RS384, &key), signer.sign_pkcs1_sha384(&mut signature, b"said").unwrap());
        checks(&verifier(Algorithm::RS512, &key), signer.sign_pkcs1_sha512(&mut signature, b"said").unwrap());
        checks(&verifier(Algorithm::PS256, &key), signer.sign_pss_sha256(&mut signature, b"said").unwrap());
        checks(&verifier(Algorithm::PS384, &key), signer.sign_pss_sha384(&mut signature, b"said").unwrap());
        checks(&verifier(Algorithm::PS512, &key), signer.sign_pss_sha512(&mut signature, b"said").unwrap());
        // One algorithm's signature is not another's.
        let signature = signer.sign_pss_sha256(&mut signature, b"said").unwrap().to_vec();
        assert!(verifier(Algorithm::RS256, &key).verify(b"said", &signature).is_err());
    }

    #[test]
    fn curves() {
        let mut signature = [0; 128];
        let signer = EcSigner::<P256>::generate().unwrap();
        let mut spki = [0; 256];
        let point = |spki: &[u8], length| DecodingKey::from_ec_der(&spki[spki.len() - length..]);
        let key = point(signer.to_spki_der(&mut spki).unwrap(), 65);
        checks(&verifier(Algorithm::ES256, &key), signer.sign::<Sha256>(&[b"said"], &mut signature).unwrap());
        assert!(PublicKey::of(Algorithm::ES384, &key).is_err(), "a key of another curve");
        let signer = EcSigner::<P384>::generate().unwrap();
        let key = point(signer.to_spki_der(&mut spki).unwrap(), 97);
        checks(&verifier(Algorithm::ES384, &key), signer.sign::<Sha384>(&[b"said"], &mut signature).unwrap());
        let signer = Ed25519SigningKey::generate().unwrap();
        let key = DecodingKey::from_ed_der(&signer.public_key().as_bytes());
        checks(&verifier(Algorithm::EdDSA, &key), &signer.sign(b"said"));
        assert!(PublicKey::of(Algorithm::HS256, &key).is_err(), "a public key is nobody's secret");
    }
}
