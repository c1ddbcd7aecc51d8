//! What is wrong with TLS on the way to a server: found inside whatever a client wraps it in, as each
//! has a cure of its own (`check` knows them). Pure.

use std::{error::Error, io, sync::Arc};

use rustls::{AlertDescription, CertificateError};

use crate::observe::chain;

/// Why there is no TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// No authority that is trusted has signed the certificate.
    UnknownIssuer,
    /// The certificate is another host's.
    OtherHost,
    /// It has ended.
    Expired,
    /// It has not begun.
    NotYetValid,
    /// It is an authority's own, which no server may show as its.
    Authority,
    /// The server wants a certificate of the client.
    ClientCertificate,
    /// No version or cipher that both know.
    Version,
    /// What answers does not speak TLS.
    NoTls,
    /// Anything else.
    Other,
}

impl TlsFault {
    /// The fault inside of an error, if TLS is what failed.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(Self::read(found));
            }
            // Wrapped once more, as these pass over themselves when asked for their source.
            let wrapped: Option<&(dyn Error + 'static)> =
                if let Some(shared) = error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
                    Some(&**shared)
                } else {
                    let io = error.downcast_ref::<io::Error>();
                    io.and_then(io::Error::get_ref).map(|inner| inner as _)
                };
            next = wrapped.or_else(|| error.source());
        }
        // Over HTTP/2, its words are all that is handed on of what comes behind the handshake.
        let wanted = chain(error).contains("alert: CertificateRequired");
        wanted.then_some(Self::ClientCertificate)
    }

    fn read(error: &rustls::Error) -> Self {
        use rustls::Error as Tls;
        match error {
            Tls::InvalidCertificate(certificate) => Self::of_certificate(certificate),
            Tls::AlertReceived(AlertDescription::CertificateRequired) => Self::ClientCertificate,
            Tls::AlertReceived(
                AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure,
            )
            | Tls::PeerIncompatible(_) => Self::Version,
            Tls::InvalidMessage(_) => Self::NoTls,
            _ => Self::Other,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::OtherHost
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            // The verifier's own word, of a type that rustls does not hand on.
            CertificateError::Other(other) if other.0.to_string() == "CaUsedAsEndEntity" => {
                Self::Authority
            }
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_found_however_it_is_wrapped() {
        let tls = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let io = || io::Error::new(io::ErrorKind::InvalidData, tls());
        assert_eq!(TlsFault::of(&tls()), Some(TlsFault::UnknownIssuer));
        assert_eq!(TlsFault::of(&io()), Some(TlsFault::UnknownIssuer));
        let twice = io::Error::other(io());
        assert_eq!(TlsFault::of(&twice), Some(TlsFault::UnknownIssuer));
        let of_redis = redis::RedisError::from(io());
        assert_eq!(TlsFault::of(&of_redis), Some(TlsFault::UnknownIssuer));
        let none = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(TlsFault::of(&none), None);
    }
}
