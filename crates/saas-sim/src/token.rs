//! Tokens as SaaS gives them to relays: what they say, and whether they are good.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, header};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{data, model::Model};

/// A token that lists the environments it may read.
pub(crate) fn token(model: &Model, proxy_key: &str) -> String {
    let payload = json!({
        "key": data::hash(proxy_key),
        "account": "sim-account",
        "cluster_identifier": model.options.cluster,
        "generation": model.token_generation,
        "expires": model.options.token_life.map(|life| now() + millis(life)),
        "environments": model.environments.keys().collect::<Vec<_>>(),
    });
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2lnbmF0dXJl", encode(&header), encode(&payload))
}

/// The environments that the request's token may read; `None`: it is not valid.
pub(crate) fn authorised(model: &Model, headers: &HeaderMap) -> Option<Vec<String>> {
    let bearer = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .strip_prefix("Bearer ")?;
    let payload = URL_SAFE_NO_PAD.decode(bearer.split('.').nth(1)?).ok()?;
    let payload: Value = serde_json::from_slice(&payload).ok()?;
    let mut keys = std::iter::once(&model.proxy_key).chain(&model.former_keys);
    let valid = model.key_valid
        && payload["generation"] == model.token_generation
        && payload["expires"].as_u64().is_none_or(|end| now() < end)
        && keys.any(|key| payload["key"] == data::hash(key));
    let list = payload["environments"].as_array()?;
    valid.then(|| {
        list.iter()
            .filter_map(|id| id.as_str().map(ToOwned::to_owned))
            .collect()
    })
}

fn now() -> u64 {
    millis(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
    )
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
