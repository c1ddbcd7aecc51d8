//! From SaaS' answers to changes: fetches, parses on a thread that may take its time, and rejects
//! whole what is not complete and valid.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{Client, UpstreamError};
use crate::state::{
    Change, Domain, EnvironmentId, Relay,
    prepare::{self, ConfigError, Prepared, RawEnvironment},
};

/// Pages that are fetched at once.
const PAGES_AT_ONCE: usize = 4;
/// A key covers a thousand environments, ten a page.
const MOST_PAGES: u64 = 10_000;

/// Why there is nothing to apply.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The request came to nothing.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The answer is not one that may replace what is held.
    #[error("SaaS' config is rejected, what is held stays: {0}")]
    Config(#[from] ConfigError),
    /// The process is going down.
    #[error("interrupted")]
    Interrupted,
}

impl FetchError {
    /// How long SaaS asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Upstream(error) => error.retry_after(),
            _ => None,
        }
    }
}

/// Fetches and prepares.
pub struct Fetcher {
    /// The requests.
    pub client: Client,
    /// What is held, to be compared with.
    pub relay: Arc<Relay>,
    /// `AND_RULES`
    pub and_rules: bool,
}

type Revisions = HashMap<EnvironmentId, u64>;

impl Fetcher {
    /// The whole config: every page, or nothing.
    pub async fn everything(self: &Arc<Self>) -> Result<Change, FetchError> {
        self.everything_telling(|_, _| {}).await
    }

    /// As [`Self::everything`]; each page that came is told, with how many there are.
    pub async fn everything_telling(
        self: &Arc<Self>,
        tell: impl Fn(u64, u64) + Send + Sync,
    ) -> Result<Change, FetchError> {
        let revisions = Arc::new(self.revisions());
        let known = revisions.keys().cloned().collect();
        let first = self.client.config_page(0).await?;
        let (mut environments, shape) = self.prepare_page(first, revisions.clone()).await?;
        let (came, tell) = (&AtomicU64::new(1), &tell);
        tell(1, shape.pages);
        let rest = stream::iter(1..shape.pages)
            .map(|page| {
                let revisions = revisions.clone();
                async move {
                    let body = self.client.config_page(page).await?;
                    let (environments, now) = self.prepare_page(body, revisions).await?;
                    // Something came or went between two pages: none of them can be trusted.
                    if now == shape {
                        tell(came.fetch_add(1, Relaxed) + 1, shape.pages);
                        Ok(environments)
                    } else {
                        Err(FetchError::from(moved()))
                    }
                }
            })
            .buffer_unordered(PAGES_AT_ONCE);
        environments.extend(rest.try_concat().await?);
        let mut listed = HashSet::new();
        if environments.iter().any(|e| !listed.insert(e.id.clone())) {
            return Err(moved().into());
        }
        if environments.is_empty() && !revisions.is_empty() {
            let empty = "the config lists no environment, while some are held";
            return Err(ConfigError::Incomplete(empty.into()).into());
        }
        Ok(Change::Config {
            environments,
            known,
        })
    }

    /// The config of one environment.
    pub async fn environment(self: &Arc<Self>, id: &EnvironmentId) -> Result<Prepared, FetchError> {
        let revisions = Arc::new(self.revisions());
        let body = self.client.config_of(id.as_str()).await?;
        let (environments, _) = self.prepare_page(body, revisions).await?;
        let missing =
            || ConfigError::Incomplete(format!("environment {id} is not in its own config"));
        let found = environments
            .into_iter()
            .find(|environment| environment.id == *id);
        Ok(found.ok_or_else(missing)?)
    }

