use super::{Stack, StackError};
use axum::Router;
use perf_core::time;
use perf_http::Serving;
use std::net::SocketAddr;

/// How a stack ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// Whether requests were cut off because they took longer than the configured time.
    pub cut_off: bool,
    /// Databases whose connections were not all given back, and how many were missing.
    pub unreturned: Vec<(String, usize)>,
}

impl CloseReport {
    /// Whether everything ended by itself.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        !self.cut_off && self.unreturned.is_empty()
    }
}

impl Stack {
    /// Serves `router` until Ctrl-C or SIGTERM, and ends gracefully: see [`Stack::shut_down`].
    ///
    /// # Errors
    /// [`StackError`] when the address cannot be listened on, or signals cannot be watched.
    pub async fn run(self, address: SocketAddr, router: Router) -> Result<CloseReport, StackError> {
        let mut signals = Signals::new().map_err(StackError::Signals)?;
        let serving = self.serve(address, router).await?;
        signals.first().await;
        Ok(self.shut_down(serving).await)
    }

    /// Ends in the order that loses nothing: says that the service is not ready, serves on for the configured delay, stops
    /// accepting, lets requests under way end, then closes pools and the management listener.
    ///
    /// Bounded by `shutdown.drain_delay`, and by `shutdown.timeout` for requests, for each database and for the WebSocket
    /// pools together.
    ///
    /// # Cancel safety
    /// Dropping the future ends everything at once.
    pub async fn shut_down(self, serving: Serving) -> CloseReport {
        let limits = self.config.shutdown.clone();
        self.health.drain();
        time::sleep(limits.drain_delay).await;
        let ended = serving.shutdown(limits.timeout).await;
        CloseReport { cut_off: !ended, ..self.close().await }
    }

    /// Closes pools and the management listener of a stack that serves nothing.
    ///
    /// # Cancel safety
    /// Dropping the future ends everything at once.
    pub async fn close(self) -> CloseReport {
        self.health.drain();
        #[cfg(feature = "snapshots")]
        self.backups.end().await;
        let mut report = CloseReport::default();
        for (name, opened) in &self.databases {
            // The pool may be configured to wait longer than the stack: what is out when the stack's time ends is missing.
            match time::timeout(self.config.shutdown.timeout, (opened.close)()).await {
                Ok(0) => {}
                Ok(missing) => report.unreturned.push((name.clone(), missing)),
                Err(_) => report.unreturned.push((name.clone(), (opened.leased)())),
            }
        }
        #[cfg(feature = "websocket")]
        close_all(self.websockets.into_inner(), self.config.shutdown.timeout).await;
        if let Some(management) = self.management {
            management.shutdown().await;
        }
        #[cfg(feature = "otlp")]
        if let Some((_, task)) = self.otlp {
            // What the collector does not take is gone with the process, and holds up its end no longer than this.
            let _ = time::timeout(self.config.shutdown.timeout, task.shutdown()).await;
        }
        self.health.stop();
        report
    }
}

/// Closes WebSocket pools, all at once: each is closed from the moment it is asked, what follows are good manners.
#[cfg(feature = "websocket")]
async fn close_all(
    pools: std::sync::LockResult<Vec<perf_pool::websocket::WebSocketPool>>,
    limit: std::time::Duration,
) {
    let pools = pools.unwrap_or_else(std::sync::PoisonError::into_inner);
    let closing: Vec<_> = pools.iter().map(perf_pool::websocket::WebSocketPool::close).collect();
    let all = async {
        for pool in closing {
            pool.await;
        }
    };
    let _ = time::timeout(limit, all).await;
}

/// Ctrl-C, and SIGTERM where there is such a thing.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    #[cfg(unix)]
    async fn first(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    #[cfg(not(unix))]
    fn new() -> std::io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn first(&mut self) {
        // Where the signal cannot be watched, there is nothing to wait for.
        let _ = tokio::signal::ctrl_c().await;
    }
}
