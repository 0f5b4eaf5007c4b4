use super::Redis;
use super::connection::is_fatal;
use crate::error::Error;
use crate::pool::{Lease, Pool};
use perf_core::Deadline;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, Pipeline, RedisFuture, RedisResult, Value};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A few connections that everybody uses at the same time: commands of all callers travel together, and answers find
/// their way back. For everything but commands that block, watch, open a transaction or choose a database.
///
/// The connections are leases of a [`Pool`], so that it makes, checks and counts them.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use perf_pool::{Pool, Redis, RedisShared};
///
/// let pool = Pool::builder(Redis::new("redis://localhost")?).max(2).leak_after(None).build()?;
/// let shared = RedisShared::new(pool);
/// let mut connection = shared.get().await?;
/// let _: () = redis::cmd("INCR").arg("visits").query_async(&mut connection).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Shared {
    pool: Pool<Redis>,
    carriers: Arc<Mutex<Vec<Arc<Carrier>>>>,
    /// Held by whoever makes a connection.
    growing: Arc<tokio::sync::Mutex<()>>,
}

/// One connection, and how many use it.
struct Carrier {
    connection: MultiplexedConnection,
    /// Held for as long as anybody uses the connection.
    lease: Mutex<Option<Lease<Redis>>>,
    users: AtomicUsize,
    dead: AtomicBool,
}

impl Drop for Carrier {
    fn drop(&mut self) {
        let lease = self.lease.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = lease
            && *self.dead.get_mut()
        {
            lease.break_off();
        }
    }
}

impl Shared {
    /// Shares the connections of a pool, all of them. They are on lease for as long as they live: turn `leak_after` off.
    #[must_use]
    pub fn new(pool: Pool<Redis>) -> Self {
        Self { pool, carriers: Arc::default(), growing: Arc::default() }
    }

    /// The connection with the fewest users; a new one first, as long as the pool allows and the others are in use.
    ///
    /// # Errors
    /// As [`Pool::acquire`], if no connection lives.
    ///
    /// # Cancel safety
    /// As [`Pool::acquire`].
    pub async fn get(&self) -> Result<SharedConnection, Error> {
        let (least, wants_more) = self.least_used();
        if let Some(least) = &least
            && !wants_more
        {
            return Ok(SharedConnection::new(Arc::clone(least)));
        }
        // One caller makes the next connection; the others share what there is, or wait for it if there is none.
        let deadline = Deadline::within(self.pool.config().acquire_timeout);
        let turn = match &least {
            Some(_) => self.growing.try_lock().ok(),
            None => deadline.run(self.growing.lock()).await.ok(),
        };
        if let Some(least) = least.filter(|_| turn.is_none()).or_else(|| self.least_used().0) {
            let wants_more = turn.is_some() && self.least_used().1;
            if !wants_more {
                return Ok(SharedConnection::new(least));
            }
        }
        let lease = self.pool.acquire_until(deadline).await?;
        let carrier = Arc::new(Carrier {
            connection: lease.multiplexed(),
            lease: Mutex::new(Some(lease)),
            users: AtomicUsize::new(0),
            dead: AtomicBool::new(false),
        });
        self.lock().push(Arc::clone(&carrier));
        Ok(SharedConnection::new(carrier))
    }

    /// The pool of the connections.
    #[must_use]
    pub const fn pool(&self) -> &Pool<Redis> {
        &self.pool
    }

    /// The connection with the fewest users, and whether another should be made: all are in use, and there is room.
    fn least_used(&self) -> (Option<Arc<Carrier>>, bool) {
        let mut carriers = self.lock();
        carriers.retain(|carrier| !carrier.dead.load(Ordering::Acquire));
        let least = carriers.iter().min_by_key(|carrier| carrier.users.load(Ordering::Relaxed)).cloned();
        let busy = least.as_ref().is_none_or(|least| least.users.load(Ordering::Relaxed) > 0);
        (least, busy && carriers.len() < self.pool.stats().max)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Carrier>>> {
        self.carriers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisShared").field("connections", &self.lock().len()).finish_non_exhaustive()
    }
}

/// A share of a connection. Cheap to clone; keep it for a request, not for ever: the next one may be on a better
/// connection.
pub struct SharedConnection {
    carrier: Arc<Carrier>,
    connection: MultiplexedConnection,
}

impl SharedConnection {
    fn new(carrier: Arc<Carrier>) -> Self {
        carrier.users.fetch_add(1, Ordering::Relaxed);
        let connection = carrier.connection.clone();
        Self { carrier, connection }
    }

    fn ended<T>(&self, answer: &RedisResult<T>) {
        if answer.as_ref().is_err_and(is_fatal) {
            self.carrier.dead.store(true, Ordering::Release);
        }
    }
}

impl Clone for SharedConnection {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.carrier))
    }
}

impl Drop for SharedConnection {
    fn drop(&mut self) {
        self.carrier.users.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ConnectionLike for SharedConnection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let answer = self.connection.req_packed_command(command).await;
            self.ended(&answer);
            answer
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let answer = self.connection.req_packed_commands(pipeline, offset, count).await;
            self.ended(&answer);
            answer
        })
    }

    fn get_db(&self) -> i64 {
        self.connection.get_db()
    }
}

impl fmt::Debug for SharedConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSharedConnection").finish_non_exhaustive()
    }
}
