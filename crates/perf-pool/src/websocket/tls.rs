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
    roots: Arc<RootCertStore>,
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

    /// Everything by a configuration of one's own: certificates of the client, for example.
    #[must_use]
    pub fn custom(config: Arc<ClientConfig>) -> Self {
        let this = Self::without_roots();
        // It has only just been made, and is empty.
        let _ = this.config.set(Ok(config));
        this
    }

    /// Trusts the authorities of a PEM text as well.
    ///
    /// # Errors
    /// [`InvalidConfig`] for a text without a certificate, or with one that cannot be used.
    pub fn trust(self, pem: impl AsRef<[u8]>) -> Result<Self, InvalidConfig> {
        let bad = |what: String| InvalidConfig::new("trust", what, "certificates of authorities, as PEM");
        let mut roots = Arc::unwrap_or_clone(self.roots);
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
        Self { roots: Arc::new(roots), config: Arc::default() }
    }

    pub(super) fn connector(&self) -> Result<TlsConnector, rustls::Error> {
        let config = self.config.get_or_init(|| {
            // Named, because a process may have two providers and no default.
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(Arc::clone(&self.roots))
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
        f.debug_struct("Tls").field("roots", &self.roots.len()).finish_non_exhaustive()
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
