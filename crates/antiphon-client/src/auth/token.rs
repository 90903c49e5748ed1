//! A token, and how long it is good.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rmcp::transport::auth::StoredCredentials;
use secrecy::{ExposeSecret, SecretString};

/// So long before its end a token is not used any more: it has to arrive. Less for short-lived ones.
const MARGIN: Duration = Duration::from_secs(30);

/// An access token.
#[derive(Clone)]
pub(super) struct Token {
    value: SecretString,
    /// `None`: nobody said.
    good_until: Option<SystemTime>,
}

impl Token {
    /// That of these credentials, if they have one.
    pub(super) fn of(credentials: &StoredCredentials) -> Option<Self> {
        let response = serde_json::to_value(credentials.token_response.as_ref()?).ok()?;
        let value = response.get("access_token")?.as_str()?;
        let life = response.get("expires_in").and_then(|seconds| seconds.as_u64()).map(Duration::from_secs);
        let received = credentials.token_received_at.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        let good_until =
            received.zip(life).map(|(received, life)| received + life.saturating_sub(MARGIN.min(life / 4)));
        Some(Self { value: value.into(), good_until })
    }

    /// Whether it may be sent, where the server has refused that other one.
    pub(super) fn is_good(&self, refused: Option<&str>, now: SystemTime) -> bool {
        self.good_until.is_none_or(|end| now < end) && refused != Some(self.value.expose_secret())
    }

    pub(super) fn value(&self) -> String {
        self.value.expose_secret().to_owned()
    }
}

/// Now, as credentials tell the time: seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    fn token(received: Option<u64>, expires_in: Option<u64>) -> Token {
        let response = json!({ "access_token": "t", "token_type": "bearer", "expires_in": expires_in });
        let response = serde_json::from_value(response).unwrap();
        Token::of(&StoredCredentials::new("me".into(), Some(response), Vec::new(), received)).unwrap()
    }

    #[test]
    fn it_is_good_until_shortly_before_its_end() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        for (received, life, good, over) in [(1_000, 3_600, 4_569, 4_570), (1_000, 4, 1_002, 1_003)] {
            let token = token(Some(received), Some(life));
            assert!(token.is_good(None, at(good)) && !token.is_good(None, at(over)), "{life}");
        }
        assert!(token(Some(0), None).is_good(None, at(u32::MAX.into())));
        assert!(token(None, Some(1)).is_good(Some("other"), at(9)));
        assert!(!token(None, None).is_good(Some("t"), at(0)), "the server has refused it");
    }
}
