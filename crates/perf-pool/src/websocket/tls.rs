//! Who is trusted behind `wss://`: rustls, with the authorities of the web, others, or both.

use perf_core::InvalidConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use tokio_rustls::TlsConnector;

/// Who is trusted behind `wss://`.
///
/// ```
/// use perf_pool::websocket::{Tls, Tungstenite};
///
/// let error = Tls::without_roots().trust("no certificate").unwrap_err();
/// assert!(error.to_string().contains("trust"));
/// let connect = Tungstenite::new().tls(Tls::new()); // what is trusted without a word
/// # drop(connect);
/// ```
#[derive(Clone)]
pub struct Tls {
    /// None where a configuration of the host's own decides.
    roots: Option<Arc<RootCertStore>>,
    /// Made once, so that a connection made again takes up the session of the one before.
    config: Arc<OnceLock<Result<Arc<ClientConfig>, rustls::Error>>>,
}

impl Tls {
    /// The authorities that Mozilla trusts, as of the release of `webpki-roots`.
    #[must_use]
    pub fn new() -> Self {
        Self::of(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect())
    }

    /// Nobody, but for whom is trusted next.
    #[must_use]
    pub fn without_roots() -> Self {
        Self::of(RootCertStore::empty())
    }

    /// Everything by a configuration of one's own, of the crate `rustls`: certificates of the client, for example.
    #[must_use]
    pub fn custom(config: Arc<ClientConfig>) -> Self {
        Self { roots: None, config: Arc::new(OnceLock::from(Ok(config))) }
    }

    /// Trusts the authorities of a PEM text as well.
    ///
    /// # Errors
    /// [`InvalidConfig`] for a text without a certificate, or with one that cannot be used, and after
    /// [`custom`](Self::custom), which says itself who is trusted.
    pub fn trust(self, pem: impl AsRef<[u8]>) -> Result<Self, InvalidConfig> {
        let bad = |what: String| InvalidConfig::new("trust", what, "certificates of authorities, as PEM");
        let roots = self.roots.ok_or_else(|| {
            InvalidConfig::new("trust", "after `custom`", "authorities in the custom configuration itself")
        })?;
        let mut roots = Arc::unwrap_or_clone(roots);
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem.as_ref()) {
            let certificate = certificate.map_err(|error| bad(error.to_string()))?;
            roots.add(certificate).map_err(|error| bad(error.to_string()))?;
        }
        if roots.len() == before {
            return Err(bad("no certificate".to_owned()));
        }
        Ok(Self::of(roots))
    }

    fn of(roots: RootCertStore) -> Self {
        Self { roots: Some(Arc::new(roots)), config: Arc::default() }
    }

    pub(super) fn connector(&self) -> Result<TlsConnector, rustls::Error> {
        let config = self.config.get_or_init(|| {
            let roots = self.roots.clone().unwrap_or_else(|| Arc::new(RootCertStore::empty()));
            // Named, because a process may have two providers and no default.
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth();
            Ok(Arc::new(config))
        });
        config.clone().map(TlsConnector::from)
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("roots", &self.roots.as_ref().map(|roots| roots.len()))
            .finish_non_exhaustive()
    }
}

/// Whether a failed handshake was about a certificate that will not become better by waiting. One that has expired may be
/// renewed at any moment, and a clock may be set.
pub(super) fn is_permanent(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(reason)) = inner else { return false };
    !matches!(
        reason,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
            | CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. }
            | CertificateError::UnknownRevocationStatus
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reason: CertificateError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, rustls::Error::InvalidCertificate(reason))
    }

    #[test]
    fn s4_tls_what_a_renewal_or_a_clock_can_cure_is_tried_again_and_the_rest_is_not() {
        for reason in [CertificateError::Expired, CertificateError::NotValidYet] {
            assert!(!is_permanent(&refused(reason)));
        }
        for reason in [CertificateError::UnknownIssuer, CertificateError::NotValidForName] {
            assert!(is_permanent(&refused(reason)));
        }
        assert!(!is_permanent(&io::Error::from(io::ErrorKind::UnexpectedEof)), "cut in mid-handshake");
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::InternalError);
        assert!(!is_permanent(&io::Error::new(io::ErrorKind::InvalidData, alert)), "the server is ill");
    }
}
