//! An authority of a test's own, and a certificate of it.

use std::{fs, io, path::PathBuf, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// Files of an authority and of a certificate for `localhost` and 127.0.0.1 that it signed; there until
/// the last clone goes.
#[derive(Clone, Debug)]
pub struct Authority {
    /// The authority's certificate, which clients are to trust.
    pub authority: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// The server's key.
    pub key: PathBuf,
    _folder: Arc<TempDir>,
}

impl Authority {
    /// Makes both, as PEM files in a temporary folder.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn new() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("ff-tls-").tempdir()?;
        let other = |error: rcgen::Error| io::Error::other(error);
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority of a test");
        let authority_key = KeyPair::generate().map_err(other)?;
        let authority = params.self_signed(&authority_key).map_err(other)?;
        let issuer = Issuer::new(params, authority_key);
        let key = KeyPair::generate().map_err(other)?;
        let certificate = CertificateParams::new(names).map_err(other)?;
        let certificate = certificate.signed_by(&key, &issuer).map_err(other)?;
        let files = Self {
            authority: folder.path().join("authority.pem"),
            certificate: folder.path().join("certificate.pem"),
            key: folder.path().join("key.pem"),
            _folder: Arc::new(folder),
        };
        fs::write(&files.authority, authority.pem())?;
        fs::write(&files.certificate, certificate.pem())?;
        fs::write(&files.key, key.serialize_pem())?;
        Ok(files)
    }
}
