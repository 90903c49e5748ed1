//! The issuer's keys, kept while they are fresh, and the tokens that they have verified.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, get_current_timestamp};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::issuer::Issuer;
use super::jwt::Verified;

/// Keys are looked at again after this long, behind the request that notices: one that was withdrawn is not believed for ever.
const FRESH: Duration = Duration::from_secs(15 * 60);

/// For this long they are believed while the issuer does not answer.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// How long after a fetch that brought nothing new, or nothing at all, the next one waits. Anybody can name unknown keys.
const PAUSE: Duration = Duration::from_secs(10);

/// So many tokens are remembered.
const MAX_VERIFIED: usize = 1024;

/// The keys of one moment.
#[derive(Debug)]
pub(super) struct Keys {
    keys: Vec<Key>,
    fetched: Instant,
    /// By digest of the token: it goes with the keys that it was verified by.
    verified: RwLock<HashMap<[u8; 32], Arc<Verified>>>,
}

/// A key that signatures can be verified by.
#[derive(Debug)]
pub(super) struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
}

impl Keys {
    fn new(keys: Vec<Jwk>) -> Self {
        let keys = keys.into_iter().filter_map(Key::new).collect();
        Self { keys, fetched: Instant::now(), verified: RwLock::default() }
    }

    /// The keys that a token may be signed by: those of this id, if it names one, that are for this algorithm.
    pub(super) fn fitting(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        let fits =
            move |key: &&Key| id.is_none_or(|id| key.id.as_deref() == Some(id)) && key.algorithms.contains(&algorithm);
        self.keys.iter().filter(fits)
    }

    /// Whether there is a key of this id.
    pub(super) fn knows(&self, id: Option<&str>) -> bool {
        id.is_none_or(|id| self.keys.iter().any(|key| key.id.as_deref() == Some(id)))
    }

    /// What was found out about a token before.
    pub(super) fn remembered(&self, digest: &[u8; 32]) -> Option<Arc<Verified>> {
        let verified = self.verified.read().unwrap_or_else(PoisonError::into_inner);
        verified.get(digest).filter(|token| token.is_current(get_current_timestamp())).cloned()
    }

    /// Keeps what was found out about a token.
    pub(super) fn remember(&self, digest: [u8; 32], token: Arc<Verified>) {
        let mut verified = self.verified.write().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= MAX_VERIFIED {
            let now = get_current_timestamp();
            verified.retain(|_, token| token.is_current(now));
        }
        if verified.len() >= MAX_VERIFIED {
            verified.clear();
        }
        verified.insert(digest, token);
    }
}

impl Key {
    /// `None`: it is for something else, or of a kind that is not used here. A secret of both sides is never one.
    fn new(jwk: Jwk) -> Option<Self> {
        let common = &jwk.common;
        let for_signatures = !matches!(common.public_key_use, Some(PublicKeyUse::Encryption));
        let verifies = common.key_operations.as_ref().is_none_or(|for_what| for_what.contains(&KeyOperations::Verify));
        let of_its_kind: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => &[
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ],
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => &[Algorithm::ES256],
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => &[Algorithm::ES384],
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
            _ => &[],
        };
        // A key that names its algorithm is for no other, whatever a token says (RFC 8725, section 3.1).
        let meant =
            |algorithm: &Algorithm| common.key_algorithm.is_none_or(|own| own == KeyAlgorithm::from(*algorithm));
        let algorithms: Vec<_> = of_its_kind.iter().copied().filter(meant).collect();
        if !for_signatures || !verifies || algorithms.is_empty() {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { id: jwk.common.key_id, algorithms, key })
    }
}

/// The issuer's keys can't be had.
#[derive(Debug)]
pub(super) struct Unavailable;

/// Keeps the keys of an issuer.
#[derive(Debug)]
pub(super) struct KeyStore {
    issuer: Issuer,
    now: RwLock<Option<Arc<Keys>>>,
    /// Held while they are fetched; when that last brought nothing new.
    in_vain: Mutex<Option<Instant>>,
}

impl KeyStore {
    pub(super) fn new(issuer: Issuer) -> Arc<Self> {
        Arc::new(Self { issuer, now: RwLock::default(), in_vain: Mutex::default() })
    }

    /// The keys. Waits for the issuer only if there are none.
    pub(super) async fn keys(self: &Arc<Self>) -> Result<Arc<Keys>, Unavailable> {
        match self.now() {
            Some(keys) if keys.fetched.elapsed() < FRESH => Ok(keys),
            Some(keys) if keys.fetched.elapsed() < KEPT => {
                let (this, seen) = (self.clone(), keys.clone());
                tokio::spawn(async move { this.newer(Some(&seen)).await });
                Ok(keys)
            }
            old => self.newer(old.as_ref()).await,
        }
    }

    /// Keys that are newer than those `seen`, in which something was missing; the same if there are none yet.
    pub(super) async fn newer(&self, seen: Option<&Arc<Keys>>) -> Result<Arc<Keys>, Unavailable> {
        let mut in_vain = self.in_vain.lock().await;
        let now = self.now().filter(|now| now.fetched.elapsed() < KEPT);
        if let Some(now) = &now
            && seen.is_none_or(|seen| !Arc::ptr_eq(seen, now))
        {
            // Somebody else has fetched them meanwhile.
            return Ok(now.clone());
        }
        if in_vain.is_some_and(|at| at.elapsed() < PAUSE) {
            return now.ok_or(Unavailable);
        }
        let fetched = self.issuer.keys().await;
        if seen.is_some() || fetched.is_err() {
            *in_vain = Some(Instant::now());
        }
        match fetched {
            Ok(keys) => {
                let keys = Arc::new(Keys::new(keys));
                *self.now.write().unwrap_or_else(PoisonError::into_inner) = Some(keys.clone());
                Ok(keys)
            }
            Err(why) => {
                tracing::warn!("the keys of the issuer {} can't be fetched: {why}", self.issuer.name());
                now.ok_or(Unavailable)
            }
        }
    }

