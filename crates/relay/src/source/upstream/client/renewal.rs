//! The token of SaaS and the proxy key that gets it: renewed by one for all who wait, asked for no
//! more once the key is refused.

use std::{sync::Arc, time::Instant};

use reqwest::{Method, StatusCode, header};
use serde::Deserialize;
use tokio::{sync::watch, time::timeout};

use super::{
    Client,
    error::{UpstreamError, refusal},
    read,
    token::{Token, read_token},
};
use crate::settings::Secret;

/// How the last question for a token failed, and when.
pub(super) type LastFailure = Option<(Instant, UpstreamError)>;

impl Client {
    /// Gets a new token, whatever the old one.
    pub async fn authenticate(&self) -> Result<(), UpstreamError> {
        let mut last = self.renewal.lock().await;
        self.request_token(&mut last).await.map(|_| ())
    }

    /// Waits until the proxy key is refused, whoever asked.
    pub async fn key_refused(&self) {
        // The sender is part of `self`.
        let _ = self.refused.subscribe().wait_for(Option::is_some).await;
    }

    /// The proxy key of now, and its changes.
    pub fn watch_key(&self) -> watch::Receiver<Secret> {
        self.key.subscribe()
    }

    /// Goes on with another proxy key, if SaaS accepts it; else nothing changes.
    pub async fn take_key(&self, key: Secret) -> Result<(), UpstreamError> {
        let mut last = self.renewal.lock().await;
        let token = self.token_for(&key).await?;
        self.keep(&token, &mut last);
        self.key.send_replace(key);
        Ok(())
    }

    fn keep(&self, token: &Arc<Token>, last: &mut LastFailure) {
        self.token.store(Some(token.clone()));
        self.refused.send_replace(None);
        *last = None;
    }

    /// A token that is not `refused`: of many that ask at once one renews it for all.
    pub(super) async fn renew(
        &self,
        refused: Option<&Arc<Token>>,
    ) -> Result<Arc<Token>, UpstreamError> {
        let arrived = Instant::now();
        let mut last = self.renewal.lock().await;
        let is_new = |current: &Arc<Token>| refused.is_none_or(|r| !Arc::ptr_eq(r, current));
        if let Some(current) = self.token.load_full().filter(is_new) {
            return Ok(current);
        }
        if let Some(status) = *self.refused.borrow() {
            return Err(UpstreamError::KeyRefused(status));
        }
        match &*last {
            Some((at, error)) if *at >= arrived => Err(error.clone()),
            _ => self.request_token(&mut last).await,
        }
    }

    /// Only while `renewal` is held: else an older key could come last.
    async fn request_token(&self, last: &mut LastFailure) -> Result<Arc<Token>, UpstreamError> {
        let key = self.key.borrow().clone();
        let outcome = self.token_for(&key).await;
        match &outcome {
            Ok(token) => {
                self.keep(token, last);
            }
            Err(error) => {
                if let UpstreamError::KeyRefused(status) = error {
                    self.refused.send_replace(Some(*status));
                }
                *last = Some((Instant::now(), error.clone()));
            }
        }
        outcome
    }

    async fn token_for(&self, key: &Secret) -> Result<Arc<Token>, UpstreamError> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "authToken")]
            token: String,
        }
        let url = format!("{}/proxy/auth", self.config.client_service);
        let body = serde_json::json!({ "proxyKey": key.expose() }).to_string();
        let request = self
            .http
            .request(Method::POST, url)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body);
        let whole = async {
            let limit = self.config.answer;
            let answer = self.ask("/proxy/auth", "", request, limit).await?;
            match answer.status() {
                status if status.is_success() => read(answer).await,
                status @ (StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::NOT_FOUND) => Err(UpstreamError::KeyRefused(status)),
                _ => Err(refusal(&answer)),
            }
        };
        let body = timeout(self.config.answer, whole)
            .await
            .unwrap_or(Err(UpstreamError::TimedOut))?;
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| UpstreamError::Malformed("no authToken".into()))?;
        read_token(answer.token, key.clone()).map(Arc::new)
    }
}
