//! What the pool asks of whoever makes its connections.

use std::error::Error;
use std::future::Future;

/// How a connection came back from its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// As good as it was: the next user gets it as it is.
    Clean,
    /// Usable after [`Manager::reset`]: an open transaction, a reply that was not read, a future dropped half-way.
    Dirty,
    /// Dead. It is closed, and every older idle connection is checked before it is used again.
    Broken,
}

/// Makes connections, tells whether they live, and puts them in order between users.
///
/// Implementors write `async fn`. All of it is called by tasks that the pool owns, never by a caller who waits, except
/// [`condition`](Manager::condition), which is called when a lease is dropped. A panic in any method costs the
/// connection it was about and nothing else.
///
/// ```
/// use perf_pool::Manager;
///
/// struct Numbers(std::sync::atomic::AtomicU32);
///
/// impl Manager for Numbers {
///     type Connection = u32;
///     type Error = std::io::Error;
///
///     async fn connect(&self) -> Result<u32, std::io::Error> {
///         Ok(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
///     }
///
///     async fn check(&self, _: &mut u32) -> Result<(), std::io::Error> {
///         Ok(())
///     }
/// }
/// ```
pub trait Manager: Send + Sync + 'static {
    /// What is pooled.
    type Connection: Send + 'static;

    /// Why a connection could not be made, checked or reset.
    type Error: Error + Send + Sync + 'static;

    /// Makes a connection, ready for use. The pool bounds it by `connect_timeout`.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// Asks a connection whether it lives: one round trip at most. The pool bounds it by `check_timeout`.
    fn check(
        &self,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Looks at a connection that comes back. Must not block or wait; clean unless said otherwise.
    fn condition(&self, connection: &mut Self::Connection) -> Condition {
        let _ = connection;
        Condition::Clean
    }

    /// Puts a dirty connection in order, a check unless said otherwise. The pool bounds it by `check_timeout`.
    fn reset(
        &self,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.check(connection)
    }

    /// Says good-bye to a connection. The pool bounds it by `close_timeout`; dropping it is the default.
    fn close(&self, connection: Self::Connection) -> impl Future<Output = ()> + Send {
        async move { drop(connection) }
    }

    /// Whether trying again cannot help (a wrong password, an unknown database): then waiters fail at once.
    fn is_permanent(&self, error: &Self::Error) -> bool {
        let _ = error;
        false
    }
}
