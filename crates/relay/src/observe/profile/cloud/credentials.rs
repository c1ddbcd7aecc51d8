//! Who this process is to Google: the file of a service account or a user, or the machine's metadata
//! server.

use std::{
    path::PathBuf,
    time::{Duration, Instant, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::{rand::SystemRandom, rsa, signature::RSA_PKCS1_SHA256};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Failure, MOST_CALL, read, unreachable};
use crate::settings::{GcpProfiler, Secret};

const SCOPE: &str = "https://www.googleapis.com/auth/monitoring.write";
/// A token is not used in its last moments.
const MARGIN: Duration = Duration::from_mins(2);

/// Where this runs.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) project: String,
    pub(super) zone: Option<String>,
}

/// Gets tokens, and keeps them for as long as they are good.
pub(super) struct Credentials {
    http: reqwest::Client,
    /// For what is on this machine: past any proxy.
    direct: reqwest::Client,
    file: Option<PathBuf>,
    project: Option<String>,
    metadata: String,
    token: Option<(Secret, Instant)>,
    place: Option<Place>,
}

/// Where users' tokens are refreshed, if their file does not say.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

/// What a file of credentials holds.
enum Account {
    Service(ServiceAccount),
    User(User),
}

/// What `gcloud auth application-default login` leaves.
#[derive(Deserialize)]
struct User {
    client_id: String,
    client_secret: String,
    refresh_token: String,
    #[serde(default)]
    token_uri: Option<String>,
}

#[derive(Deserialize)]
struct ServiceAccount {
    client_email: String,
    private_key: String,
    token_uri: String,
    #[serde(default)]
    project_id: Option<String>,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    expires_in: u64,
}

impl Credentials {
    pub(super) fn new(
        settings: &GcpProfiler,
        http: reqwest::Client,
        direct: reqwest::Client,
    ) -> Self {
        Self {
            http,
            direct,
            file: settings.credentials.clone(),
            project: settings.project.clone(),
            metadata: settings.metadata.clone(),
            token: None,
            place: None,
        }
    }

    /// The project and zone, by name or from the machine.
    pub(super) async fn place(&mut self) -> Result<Place, Failure> {
        if let Some(place) = &self.place {
            return Ok(place.clone());
        }
        let account = self.account().await?;
        let named = self.project.clone();
        let named = named.or_else(|| match &account {
            Some(Account::Service(account)) => account.project_id.clone(),
            _ => None,
        });
        let project = match named {
            Some(project) => project,
            None => self
                .metadata("project/project-id")
                .await
                .map_err(|failure| {
                    let reason = failure.reason;
                    Failure::from(format!("no project: set GOOGLE_CLOUD_PROJECT ({reason})"))
                })?,
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-.:".contains(c);
        if project.is_empty() || !project.chars().all(is_plain) {
            return Err("the project's name is not one".to_owned().into());
        }
        // `projects/<number>/zones/<zone>`; with a file this may be no machine of Google's.
        let zone = match account {
            Some(_) => None,
            None => self.metadata("instance/zone").await.ok(),
        };
        let zone = zone.and_then(|zone| zone.rsplit('/').next().map(str::to_owned));
        let place = Place { project, zone };
        self.place = Some(place.clone());
        Ok(place)
    }

    pub(super) fn forget_token(&mut self) {
        self.token = None;
    }

    pub(super) async fn token(&mut self) -> Result<Secret, Failure> {
        if let Some((token, until)) = &self.token
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let granted = match self.account().await? {
            Some(Account::Service(account)) => self.exchange(&account).await?,
            Some(Account::User(user)) => self.refresh(&user).await?,
            None => {
                let path = "instance/service-accounts/default/token";
                self.metadata(path).await?.into_bytes()
            }
        };
        let granted: Granted = serde_json::from_slice(&granted)
            .map_err(|_| Failure::from("the answer with the token is malformed".to_owned()))?;
        let good = Duration::from_secs(granted.expires_in.min(86_400)).saturating_sub(MARGIN);
        let token = Secret::new(granted.access_token);
        self.token = Some((token.clone(), Instant::now() + good));
        Ok(token)
    }

    async fn account(&self) -> Result<Option<Account>, Failure> {
        let Some(path) = &self.file else {
            return Ok(None);
        };
        let shown = path.display();
        let fault = |reason: &dyn std::fmt::Display| {
            Failure::from(format!("GOOGLE_APPLICATION_CREDENTIALS {shown}: {reason}"))
        };
        let text = tokio::fs::read(path).await.map_err(|error| fault(&error))?;
        // Its text is not shown: it holds the key.
        Account::parse(&text)
            .map(Some)
            .map_err(|reason| fault(&reason))
    }

    /// A user's refresh token, for a token.
    async fn refresh(&self, user: &User) -> Result<Vec<u8>, Failure> {
        let place = user.token_uri.as_deref().unwrap_or(TOKEN_URI);
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", &user.client_id),
            ("client_secret", &user.client_secret),
            ("refresh_token", &user.refresh_token),
        ];
        self.grant(place, &form).await
    }

