//! HTTPS from PEM files: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1, client certificates where a CA for
//! them is named. Follows its files: a new pair serves from the next connection on, those that are
//! open keep theirs, and a pair that does not work is reported and changes nothing.

use std::{
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig, pki_types::CertificateDer, server::WebPkiClientVerifier,
    sign::CertifiedKey,
};
use tokio_rustls::TlsAcceptor;
use x509_cert::{Certificate, der::Decode};

use crate::{
    observe::metrics::Metrics,
    pem,
    settings::TlsSettings,
    watch::{Content, Watched},
};

/// Days before the end of a certificate from which on it is told, once each.
const TOLD_DAYS: [u64; 6] = [30, 14, 7, 3, 1, 0];
const DAY: u64 = 86_400;
/// What `ring` signs with.
const UNSUPPORTED: &str = "a key of this kind cannot sign here; it takes RSA of 2048 to 4096 bits, ECDSA \
                           on P-256 or P-384, or Ed25519";

/// Why a set of files cannot serve.
#[derive(Debug, thiserror::Error)]
#[error("{name} {path}: {reason}")]
pub struct TlsError {
    name: &'static str,
    path: String,
    reason: String,
}

/// What HTTPS is served with.
pub struct Tls {
    settings: TlsSettings,
    serving: ArcSwap<Serving>,
}

struct Serving {
    config: Arc<ServerConfig>,
    /// Seconds since 1970 at which the first certificate of the chain ends; none: not readable.
    not_after: Option<u64>,
}

impl Tls {
    /// Reads the files, and follows them once [`follow`](Self::follow) is run.
    ///
    /// # Errors
    /// The file that cannot serve, and why.
    pub fn open(settings: TlsSettings, every: Duration) -> Result<(Arc<Self>, Watched), TlsError> {
        let paths = [&settings.cert, &settings.key]
            .into_iter()
            .chain(&settings.client_ca);
        let files = Watched::new(paths.cloned().collect(), every);
        let serving = ArcSwap::from_pointee(serving(&settings, files.contents())?);
        Ok((Arc::new(Self { settings, serving }), files))
    }

    /// Accepts connections with what serves now.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.serving.load().config.clone())
    }

    /// Takes over what the files hold whenever that changes, and tells when a certificate is about
    /// to end. Never ends.
    pub async fn follow(&self, mut files: Watched, metrics: Arc<Metrics>) {
        let mut told = None;
        let mut look = tokio::time::interval(Duration::from_hours(1));
        loop {
            tokio::select! {
                _ = look.tick() => {}
                contents = files.changed() => {
                    let taken = serving(&self.settings, contents);
                    metrics.tls_reloaded(taken.is_err());
                    match taken {
                        Ok(new) => {
                            self.serving.store(Arc::new(new));
                            told = None;
                            tracing::info!("new connections are served with the new certificate");
                        }
                        Err(error) => tracing::error!(
                            %error,
                            "the new TLS files are not taken; the relay goes on with those before"
                        ),
                    }
                }
            }
            if let Some(not_after) = self.serving.load().not_after {
                metrics.tls_not_after(not_after);
                told = tell_end(not_after, told);
            }
        }
    }
}

impl Tls {
    /// When the certificate that is served ends, in seconds since 1970.
    pub fn not_after(&self) -> Option<u64> {
        self.serving.load().not_after
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Logs what [`due`] says is due, and gives what was told last.
fn tell_end(not_after: u64, told: Option<u64>) -> Option<u64> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs());
    let Some(days) = due(not_after, now, told) else {
        return told;
    };
    let ends = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(not_after));
    if not_after <= now {
        tracing::error!(
            ends,
            "the TLS certificate has ended: clients refuse it; replace TLS_CERT"
        );
    } else {
        let days_left = (not_after - now) / DAY;
        tracing::warn!(ends, days_left, "the TLS certificate ends; replace it");
    }
    Some(days)
}

