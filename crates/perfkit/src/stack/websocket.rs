use super::{Stack, StackError};
use perf_pool::websocket::{Protocol, Tls, WebSocketPool};
use std::sync::{Arc, PoisonError};

impl Stack {
    /// The pool of WebSocket connections that the section `websockets.NAME` describes, speaking `protocol`. It connects when
    /// something is first asked of it, and is closed with the stack.
    ///
    /// # Errors
    /// [`StackError::NoWebSocket`] when there is no such section, [`StackError::Authorities`] when its file cannot be read,
    /// [`StackError::Duplicate`] when the pool has been made already.
    pub fn websocket(&self, name: &str, protocol: impl Protocol) -> Result<WebSocketPool, StackError> {
        let known = &self.config.websockets;
        let config = known.get(name).ok_or_else(|| StackError::NoWebSocket {
            websocket: name.to_owned(),
            known: known.keys().cloned().collect::<Vec<_>>().join(", "),
        })?;
        let mut tls = if config.web_roots { Tls::new() } else { Tls::without_roots() };
        if let Some(path) = &config.ca_file {
            let pem = std::fs::read(path)
                .map_err(|source| StackError::Authorities { path: path.clone(), source })?;
            tls =
                tls.trust(pem).map_err(|error| error.within("ca_file").within(name).within("websockets"))?;
        }
        let pool = WebSocketPool::builder(config.urls(), protocol)
            .name(name.to_owned())
            .config(config.pool.clone())
            .connect(config.connector()?.tls(tls))
            .balance(config.strategy.balance())
            .build()?;
        self.register(Arc::new(pool.clone()))?;
        self.websockets.lock().unwrap_or_else(PoisonError::into_inner).push(pool.clone());
        Ok(pool)
    }
}
