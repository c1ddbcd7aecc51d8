//! Authorities and certificates, made on the spot.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    missing_docs,
    unreachable_pub
)]

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// An authority.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, both as PEM.
pub struct Pair {
    pub cert: String,
    pub key: String,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for hosts, good for servers and clients.
    pub fn issue(&self, hosts: &[&str], (year, month, day): (i32, u8, u8)) -> Pair {
        self.sign(hosts, |params| {
            params.not_after = rcgen::date_time_ymd(year, month, day);
        })
    }

    /// One that ends at a moment.
    pub fn issue_until(&self, hosts: &[&str], end: SystemTime) -> Pair {
        self.sign(hosts, |params| params.not_after = end.into())
    }

    fn sign(&self, hosts: &[&str], set: impl FnOnce(&mut CertificateParams)) -> Pair {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        set(&mut params);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair {
            cert: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Pair {
    /// Writes both files into a folder, each replaced at once.
    pub fn write(&self, folder: &Path) -> (PathBuf, PathBuf) {
        let put = |name: &str, text: &str| {
            let (part, path) = (folder.join(format!("{name}.part")), folder.join(name));
            std::fs::write(&part, text).unwrap();
            std::fs::rename(part, &path).unwrap();
            path
        };
        (put("tls.crt", &self.cert), put("tls.key", &self.key))
    }

    pub fn identity(&self) -> reqwest::Identity {
        reqwest::Identity::from_pem(format!("{}{}", self.key, self.cert).as_bytes()).unwrap()
    }
}
