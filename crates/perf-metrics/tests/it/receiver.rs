//! An HTTP server in this process that answers as it is told and remembers what came.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Came {
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// What the server does with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Status(u16),
    /// Never answers.
    Silence,
    /// Answers, and closes the connection.
    Close,
}

#[derive(Default)]
struct Seen {
    came: Vec<Came>,
    connections: usize,
    script: VecDeque<Answer>,
}

/// The server; it stops with the runtime.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Receiver {
    /// Answers as `script` says, then always with 200.
    pub(crate) async fn start(script: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen { script: script.into_iter().collect(), ..Seen::default() }));
        let receiver = Self { address, seen };
        let serving = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.seen.lock().unwrap().connections += 1;
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        receiver
    }

    /// The same under TLS, as `localhost`, by the authority of `tests/tls/ca.pem`, whose key nobody has.
    #[cfg(all(feature = "tls", feature = "webhook", feature = "otlp"))]
    pub(crate) async fn start_tls() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let (serving, acceptor) = (receiver.clone(), acceptor());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.seen.lock().unwrap().connections += 1;
                // Who does not trust the certificate hangs up in the handshake.
                if let Ok(stream) = acceptor.accept(stream).await {
                    tokio::spawn(serving.clone().serve(stream));
                }
            }
        });
        receiver
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn came(&self) -> Vec<Came> {
        self.seen.lock().unwrap().came.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// Waits until so many requests have come.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Came> {
        for _ in 0..1_000 {
            let came = self.came();
            if came.len() >= count {
                return came;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("only {} of {count} requests came", self.came().len());
    }

    async fn serve(self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { return };
                head.push(byte);
            }
            let head = String::from_utf8(head).unwrap();
            let field = |name: &str| {
                head.lines().find_map(|line| {
                    let (key, value) = line.split_once(':')?;
                    key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
                })
            };
            let mut body = vec![0; field("content-length").unwrap().parse().unwrap()];
            stream.read_exact(&mut body).await.unwrap();
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let answer = {
                let mut seen = self.seen.lock().unwrap();
                seen.came.push(Came { path, head, body });
                seen.script.pop_front().unwrap_or(Answer::Status(200))
            };
            let status = match answer {
                Answer::Silence => std::future::pending().await,
                Answer::Status(status) => status,
                Answer::Close => 200,
            };
            let text = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\n\x0a\x00");
            stream.write_all(text.as_bytes()).await.unwrap();
            if matches!(answer, Answer::Close) {
                return;
            }
        }
    }
}

#[cfg(all(feature = "tls", feature = "webhook", feature = "otlp"))]
fn acceptor() -> tokio_rustls::TlsAcceptor {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let certificate = CertificateDer::from_pem_slice(include_bytes!("../tls/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../tls/server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}
