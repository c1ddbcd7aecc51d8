//! Who may ask: the token of a request against the keys that are known now, and the cheap answer
//! for a token that is refused again and again (sdk-api.md "Authentication").

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::{HeaderMap, StatusCode, header};
use tokio::time::timeout;

use super::{
    App, Asked,
    respond::Refusal,
    token::{Claims, TokenError},
};
use crate::{
    recent::RecentMemory,
    state::{Environment, EnvironmentId, KeyHash, event::now_millis},
};

/// How long a refused token gets 429.
const REMEMBERED: Duration = Duration::from_mins(10);
const RETRY_AFTER: u32 = 60;

/// A bounded memory of refused tokens. Keyed by a keyed hash: a collision costs a stranger a 429.
pub(super) struct RefusedTokens {
    hasher: RandomState,
    memory: Mutex<RecentMemory<u64, Instant>>,
}

impl RefusedTokens {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            memory: Mutex::new(RecentMemory::new(20_000)),
        }
    }

    fn contains(&self, token: &str) -> bool {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.is_empty() {
            return false;
        }
        memory
            .get(&self.hasher.hash_one(token))
            .is_some_and(|since| since.elapsed() < REMEMBERED)
    }

    fn insert(&self, token: &str) {
        let hash = self.hasher.hash_one(token);
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.insert(hash, Instant::now());
    }

    pub(super) fn clear(&self) {
        self.memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

/// A token that is ours, of an environment, before its key is looked at.
pub(super) struct Bearer<'a> {
    pub(super) token: &'a str,
    pub(super) claims: Arc<Claims>,
}

/// Who reads.
pub(super) struct Reader {
    /// What may be read.
    pub(super) environment: Arc<Environment>,
    /// What the token says; `None` where nobody asks for one.
    pub(super) claims: Option<Arc<Claims>>,
}

/// What is known of a token's key.
enum Standing {
    /// It opens this environment.
    Known(Arc<Environment>),
    /// Nobody knows yet.
    Unknown,
    /// The model is complete, and does not have it.
    Absent,
}

