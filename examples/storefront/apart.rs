//! A thread for what talks to the database, apart from those that talk to users.
//!
//! A page that is read takes several statements, and after each its task has to be scheduled again. Among hundreds of ready
//! connections every such turn waits for all the others, while the database waits for its next statement.

use crate::shop::ShopError;
use std::future::Future;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The thread. It ends with the last work on it once this is dropped.
pub struct Apart {
    runtime: Handle,
    _stop: oneshot::Sender<()>,
}

impl Apart {
    /// Starts it.
    pub fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::Builder::new().name("database".to_owned()).spawn(move || {
            // An error is the sender's end, which is what is waited for.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self { runtime: handle, _stop: stop })
    }

    /// Runs something there, to its end even if nobody waits for it any more.
    pub async fn run<T, F>(&self, work: F) -> Result<T, ShopError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ShopError>> + Send + 'static,
    {
        let done = self.runtime.spawn(work).await;
        done.map_err(|_| ShopError::Unavailable("the work was cut off".to_owned()))?
    }

    /// Starts something there that ends by itself.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(work));
    }
}
