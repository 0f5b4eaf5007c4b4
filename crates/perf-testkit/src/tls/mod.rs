//! A certificate for `localhost`, good until 2120, by an authority whose key was thrown away.

use crate::ServerError;
use std::io;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

pub(crate) const CA_PEM: &str = include_str!("ca.pem");

pub(crate) fn acceptor() -> Result<TlsAcceptor, ServerError> {
    config().map_err(ServerError::io(|| "could not use the certificate for localhost"))
}

fn config() -> io::Result<TlsAcceptor> {
    let not_pem = |error: pem::Error| io::Error::new(io::ErrorKind::InvalidData, error);
    let refused = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error);
    let certificate = CertificateDer::from_pem_slice(include_bytes!("localhost.pem")).map_err(not_pem)?;
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("localhost-key.pem")).map_err(not_pem)?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key))
        .map_err(refused)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
