//! One direction of a connection: a delay line with faults at its end.

use super::Shared;
use super::fault::{Direction, Fault, Faults};
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// How many pieces may be on their way before the sender is held up.
const IN_FLIGHT: usize = 256;
const PIECE: usize = 16 * 1024;
/// A throttled direction moves in steps of this length.
const STEP: Duration = Duration::from_millis(20);

/// Bytes and when they were received. No bytes means the end of the stream.
struct Piece {
    bytes: Vec<u8>,
    received: Instant,
}

/// Passes bytes from `reader` to `writer` until the end of the stream.
pub(super) async fn pump(
    mut reader: ReadHalf<'_>,
    mut writer: WriteHalf<'_>,
    shared: &Shared,
    direction: Direction,
) -> io::Result<()> {
    let (sender, mut line) = mpsc::channel(IN_FLIGHT);
    let receive = async move {
        let mut buffer = vec![0; PIECE];
        loop {
            let n = reader.read(&mut buffer).await?;
            let piece = Piece { bytes: buffer[..n].to_vec(), received: Instant::now() };
            if sender.send(piece).await.is_err() || n == 0 {
                return Ok(());
            }
        }
    };
    let deliver = async {
        let mut end = Outlet { shared, direction, faults: shared.faults.subscribe(), left: None };
        while let Some(piece) = line.recv().await {
            if piece.bytes.is_empty() {
                return end.finish(&mut writer, piece.received).await;
            }
            end.write(&mut writer, piece).await?;
        }
        Ok(())
    };
    tokio::try_join!(receive, deliver).map(drop)
}

/// The delivering end of one direction.
struct Outlet<'s> {
    shared: &'s Shared,
    direction: Direction,
    faults: watch::Receiver<Faults>,
    /// The version of the faults under which a cut was ordered, and how many bytes may still pass.
    left: Option<(u64, u64)>,
}

impl Outlet<'_> {
    /// Waits until something received at `received` may arrive, and returns the fault that then holds.
    async fn admit(&mut self, received: Instant) -> Fault {
        loop {
            let fault = self.faults.borrow_and_update().toward(self.direction);
            let due = match fault {
                Fault::Delay(delay) => received + delay,
                Fault::Stall => {
                    self.changed().await;
                    continue;
                }
                _ => return fault,
            };
            tokio::select! {
                () = sleep_until(due) => return Fault::Pass,
                () = self.changed() => {}
            }
        }
    }

    /// Waits for other faults; for ever when the proxy is gone, as the connection then is, too.
    async fn changed(&mut self) {
        if self.faults.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    async fn write(&mut self, writer: &mut WriteHalf<'_>, mut piece: Piece) -> io::Result<()> {
        let mut from = 0;
        while from < piece.bytes.len() {
            match self.admit(piece.received).await {
                Fault::Drop | Fault::HalfOpen => return Ok(()),
                Fault::Throttle(rate) => {
                    let rate = rate.max(1);
                    let step = (f64::from(rate) * STEP.as_secs_f64()).max(1.0) as usize;
                    let to = piece.bytes.len().min(from + step);
                    self.pass(writer, &piece.bytes[from..to]).await?;
                    sleep(Duration::from_secs_f64((to - from) as f64 / f64::from(rate))).await;
                    from = to;
                    continue;
                }
                Fault::Corrupt => piece.bytes[from] ^= 1,
                Fault::CutAfter(limit) => self.count(writer, &piece.bytes[from..], limit).await?,
                _ => {}
            }
            self.pass(writer, &piece.bytes[from..]).await?;
            from = piece.bytes.len();
        }
        Ok(())
    }

    /// Takes `bytes` from what may still pass. When that is not enough, passes what may and fails.
    async fn count(&mut self, writer: &mut WriteHalf<'_>, bytes: &[u8], limit: u64) -> io::Result<()> {
        let version = self.faults.borrow().version;
        let left = self.left.filter(|(since, _)| *since == version).map_or(limit, |(_, left)| left);
        match left.checked_sub(bytes.len() as u64) {
            Some(left) => {
                self.left = Some((version, left));
                Ok(())
            }
            None => {
                self.pass(writer, &bytes[..left as usize]).await?;
                // The last bytes reach the client before the reset makes its kernel forget them.
                sleep(STEP).await;
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
    }

    async fn pass(&self, writer: &mut WriteHalf<'_>, bytes: &[u8]) -> io::Result<()> {
        writer.write_all(bytes).await?;
        self.shared.passed(self.direction).fetch_add(bytes.len() as u64, Ordering::AcqRel);
        Ok(())
    }

    /// Passes the end of the stream on. Where bytes are dropped, that is lost, too.
    async fn finish(&mut self, writer: &mut WriteHalf<'_>, received: Instant) -> io::Result<()> {
        match self.admit(received).await {
            Fault::Drop | Fault::HalfOpen => std::future::pending().await,
            _ => writer.shutdown().await,
        }
    }
}