/// The threshold to be told of now, unless it was `told` before.
fn due(not_after: u64, now: u64, told: Option<u64>) -> Option<u64> {
    let left = not_after.saturating_sub(now);
    let reached = TOLD_DAYS.into_iter().filter(|days| left <= days * DAY);
    reached
        .min()
        .filter(|days| told.is_none_or(|told| *days < told))
}

fn serving(settings: &TlsSettings, contents: &[Content]) -> Result<Serving, TlsError> {
    let [cert, key, client_ca @ ..] = contents else {
        return Err(fault("TLS_CERT", &settings.cert, &"was not read"));
    };
    let of_cert = |error: &dyn fmt::Display| fault("TLS_CERT", &settings.cert, error);
    let chain = pem::certificates(content("TLS_CERT", &settings.cert, cert)?);
    let chain = chain.map_err(|error| of_cert(&error))?;
    let not_after = chain.iter().filter_map(not_after).min();
    let key = content("TLS_KEY", &settings.key, key)?;
    let key = pem::private_key(key).map_err(|error| fault("TLS_KEY", &settings.key, &error))?;
    // 1.2 and 1.3 are all that rustls knows.
    let builder = ServerConfig::builder();
    let provider = builder.crypto_provider().key_provider;
    let signing = provider.load_private_key(key.clone_key());
    let signing = signing.map_err(|_| fault("TLS_KEY", &settings.key, &UNSUPPORTED))?;
    let is_of = |certificate: &CertificateDer<'static>| {
        let alone = CertifiedKey::new(vec![certificate.clone()], signing.clone());
        !matches!(alone.keys_match(), Err(rustls::Error::InconsistentKeys(_)))
    };
    let builder = match (&settings.client_ca, client_ca.first()) {
        (Some(path), Some(ca)) => {
            let of_ca = |error: &dyn fmt::Display| fault("TLS_CLIENT_CA", path, error);
            let ca = content("TLS_CLIENT_CA", path, ca)?;
            let mut roots = RootCertStore::empty();
            for certificate in pem::authorities(ca).map_err(|error| of_ca(&error))? {
                roots.add(certificate).map_err(|error| of_ca(&error))?;
            }
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
                .build()
                .map_err(|error| of_ca(&error))?;
            builder.with_client_cert_verifier(verifier)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(chain.clone(), key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) if chain.iter().any(is_of) => of_cert(
                &"its chain is in the wrong order: the server's own certificate comes first, then \
                  the one that issued it, and so on",
            ),
            rustls::Error::InconsistentKeys(_) => fault(
                "TLS_KEY",
                &settings.key,
                &"it is not the key of the certificate in TLS_CERT",
            ),
            error => of_cert(&error),
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Serving {
        config: Arc::new(config),
        not_after,
    })
}

fn not_after(certificate: &CertificateDer<'static>) -> Option<u64> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let end = certificate.tbs_certificate().validity().not_after;
    Some(end.to_unix_duration().as_secs())
}

fn content<'a>(name: &'static str, path: &Path, held: &'a Content) -> Result<&'a [u8], TlsError> {
    let held = held.as_deref();
    held.map_err(|error| {
        fault(
            name,
            path,
            &format!("{error}; it takes a readable PEM file"),
        )
    })
}

fn fault(name: &'static str, path: &Path, reason: &dyn fmt::Display) -> TlsError {
    TlsError {
        name,
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_once_at_each_threshold() {
        let end = 100 * DAY;
        let mut told = None;
        let mut days = Vec::new();
        for hour in 0..=101 * 24 {
            if let Some(due) = due(end, hour * 3_600, told) {
                told = Some(due);
                days.push((due, hour / 24));
            }
        }
        let at = [(30, 70), (14, 86), (7, 93), (3, 97), (1, 99), (0, 100)];
        assert_eq!(days, at);
        // A relay that starts late tells the nearest one alone.
        assert_eq!(due(end, 98 * DAY, None), Some(3));
        assert_eq!(due(end, 200 * DAY, None), Some(0));
    }
}
