//! A small memory of tokens whose signature was found good, so that an SDK that asks again and
//! again is not verified again and again. It says nothing of what a token may: times, keys and
//! environments are looked at anew for every request.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::token::{Claims, Secrets, TokenError};
use crate::recent::RecentMemory;

/// Parts that are locked one by one.
const SHARDS: usize = 16;
/// Tokens that each part remembers at least.
const REMEMBERED: usize = 128;
/// A longer one (its target has many attributes) is verified each time.
const LONGEST: usize = 1_024;
/// The end of a token: the digits of its signature, which differ from token to token.
const SIGNATURE: usize = 43;

type Shard = RecentMemory<u64, (Box<str>, Arc<Claims>)>;

/// Secrets, and the tokens that were found to be signed by them: others know none of these.
pub(super) struct Signing {
    secrets: Secrets,
    checked: CheckedTokens,
}

impl Signing {
    pub(super) fn new(secrets: Secrets) -> Self {
        Self {
            secrets,
            checked: CheckedTokens::new(),
        }
    }

    pub(super) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// What a token that was verified before says, if it is valid at `now`.
    pub(super) fn known(&self, token: &str, now: u64) -> Option<Arc<Claims>> {
        let known = self.checked.get(token);
        known.filter(|claims| claims.is_timely(now))
    }

    /// Verifies a token.
    pub(super) fn verify(&self, token: &str, now: u64) -> Result<Arc<Claims>, TokenError> {
        let claims = Arc::new(self.secrets.verify(token, now)?);
        self.checked.insert(token, &claims);
        Ok(claims)
    }

    /// A token was refused for another reason than its signature.
    pub(super) fn forget(&self, token: &str) {
        self.checked.remove(token);
    }
}

/// Verified tokens with what they say.
struct CheckedTokens {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

impl CheckedTokens {
    fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::new(RecentMemory::new(REMEMBERED))),
        }
    }

    fn get(&self, token: &str) -> Option<Arc<Claims>> {
        let (hash, shard) = self.place(token);
        let (known, claims) = shard.get(&hash)?;
        (**known == *token).then(|| claims.clone())
    }

    fn insert(&self, token: &str, claims: &Arc<Claims>) {
        if token.len() <= LONGEST {
            let (hash, mut shard) = self.place(token);
            shard.insert(hash, (token.into(), claims.clone()));
        }
    }

    fn remove(&self, token: &str) {
        let (hash, mut shard) = self.place(token);
        shard.remove(&hash);
    }

    fn place(&self, token: &str) -> (u64, MutexGuard<'_, Shard>) {
        let end = token.len().saturating_sub(SIGNATURE);
        let hash = self.hasher.hash_one(&token.as_bytes()[end..]);
        let shard = &self.shards[usize::from(hash.to_le_bytes()[7]) % SHARDS];
        (hash, shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::KeyHash;

    #[test]
    fn a_known_token_runs_out_all_the_same() {
        let secrets = Secrets::new("s", &[]);
        let token = secrets.mint(&KeyHash::of_key("k"), "env", None, 10_000);
        let signing = Signing::new(secrets);
        assert!(signing.known(&token, 10_000).is_none());
        signing.verify(&token, 10_000).unwrap();
        assert!(signing.known(&token, 10_000).is_some());
        assert!(signing.known(&token, 9_000).is_none(), "dated ahead");
        signing.forget(&token);
        assert!(signing.known(&token, 10_000).is_none());
    }

    #[test]
    fn only_the_very_token_is_known_until_it_is_removed() {
        let secrets = Secrets::new("s", &[]);
        let token = secrets.mint(&KeyHash::of_key("k"), "env", None, 1_000);
        let claims = Arc::new(secrets.verify(&token, 1_000).unwrap());
        let tokens = CheckedTokens::new();
        tokens.insert(&token, &claims);
        assert!(Arc::ptr_eq(&tokens.get(&token).unwrap(), &claims));
        // The same signature over something else.
        let (_, signature) = token.rsplit_once('.').unwrap();
        for other in [
            signature,
            &format!("{}x", &token[1..]),
            &token[1..],
            "",
            "é",
        ] {
            assert!(tokens.get(other).is_none(), "{other}");
        }
        tokens.remove(&token);
        assert!(tokens.get(&token).is_none());
        assert!(Signing::new(secrets).known(&token, 1_000).is_none());
        let long = "x".repeat(LONGEST + 1);
        tokens.insert(&long, &claims);
        assert!(tokens.get(&long).is_none());
    }
}
