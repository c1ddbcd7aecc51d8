//! PEM files that settings name, read for what they are to hold.
//!
//! What is wrong with one is told in words of our own: those of the libraries quote the file, and
//! whatever the setting is to name, the file may be a private key.

use std::borrow::Cow;

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{Error, PemObject},
    },
};

/// What some editors put in front of a text. The line behind it would not be read, and so a
/// certificate be missing without a word.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// All certificates of a file; at least one.
///
/// # Errors
/// What is wrong with it, and what helps.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = &*plain(text);
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(reason(text, &Error::NoItemsFound, "certificate")),
        Err(error) => Err(reason(text, &error, "certificate")),
    }
}

/// All certificates of a file, each of which can be an authority's.
///
/// # Errors
/// What is wrong with it, and what helps.
pub fn authorities(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = certificates(text)?;
    let mut roots = RootCertStore::empty();
    for (number, certificate) in (1..).zip(&found) {
        let added = roots.add(certificate.clone());
        added.map_err(|error| format!("certificate {number} in it cannot be used: {error}"))?;
    }
    Ok(found)
}

/// The first private key of a file.
///
/// # Errors
/// What is wrong with it, and what helps.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let text = &*plain(text);
    PrivateKeyDer::from_pem_slice(text).map_err(|error| reason(text, &error, "private key"))
}

/// The text without byte order marks, wherever files were joined: for libraries that read it.
pub fn plain(text: &[u8]) -> Cow<'_, [u8]> {
    let is_mark = |bytes: &[u8]| bytes == BYTE_ORDER_MARK;
    if !text.windows(BYTE_ORDER_MARK.len()).any(is_mark) {
        return Cow::Borrowed(text);
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        rest = rest.strip_prefix(BYTE_ORDER_MARK).unwrap_or_else(|| {
            plain.push(*first);
            behind
        });
    }
    Cow::Owned(plain)
}

/// What is wrong with a text that lacks `wanted`, without a character of it.
fn reason(text: &[u8], error: &Error, wanted: &str) -> String {
    let text = &*String::from_utf8_lossy(text);
    if text.trim().is_empty() {
        return "it is empty".into();
    }
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
    {
        return "its private key is encrypted, and there is nobody to ask for the passphrase; store it \
                unencrypted (`openssl pkey -in <it> -out <plain>`), readable for the relay alone"
            .into();
    }
    if let Some(odd) = text.split(['\n', '\r']).find_map(oddity) {
        return odd.into();
    }
    match error {
        Error::Base64Decode(_) => {
            "what stands between its lines BEGIN and END is not base64: is it damaged?".into()
        }
        Error::NoItemsFound if text.contains(BEGIN) => {
            let other = match (wanted, text.contains("PRIVATE KEY-----")) {
                ("certificate", true) => ": it is a key",
                ("private key", false) if text.contains("CERTIFICATE-----") => {
                    ": it is a certificate"
                }
                _ => "",
            };
            format!("it holds no {wanted}{other}")
        }
        Error::NoItemsFound => {
            format!("it is not PEM: there is no line `-----BEGIN …-----`, so it holds no {wanted}")
        }
        _ => "it is cut short: a line `-----BEGIN …-----` has no line `-----END …-----`".into(),
    }
}

/// What is odd about a line that is to begin a section.
fn oddity(line: &str) -> Option<&'static str> {
    let (before, label) = line.split_once(BEGIN)?;
    match label.split_once(DASHES) {
        Some((_, behind)) if !behind.trim().is_empty() => Some(
            "it is not PEM: its line breaks are missing; the lines BEGIN and END each stand alone, as \
             they were issued",
        ),
        _ if !before.is_empty() => {
            Some("it is not PEM: there is something before `-----BEGIN`, which begins its line")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// The bytes of a text as a debugger shows them, and the text itself.
    fn quotes(said: &str, secret: &str) -> bool {
        let line = secret.lines().nth(1).unwrap();
        let bytes = format!("{:?}", &line.as_bytes()[..4]);
        said.contains(&line[..6]) || said.contains(bytes.trim_matches(['[', ']']))
    }

    #[test]
    fn what_is_wrong_is_told_without_a_byte_of_it() {
        let (certificate, key) = pair();
        let sealed = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let sealed_of_old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
                             DEK-Info: AES-128-CBC,AB\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        let cut = &key[..key.len() / 2];
        for (text, wrong) in [
            (key.replace('\n', " "), "its line breaks are missing"),
            (key.replace('\n', ""), "its line breaks are missing"),
            (key.replace('\n', "\\n"), "its line breaks are missing"),
            (
                format!("{certificate}{}", key.replace('\n', " ")),
                "its line breaks are missing",
            ),
            (
                key.replace("-----BEGIN", "  -----BEGIN"),
                "something before",
            ),
            (format!("\"{key}\""), "something before"),
            (sealed, "is encrypted"),
            (sealed_of_old.to_owned(), "is encrypted"),
            (cut.to_owned(), "cut short"),
            (
                key.replace("PRIVATE KEY-----\n", "PRIVATE KEY-----\n~"),
                "not base64",
            ),
            (key.replace("KEY-----", "KEY"), "cut short"),
            (" \n".to_owned(), "is empty"),
            ("no PEM".to_owned(), "it is not PEM"),
        ] {
            let read = [
                certificates(text.as_bytes()).err(),
                authorities(text.as_bytes()).err(),
                private_key(text.as_bytes()).err(),
            ];
            for said in read.into_iter().flatten() {
                assert!(said.contains(wrong), "{said}, not {wrong}: {text}");
                assert!(!quotes(&said, &key), "{said}");
            }
        }
        let said = certificates(key.as_bytes()).unwrap_err();
        assert!(said.contains("no certificate: it is a key"), "{said}");
        let said = private_key(certificate.as_bytes()).unwrap_err();
        assert!(
            said.contains("no private key: it is a certificate"),
            "{said}"
        );
        let odd = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let said = authorities(format!("{certificate}{odd}").as_bytes()).unwrap_err();
        assert!(said.contains("certificate 2 in it"), "{said}");
    }

    #[test]
    fn byte_order_marks_hide_nothing() {
        let ((one, key), (two, _)) = (pair(), pair());
        let joined = format!("\u{feff}{one}\u{feff}{two}");
        assert_eq!(certificates(joined.as_bytes()).unwrap().len(), 2);
        assert_eq!(plain(joined.as_bytes()), format!("{one}{two}").as_bytes());
        private_key(format!("\u{feff}{key}").as_bytes()).unwrap();
    }
}
