//! HTTPS from PEM files: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.

use std::{path::Path, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

use super::RunError;
use crate::settings::TlsSettings;

pub(super) fn acceptor(settings: &TlsSettings) -> Result<TlsAcceptor, RunError> {
    let certificates = certificates("TLS_CERT", &settings.cert)?;
    let key = PrivateKeyDer::from_pem_file(&settings.key)
        .map_err(|error| fault("TLS_KEY", &settings.key, &error))?;
    let builder = ServerConfig::builder();
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in self::certificates("TLS_CLIENT_CA", path)? {
                roots
                    .add(certificate)
                    .map_err(|error| fault("TLS_CLIENT_CA", path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
                .build()
                .map_err(|error| fault("TLS_CLIENT_CA", path, &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(certificates, key)
        .map_err(|error| fault("TLS_CERT", &settings.cert, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(name: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, RunError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| fault(name, path, &error))?
        .collect();
    let certificates = certificates.map_err(|error| fault(name, path, &error))?;
    if certificates.is_empty() {
        return Err(RunError::Tls(format!(
            "{name} {}: it holds no certificate",
            path.display()
        )));
    }
    Ok(certificates)
}

fn fault(name: &str, path: &Path, error: &dyn std::fmt::Display) -> RunError {
    RunError::Tls(format!(
        "{name} {}: {error}; it takes a readable PEM file",
        path.display()
    ))
}