    fn now(&self) -> Option<Arc<Keys>> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn keys(all: &[Value]) -> Keys {
        Keys::new(all.iter().map(|key| serde_json::from_value(key.clone()).unwrap()).collect())
    }

    #[test]
    fn a_key_is_for_its_own_algorithms_alone() {
        let rsa = json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" });
        let with = |key: &Value, name: &str, value: Value| {
            let mut key = key.clone();
            key[name] = value;
            key
        };
        let fits = |key: Value, algorithm| keys(&[key]).fitting(None, algorithm).count() == 1;
        assert!(fits(rsa.clone(), Algorithm::RS256) && fits(rsa.clone(), Algorithm::PS512));
        assert!(!fits(rsa.clone(), Algorithm::ES256));
        assert!(fits(with(&rsa, "alg", json!("PS256")), Algorithm::PS256));
        assert!(!fits(with(&rsa, "alg", json!("PS256")), Algorithm::RS256));
        assert!(!fits(with(&rsa, "use", json!("enc")), Algorithm::RS256));
        assert!(!fits(with(&rsa, "key_ops", json!(["encrypt"])), Algorithm::RS256));
        let point = json!({ "kty": "EC", "crv": "P-384", "x": "AQAB", "y": "AQAB" });
        assert!(fits(point.clone(), Algorithm::ES384) && !fits(point, Algorithm::ES256));
        let edwards = json!({ "kty": "OKP", "crv": "Ed25519", "x": "AQAB" });
        assert!(fits(edwards, Algorithm::EdDSA));
        let secret = json!({ "kty": "oct", "k": "AQAB" });
        assert!(!fits(secret.clone(), Algorithm::HS256) && !fits(secret, Algorithm::RS256));
    }

    #[test]
    fn a_token_is_remembered_until_it_expires_and_few_are() {
        let keys = keys(&[]);
        let now = get_current_timestamp();
        let token = |expires| Arc::new(Verified { subject: "ada".into(), audiences: vec![], scopes: vec![], expires });
        keys.remember([1; 32], token(now + 300));
        keys.remember([2; 32], token(now - 300));
        assert!(keys.remembered(&[1; 32]).is_some());
        assert!(keys.remembered(&[2; 32]).is_none(), "it has expired");
        assert!(keys.remembered(&[3; 32]).is_none());
        for number in 0..2 * MAX_VERIFIED {
            let mut digest = [9; 32];
            digest[..8].copy_from_slice(&number.to_be_bytes());
            keys.remember(digest, token(now + 300));
        }
        assert!(keys.verified.read().unwrap().len() <= MAX_VERIFIED);
    }

    /// The keys of an issuer that answers while it is `up`, and how often it was asked.
    async fn store(up: &Arc<AtomicBool>) -> (Arc<KeyStore>, Arc<AtomicUsize>) {
        let _ = rustls_graviola::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/keys", listener.local_addr().unwrap());
        let (up, asked) = (up.clone(), Arc::new(AtomicUsize::new(0)));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let status = if up.load(Ordering::SeqCst) { "200 OK" } else { "500 Down" };
                let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 11\r\n\r\n");
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(format!("{head}{{\"keys\":[]}}").as_bytes()).await;
            }
        });
        (KeyStore::new(Issuer::new("http://127.0.0.1", Some(&address)).unwrap()), asked)
    }

    async fn later(so_long: Duration) {
        tokio::time::pause();
        tokio::time::advance(so_long).await;
        tokio::time::resume();
    }

    #[tokio::test]
    async fn keys_are_renewed_behind_their_users_and_kept_for_a_day() {
        let up = Arc::new(AtomicBool::new(true));
        let (store, asked) = store(&up).await;
        let first = store.keys().await.unwrap();
        assert!(Arc::ptr_eq(&first, &store.keys().await.unwrap()));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        later(FRESH).await;
        assert!(Arc::ptr_eq(&first, &store.keys().await.unwrap()), "nobody waits for newer ones");
        let second = store.newer(Some(&first)).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        assert_eq!(asked.load(Ordering::SeqCst), 2, "one fetch for both");
        assert!(Arc::ptr_eq(&second, &store.newer(Some(&second)).await.unwrap()), "there was nothing new just now");

        up.store(false, Ordering::SeqCst);
        later(PAUSE).await;
        assert!(Arc::ptr_eq(&second, &store.newer(Some(&second)).await.unwrap()), "the issuer is down");
        later(KEPT).await;
        assert!(store.keys().await.is_err(), "nobody knows what they are good for by now");
        assert!(store.keys().await.is_err());
        assert_eq!(asked.load(Ordering::SeqCst), 4, "it is not asked by everybody");
        up.store(true, Ordering::SeqCst);
        later(PAUSE).await;
        store.keys().await.unwrap();
    }

    #[test]
    fn a_key_is_found_by_its_id() {
        let key = |id: &str| json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": id });
        let keys = keys(&[key("a"), key("b")]);
        assert_eq!(keys.fitting(Some("a"), Algorithm::RS256).count(), 1);
        assert_eq!(keys.fitting(Some("c"), Algorithm::RS256).count(), 0);
        assert_eq!(keys.fitting(None, Algorithm::RS256).count(), 2);
        assert!(keys.knows(Some("b")) && keys.knows(None) && !keys.knows(Some("c")));
    }
}