    /// A signed claim of who we are, for a token.
    async fn exchange(&self, account: &ServiceAccount) -> Result<Vec<u8>, Failure> {
        let now = UNIX_EPOCH.elapsed().map_or(0, |now| now.as_secs());
        let claims = json!({
            "iss": account.client_email, "scope": SCOPE, "aud": account.token_uri,
            "iat": now, "exp": now + 3_600,
        });
        let header = BASE64.encode(r#"{"alg":"RS256","typ":"JWT"}"#);
        let signed = format!("{header}.{}", BASE64.encode(claims.to_string()));
        let assertion = format!("{signed}.{}", BASE64.encode(sign(account, &signed)?));
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("assertion", &*assertion),
        ];
        self.grant(&account.token_uri, &form).await
    }

    async fn grant(&self, place: &str, form: &[(&str, &str)]) -> Result<Vec<u8>, Failure> {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let request = self
            .http
            .post(place)
            .timeout(MOST_CALL)
            .header(
                http::header::CONTENT_TYPE,
                "application/x-www-form-urlencoded",
            )
            .body(form);
        answered("the token's server", request).await
    }

    async fn metadata(&self, path: &str) -> Result<String, Failure> {
        let url = format!("http://{}/computeMetadata/v1/{path}", self.metadata);
        let request = self.direct.get(url).timeout(Duration::from_secs(10));
        let request = request.header("Metadata-Flavor", "Google");
        let body = answered("the metadata server", request).await?;
        let text = String::from_utf8(body).map_err(|_| "metadata is no text".to_owned())?;
        Ok(text.trim().to_owned())
    }
}

impl Account {
    fn parse(text: &[u8]) -> Result<Self, String> {
        let file: Value = serde_json::from_slice(text).unwrap_or_default();
        let kind = file["type"]
            .as_str()
            .unwrap_or("service_account")
            .to_owned();
        let parsed = match &*kind {
            "service_account" => serde_json::from_value(file).map(Self::Service),
            "authorized_user" => serde_json::from_value(file).map(Self::User),
            _ => {
                let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let kind: String = kind.chars().filter(|c| is_plain(*c)).take(40).collect();
                return Err(format!(
                    "credentials of type {kind} are not supported; use a service account's key \
                     file, or none on a machine of Google's"
                ));
            }
        };
        parsed.map_err(|_| "it is no key file of a service account or a user".to_owned())
    }
}

fn sign(account: &ServiceAccount, text: &str) -> Result<Vec<u8>, Failure> {
    let unusable = || Failure::from("the service account's private key cannot be used".to_owned());
    let der = PrivatePkcs8KeyDer::from_pem_slice(account.private_key.as_bytes());
    let der = der.map_err(|_| unusable())?;
    let key = rsa::KeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| unusable())?;
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        text.as_bytes(),
        &mut signature,
    )
    .map_err(|_| unusable())?;
    Ok(signature)
}

async fn answered(who: &str, request: reqwest::RequestBuilder) -> Result<Vec<u8>, Failure> {
    let answer = request.send().await.map_err(|error| {
        Failure::from(format!(
            "{who} cannot be reached: {}",
            unreachable(error).reason
        ))
    })?;
    if !answer.status().is_success() {
        return Err(format!("{who} answers {}", answer.status()).into());
    }
    read(answer).await
}
