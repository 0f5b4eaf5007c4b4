//! Who is trusted behind `https://`: the authorities of the web, or those of a PEM text instead.

use perf_core::InvalidConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What a certificate file must hold.
const ALLOWED: &str = "certificates of authorities, as PEM";

/// Makes a connection to one host secure.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
    host: ServerName<'static>,
}

impl Tls {
    /// Trusts the authorities that Mozilla does, as of the release of `webpki-roots`, to vouch for `host`; `None` when this
    /// cannot be the name of a host.
    pub(crate) fn to(host: &str) -> Option<Self> {
        let host = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).ok()?;
        let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        Some(Self { connector: connector(roots).ok()?, host })
    }

    /// Trusts the authorities of a PEM text, and nobody else.
    pub(crate) fn trust_only(&mut self, pem: &[u8]) -> Result<(), InvalidConfig> {
        let refused = |why: String| InvalidConfig::new("authorities", why, ALLOWED);
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| refused(error.to_string()))?;
            roots.add(certificate).map_err(|error| refused(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(refused("no certificate".to_owned()));
        }
        self.connector = connector(roots).map_err(|error| refused(error.to_string()))?;
        Ok(())
    }

    pub(crate) async fn connect(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.host.clone(), stream).await
    }
}

/// Reads the file of a configuration's field `authorities`.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, InvalidConfig> {
    let refused = |error| InvalidConfig::new("authorities", format!("{} ({error})", path.display()), ALLOWED);
    std::fs::read(path).map_err(refused)
}

fn connector(roots: RootCertStore) -> Result<TlsConnector, rustls::Error> {
    // Named, because a process may have two providers and no default.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("host", &self.host).finish_non_exhaustive()
    }
}
