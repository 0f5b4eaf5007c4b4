use crate::manager::Condition;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Arg, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, ServerErrorKind, Value};
use std::fmt;

/// A Redis connection that remembers what would trouble its next user. Commands run on it as on any other:
/// `cmd.query_async(&mut *lease)`.
pub struct RedisConnection {
    inner: MultiplexedConnection,
    db: i64,
    /// It failed in a way that no later command survives.
    broken: bool,
    /// It was told something that outlives a command.
    dirty: bool,
    /// Commands whose answer nobody has waited for to the end.
    under_way: bool,
}

impl RedisConnection {
    pub(super) const fn new(inner: MultiplexedConnection, db: i64) -> Self {
        Self { inner, db, broken: false, dirty: false, under_way: false }
    }

    pub(super) fn multiplexed(&self) -> MultiplexedConnection {
        self.inner.clone()
    }

    pub(super) const fn break_off(&mut self) {
        self.broken = true;
    }

    pub(super) const fn condition(&self) -> Condition {
        match (self.broken, self.dirty || self.under_way) {
            (true, _) => Condition::Broken,
            (false, true) => Condition::Dirty,
            (false, false) => Condition::Clean,
        }
    }

    /// Undoes what the last user may have left. A command that blocks is still waited for by the server, in which case the
    /// pool's limit ends this.
    pub(super) async fn reset(&mut self) -> RedisResult<()> {
        // Without a transaction this is refused, which is as good.
        let discarded: RedisResult<()> = redis::cmd("DISCARD").query_async(&mut self.inner).await;
        if let Err(error) = discarded
            && is_fatal(&error)
        {
            return Err(error);
        }
        let mut pipeline = redis::pipe();
        pipeline.cmd("UNWATCH").ignore().cmd("SELECT").arg(self.db).ignore();
        pipeline.query_async::<()>(&mut self.inner).await?;
        (self.dirty, self.under_way) = (false, false);
        Ok(())
    }

    /// A pipeline that is atomic ends its own transaction.
    fn watch_pipeline(&mut self, pipeline: &Pipeline) {
        for command in pipeline.cmd_iter() {
            self.watch(command);
        }
    }

    fn watch(&mut self, command: &Cmd) {
        let Some(Arg::Simple(name)) = command.args_iter().next() else { return };
        let outlives = [b"WATCH".as_slice(), b"MULTI", b"SELECT", b"CLIENT", b"READONLY", b"AUTH", b"HELLO"];
        self.dirty |= outlives.iter().any(|known| name.eq_ignore_ascii_case(known));
    }

    fn ended<T>(&mut self, answer: &RedisResult<T>) {
        self.under_way = false;
        self.broken |= answer.as_ref().is_err_and(is_fatal);
    }
}

/// Whether nothing more can be asked of a connection: it is gone, or its server takes no writes any more.
pub(super) fn is_fatal(error: &RedisError) -> bool {
    let read_only = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
    error.is_unrecoverable_error() || error.is_io_error() || read_only
}

impl ConnectionLike for RedisConnection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.watch(command);
        self.under_way = true;
        Box::pin(async move {
            let answer = self.inner.req_packed_command(command).await;
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
        self.watch_pipeline(pipeline);
        self.under_way = true;
        Box::pin(async move {
            let answer = self.inner.req_packed_commands(pipeline, offset, count).await;
            self.ended(&answer);
            answer
        })
    }

    fn get_db(&self) -> i64 {
        self.inner.get_db()
    }
}

impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConnection").field("broken", &self.broken).finish_non_exhaustive()
    }
}
