//! An authorization server on the loopback: it publishes metadata and keys, and signs what it is given.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use graviola::hashing::Sha256;
use graviola::signing::ecdsa::{P256, SigningKey as EcKey};
use graviola::signing::eddsa::Ed25519SigningKey;
use graviola::signing::rsa::{KeySize, SigningKey as RsaKey};
use serde_json::{Value, json};

/// Making one takes a while, so a process has one.
static RSA: LazyLock<RsaKey> = LazyLock::new(|| RsaKey::generate(KeySize::Rsa2048).expect("random numbers"));

/// The server; it goes on until the test is over.
pub struct Authority {
    /// Its name, and where it is.
    pub issuer: String,
    keys: Vec<(String, Key)>,
    shared: Arc<Shared>,
}

struct Shared {
    issuer: String,
    /// The keys as they are published.
    published: Mutex<Vec<Value>>,
    /// What was asked for, by path.
    asked: Mutex<Vec<String>>,
}

/// A key that it signs with.
enum Key {
    Rsa,
    Ec(EcKey<P256>),
    Ed(Ed25519SigningKey),
}

impl Authority {
    /// One with the keys `rsa` (RS256), `ec` (ES256) and `ed` (EdDSA).
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let issuer = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (published, asked) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { issuer: issuer.clone(), published, asked });
        let mut authority = Self { issuer, keys: Vec::new(), shared: shared.clone() };
        authority.publish("rsa", Key::Rsa);
        authority.add("ec");
        authority.publish("ed", Key::Ed(Ed25519SigningKey::generate().expect("random numbers")));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever hangs up wants no answer.
                let _ = shared.answer(stream);
            }
        });
        authority
    }

    /// Makes another key (ES256) and publishes it.
    pub fn add(&mut self, id: &str) {
        self.publish(id, Key::Ec(EcKey::generate().expect("random numbers")));
    }

    fn publish(&mut self, id: &str, key: Key) {
        let mut jwk = key.public();
        jwk["kid"] = id.into();
        self.shared.published.lock().unwrap().push(jwk);
        self.keys.push((id.to_owned(), key));
    }

    /// How often its keys were asked for.
    pub fn times_asked(&self) -> usize {
        self.shared.asked.lock().unwrap().iter().filter(|path| *path == "/keys").count()
    }

    /// What a good token for this resource says of a user, for five minutes.
    pub fn claims(&self, audience: &str, user: &str, scope: &str) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        json!({ "iss": self.issuer, "aud": audience, "sub": user, "scope": scope, "iat": now, "exp": now + 300 })
    }

    /// A good token.
    pub fn token(&self, audience: &str, user: &str, scope: &str) -> String {
        self.sign("ec", &self.claims(audience, user, scope))
    }

    /// These claims, signed with the key of this id.
    pub fn sign(&self, id: &str, claims: &Value) -> String {
        let (_, key) = self.keys.iter().find(|(known, _)| known == id).expect("a key of that id");
        self.sign_as(id, &json!({ "typ": "at+jwt", "alg": key.algorithm(), "kid": id }), claims)
    }

    /// Likewise, whatever the header says.
    pub fn sign_as(&self, id: &str, header: &Value, claims: &Value) -> String {
        let (_, key) = self.keys.iter().find(|(known, _)| known == id).expect("a key of that id");
        let message = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        format!("{message}.{}", encoded(key.sign(message.as_bytes())))
    }
}

/// As the parts of a token are written.
pub fn encoded(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl Shared {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let path =
            lines.next().transpose()?.and_then(|line| line.split(' ').nth(1).map(str::to_owned)).unwrap_or_default();
        for line in lines {
            if line?.is_empty() {
                break;
            }
        }
        self.asked.lock().unwrap().push(path.clone());
        let body = match path.as_str() {
            "/.well-known/oauth-authorization-server" => {
                Some(json!({ "issuer": self.issuer, "jwks_uri": format!("{}/keys", self.issuer) }))
            }
            "/keys" => Some(json!({ "keys": *self.published.lock().unwrap() })),
            _ => None,
        };
        let (status, body) = body.map_or(("404 Not Found", String::new()), |body| ("200 OK", body.to_string()));
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n");
        write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len())
    }
}

impl Key {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa => "RS256",
            Self::Ec(_) => "ES256",
            Self::Ed(_) => "EdDSA",
        }
    }

    fn public(&self) -> Value {
        let mut buffer = [0; 512];
        match self {
            Self::Rsa => {
                // SEQUENCE { INTEGER, INTEGER }, of 2048 bits: the modulus stands behind nine bytes, the exponent at the end.
                let der = RSA.public_key().to_pkcs1_der(&mut buffer).expect("room").to_vec();
                json!({ "kty": "RSA", "alg": "RS256", "use": "sig", "n": encoded(&der[9..265]), "e": encoded(&der[267..]) })
            }
            Self::Ec(key) => {
                let spki = key.to_spki_der(&mut buffer).expect("room");
                let (x, y) = spki[spki.len() - 64..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": encoded(x), "y": encoded(y) })
            }
            Self::Ed(key) => json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(key.public_key().as_bytes()) }),
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let mut buffer = [0; 256];
        match self {
            Self::Rsa => RSA.sign_pkcs1_sha256(&mut buffer, message).expect("it signs").to_vec(),
            Self::Ec(key) => key.sign::<Sha256>(&[message], &mut buffer).expect("it signs").to_vec(),
            Self::Ed(key) => key.sign(message).to_vec(),
        }
    }
}
