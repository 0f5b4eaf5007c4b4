//! What the managers over raw sqlx connections have in common.

use crate::manager::Condition;
use sqlx::{Connection, Error};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Looks at a connection without talking to the server.
///
/// `flush` returns at once, and without I/O, exactly if no reply is outstanding. If one is, a query was dropped half-way
/// or failed; its first poll then reads what has arrived, which also tells a dead connection.
pub(super) fn condition<C: Connection>(connection: &mut C) -> Condition {
    if connection.should_flush() || connection.is_in_transaction() {
        return Condition::Dirty;
    }
    let mut context = Context::from_waker(Waker::noop());
    match pin!(connection.flush()).poll(&mut context) {
        Poll::Ready(Ok(())) => Condition::Clean,
        Poll::Ready(Err(_)) => Condition::Broken,
        Poll::Pending => Condition::Dirty,
    }
}

/// Reads outstanding replies and asks for a sign of life, after which a dropped transaction has been rolled back.
/// A transaction that is still open then was forgotten, not dropped: such a connection is not used again.
pub(super) async fn reset<C: Connection>(connection: &mut C) -> Result<(), Error> {
    connection.flush().await?;
    connection.ping().await?;
    if connection.is_in_transaction() {
        return Err(Error::Protocol("the connection came back in a transaction".to_owned()));
    }
    Ok(())
}

/// Says good-bye. What the server makes of it changes nothing.
pub(super) async fn close<C: Connection>(connection: C) {
    let _ = connection.close().await;
}

/// Whether the error's code, SQLSTATE or the driver's own, is among those that no retry cures.
pub(super) fn has_code(error: &Error, codes: &[&str]) -> bool {
    match error {
        Error::Configuration(_) => true,
        Error::Database(error) => error.code().is_some_and(|code| codes.contains(&code.as_ref())),
        _ => false,
    }
}