impl App {
    /// The request's token, if it is one of ours.
    pub(super) fn bearer<'a>(&self, headers: &'a HeaderMap) -> Result<Bearer<'a>, Refusal> {
        let Some(token) = bearer_token(headers) else {
            return Err(Refusal::unauthorized(
                "no token: send `Authorization: Bearer <authToken>` from POST /client/auth",
            ));
        };
        let now = now_millis() / 1_000;
        let signing = self.signing.load();
        if let Some(claims) = signing.known(token, now) {
            return Ok(Bearer { token, claims });
        }
        if self.refused.contains(token) {
            return Err(Refusal {
                status: StatusCode::TOO_MANY_REQUESTS,
                message: "this token was refused before; authenticate again".into(),
                retry_after: Some(RETRY_AFTER),
            });
        }
        match signing.verify(token, now) {
            Ok(claims) => Ok(Bearer { token, claims }),
            Err(error) => {
                // A clock that is off corrects itself, so only what stays wrong is remembered.
                if error != TokenError::Untimely {
                    self.refused.insert(token);
                }
                Err(Refusal::unauthorized(error.to_string()))
            }
        }
    }

    /// Whether the token's key opens its environment now.
    fn standing(&self, bearer: &Bearer<'_>) -> Standing {
        let relay = &self.parts.relay;
        // Before the environment: whatever came since then was there when the answer was "no".
        let phase = relay.phase();
        let environment = relay.environment(&bearer.claims.environment);
        match environment.filter(|e| e.keys().contains(&bearer.claims.key)) {
            Some(environment) => Standing::Known(environment),
            None if phase.knows_all_keys() => Standing::Absent,
            None => Standing::Unknown,
        }
    }

    /// A token whose key the model does not have: a last question, then a refusal.
    async fn absent(&self, bearer: &Bearer<'_>) -> Result<Arc<Environment>, Refusal> {
        match self.ask(bearer.claims.key).await {
            Asked::Nobody => {
                return Err(Refusal::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the token's SDK key cannot be checked now; try again",
                ));
            }
            Asked::Known => {
                if let Standing::Known(environment) = self.standing(bearer) {
                    return Ok(environment);
                }
            }
            Asked::Unknown => {}
        }
        self.refused.insert(bearer.token);
        self.signing.load().forget(bearer.token);
        Err(Refusal::unauthorized(
            "the token's SDK key or environment is not known any more",
        ))
    }

    async fn ask(&self, key: KeyHash) -> Asked {
        match &self.parts.lookup {
            // After its proxy key was deleted, a relay knows that nothing is known.
            Some(lookup) if !self.parts.relay.phase().key_deleted => lookup.key(key).await,
            _ => Asked::Unknown,
        }
    }

    /// The environment that an SDK key opens; `Some(None)`: none. `None`: nobody could tell in time.
    pub(super) async fn environment_of_key(
        &self,
        key: &KeyHash,
    ) -> Option<Option<Arc<Environment>>> {
        let relay = &self.parts.relay;
        let find = || {
            // Before the environment: as in `standing`.
            let complete = relay.phase().knows_all_keys();
            match relay.environment_of_key(key) {
                Some(environment) => Some(Some(environment)),
                None => complete.then_some(None),
            }
        };
        if let Some(environment) = self.held(find).await? {
            return Some(Some(environment));
        }
        match self.ask(*key).await {
            Asked::Unknown => Some(None),
            Asked::Known => Some(relay.environment_of_key(key)),
            Asked::Nobody => self.held(|| relay.environment_of_key(key)).await.map(Some),
        }
    }

    /// Who a request is of that reads the environment `path`. Held while nobody can know the key
    /// yet.
    pub(super) async fn reader(&self, headers: &HeaderMap, path: &str) -> Result<Reader, Refusal> {
        if let Some(reader) = self.reader_now(headers, path) {
            return reader;
        }
        let bearer = self.bearer(headers)?;
        let known = self.held(|| match self.standing(&bearer) {
            Standing::Known(environment) => Some(Some(environment)),
            Standing::Absent => Some(None),
            Standing::Unknown => None,
        });
        let environment = match known.await {
            Some(Some(environment)) => environment,
            Some(None) => self.absent(&bearer).await?,
            None => {
                return Err(Refusal::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the relay has no configuration yet; try again",
                ));
            }
        };
        same_environment(&bearer.claims, path)?;
        Ok(Reader {
            environment,
            claims: Some(bearer.claims),
        })
    }

    /// The same without waiting: `None` where somebody has to be waited for.
    pub(super) fn reader_now(
        &self,
        headers: &HeaderMap,
        path: &str,
    ) -> Option<Result<Reader, Refusal>> {
        let look = || -> Result<Option<Reader>, Refusal> {
            if self.parts.bypass_auth {
                let claims = self.bearer(headers).ok().map(|bearer| bearer.claims);
                let environment = self.parts.relay.environment(path).ok_or_else(|| {
                    Refusal::not_found(format!("environment {path:?} is not known here"))
                })?;
                return Ok(Some(Reader {
                    environment,
                    claims,
                }));
            }
            let bearer = self.bearer(headers)?;
            let Standing::Known(environment) = self.standing(&bearer) else {
                return Ok(None);
            };
            same_environment(&bearer.claims, path)?;
            Ok(Some(Reader {
                environment,
                claims: Some(bearer.claims),
            }))
        };
        look().transpose()
    }

    /// The environment that metrics or a stream are for: taken on the token's signature alone
    /// where its key cannot be known yet.
    pub(super) async fn writer(
        &self,
        headers: &HeaderMap,
        path: Option<&str>,
    ) -> Result<(EnvironmentId, Arc<Claims>), Refusal> {
        let bearer = self.bearer(headers)?;
        let environment = match self.standing(&bearer) {
            Standing::Known(environment) => environment.id().clone(),
            Standing::Absent => self.absent(&bearer).await?.id().clone(),
            Standing::Unknown => EnvironmentId::from(&*bearer.claims.environment),
        };
        if let Some(path) = path {
            same_environment(&bearer.claims, path)?;
        }
        Ok((environment, bearer.claims))
    }

    /// Waits until `look` finds something, whenever keys or environments change. `None`: it found
    /// nothing in time, or there is no room or no time to wait.
    pub(super) async fn held<T>(&self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        if let Some(found) = look() {
            return Some(found);
        }
        if self.is_draining() {
            return None;
        }
        let _place = self.holding.try_acquire().ok()?;
        let mut changes = self.parts.relay.watch_directory();
        // Watched first, so that what comes between the two is seen.
        if let Some(found) = look() {
            return Some(found);
        }
        let wait = async {
            while changes.changed().await.is_ok() {
                if let Some(found) = look() {
                    return Some(found);
                }
            }
            None
        };
        tokio::select! {
            found = timeout(self.parts.limits.hold, wait) => found.ok().flatten(),
            () = self.drain.cancelled() => None,
        }
    }
}

fn same_environment(claims: &Claims, path: &str) -> Result<(), Refusal> {
    if claims.environment == path {
        Ok(())
    } else {
        Err(Refusal::unauthorized(format!(
            "the token is not for environment {path:?}"
        )))
    }
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
