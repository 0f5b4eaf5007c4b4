//! A server that answers by a law, on a thread of its own. It shares no code with the client it tests but the timer.

use crate::Error;
use crate::engine::Pacer;
use crate::http::Target;
use crate::plan::Pacing;
use perf_core::time::{self, Duration, Instant};
use std::net::TcpListener as StdListener;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    /// When it is answered; `None` is never.
    pub(super) at: Option<Instant>,
    pub(super) status: u16,
}

/// Decides on each request in the order of their arrival, from the time since the first.
pub(super) type Law = Box<dyn FnMut(Instant, Duration) -> Fate + Send>;

/// A running server; it stops when this is dropped.
#[derive(Debug)]
pub(super) struct KnownServer {
    target: Target,
    _stop: oneshot::Sender<()>,
}

/// A request's head longer than this is none of ours.
const MAX_REQUEST: usize = 16 * 1024;

impl KnownServer {
    pub(super) fn start(law: Law) -> Result<Self, Error> {
        let refused = |error: std::io::Error| Error::Generator(format!("cannot start a server: {error}"));
        let listener = StdListener::bind(("127.0.0.1", 0)).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let target = format!("http://{}", listener.local_addr().map_err(refused)?).parse()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(refused)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, law) => {}
                    _ = stopped => {}
                }
            });
        };
        std::thread::Builder::new().name("perf-load-known".to_owned()).spawn(serve).map_err(refused)?;
        Ok(Self { target, _stop: stop })
    }

    pub(super) const fn target(&self) -> &Target {
        &self.target
    }
}

struct Shared {
    law: Law,
    first: Option<Instant>,
}

async fn accept(listener: StdListener, law: Law) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let shared = Arc::new(Mutex::new(Shared { law, first: None }));
    let mut serving = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    serving.spawn(serve(stream, Arc::clone(&shared)));
                }
            }
            Some(_) = serving.join_next() => {}
        }
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Mutex<Shared>>) {
    let mut pacer = Pacer::new(Pacing::Precise);
    let mut input = Vec::new();
    // Small answers must not wait; a failure only makes the server slower, which the case then shows.
    let _ = stream.set_nodelay(true);
    loop {
        input.clear();
        while !input.ends_with(b"\r\n\r\n") {
            match stream.read_buf(&mut input).await {
                Ok(read) if read > 0 && input.len() <= MAX_REQUEST => {}
                _ => return,
            }
        }
        let fate = decide(&shared);
        match fate.at {
            Some(at) => pacer.wait_until(at).await,
            None => std::future::pending().await,
        };
        let answer = format!("HTTP/1.1 {} x\r\ncontent-length: 13\r\n\r\nHello, World!", fate.status);
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn decide(shared: &Mutex<Shared>) -> Fate {
    let now = time::now();
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let first = *shared.first.get_or_insert(now);
    (shared.law)(now, now - first)
}