    /// All flags or groups of an environment, without those that `gone` names.
    pub async fn list(
        self: &Arc<Self>,
        id: &EnvironmentId,
        domain: Domain,
        gone: Vec<String>,
    ) -> Result<Prepared, FetchError> {
        let basis = self
            .relay
            .environment(id.as_str())
            .map(|held| held.revision());
        let body = match domain {
            Domain::Flag => self.client.flags(id.as_str()).await?,
            Domain::TargetSegment => self.client.groups(id.as_str()).await?,
        };
        let (fetcher, id) = (self.clone(), id.clone());
        blocking(move || {
            let what = format!("environment {id}: {}", domain.as_str());
            let raw: Vec<&RawValue> = serde_json::from_slice(&body)
                .map_err(|source| ConfigError::Shape { what, source })?;
            let raw: Vec<_> = raw
                .into_iter()
                .filter(|raw| !is_named(raw, domain, &gone))
                .collect();
            let held = fetcher.relay.environment(id.as_str());
            let mut prepared = Prepared {
                id: id.clone(),
                keys: None,
                flags: None,
                groups: None,
                basis,
                exact: false,
            };
            match domain {
                Domain::Flag => prepared.flags = Some(prepare::flags(&id, &raw, held.as_deref())?),
                Domain::TargetSegment => {
                    let groups = prepare::groups(&id, &raw, held.as_deref(), fetcher.and_rules)?;
                    prepared.groups = Some(groups);
                }
            }
            Ok(prepared)
        })
        .await
    }

    fn revisions(&self) -> Revisions {
        let environments = self.relay.environments();
        environments
            .iter()
            .map(|e| (e.id().clone(), e.revision()))
            .collect()
    }

    async fn prepare_page(
        self: &Arc<Self>,
        body: Bytes,
        revisions: Arc<Revisions>,
    ) -> Result<(Vec<Prepared>, Shape), FetchError> {
        #[derive(Deserialize)]
        struct Page<'a> {
            #[serde(borrow)]
            environments: Option<Vec<RawEnvironment<'a>>>,
            #[serde(rename = "pageCount")]
            pages: Option<u64>,
            #[serde(rename = "itemCount")]
            items: Option<u64>,
        }
        let fetcher = self.clone();
        blocking(move || {
            let mut deserializer = serde_json::Deserializer::from_slice(&body);
            let page: Page<'_> =
                serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
                    let what = format!("config page, {}", error.path());
                    ConfigError::Shape {
                        what,
                        source: error.into_inner(),
                    }
                })?;
            deserializer.end().map_err(|source| ConfigError::Shape {
                what: "config page".into(),
                source,
            })?;
            let incomplete = |what: &str| ConfigError::Incomplete(format!("a config page {what}"));
            let raw = page
                .environments
                .ok_or_else(|| incomplete("without environments"))?;
            let pages = page.pages.ok_or_else(|| incomplete("without pageCount"))?;
            if pages > MOST_PAGES {
                return Err(incomplete("of too many").into());
            }
            let mut environments = Vec::with_capacity(raw.len());
            for raw in &raw {
                if raw.id.is_empty() {
                    return Err(incomplete("with an environment without id").into());
                }
                let held = fetcher.relay.environment(&raw.id);
                let mut prepared = prepare::environment(raw, held.as_deref(), fetcher.and_rules)?;
                // What changed since the request was sent is newer than its answer.
                prepared.basis = Some(revisions.get(&prepared.id).copied().unwrap_or(0));
                environments.push(prepared);
            }
            Ok((
                environments,
                Shape {
                    pages,
                    items: page.items,
                },
            ))
        })
        .await
    }
}

/// What every page of one config says alike.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    pages: u64,
    items: Option<u64>,
}

fn moved() -> ConfigError {
    ConfigError::Incomplete("the config changed while its pages were fetched".into())
}

/// Whether an item is one of those named.
fn is_named(raw: &RawValue, domain: Domain, names: &[String]) -> bool {
    #[derive(Deserialize)]
    struct Name<'a> {
        #[serde(borrow, default)]
        feature: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        identifier: Option<Cow<'a, str>>,
    }
    if names.is_empty() {
        return false;
    }
    let Ok(name) = serde_json::from_str::<Name<'_>>(raw.get()) else {
        return false;
    };
    let name = match domain {
        Domain::Flag => name.feature,
        Domain::TargetSegment => name.identifier,
    };
    name.is_some_and(|name| names.iter().any(|other| *other == *name))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(FetchError::Interrupted))
}
