//! Looking through everything that Redis has, master by master.

use super::link::Connection;
use super::store::RedisStore;
use crate::remote::port::{Cursor, Scanned, StoreError};
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{Cmd, FromRedisValue, RedisError, Value};

/// Keys that one step looks at: less than a millisecond of the server's time.
const STEP: usize = 1_000;

impl RedisStore {
    pub(super) async fn scan_from(&self, prefix: &[u8], from: Cursor) -> Result<Scanned, StoreError> {
        const ACTION: &str = "look for keys";
        let mut command = redis::cmd("SCAN");
        command.arg(from.at).arg("MATCH").arg(pattern(prefix)).arg("COUNT").arg(STEP);
        let (at, keys, servers) = self
            .link
            .call(ACTION, async |mut connection| {
                let Connection::Cluster(cluster) = &mut connection else {
                    let (at, keys): (u64, Vec<Vec<u8>>) = command.query_async(&mut connection).await?;
                    return Ok((at, keys, 1));
                };
                let masters = masters(cluster.route_command(slots(), random()).await?)?;
                // Those that are no more have given their slots to others, which are asked in their turn.
                let Some(&slot) = masters.get(from.server) else { return Ok((0, Vec::new(), masters.len())) };
                let route = SingleNodeRoutingInfo::SpecificNode(Route::new(slot, SlotAddr::Master));
                let reply = cluster.route_command(command, RoutingInfo::SingleNode(route)).await?;
                let (at, keys) = <(u64, Vec<Vec<u8>>)>::from_redis_value(reply.extract_error()?)?;
                Ok((at, keys, masters.len()))
            })
            .await?;
        let next = match at {
            0 if from.server + 1 < servers => Some(Cursor { server: from.server + 1, at: 0 }),
            0 => None,
            at => Some(Cursor { at, ..from }),
        };
        Ok(Scanned { keys, next })
    }
}

fn slots() -> Cmd {
    let mut command = redis::cmd("CLUSTER");
    command.arg("SLOTS");
    command
}

const fn random() -> RoutingInfo {
    RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random)
}

/// One slot of each master, in an order that does not change while they do not.
fn masters(slots: Value) -> Result<Vec<u16>, RedisError> {
    let ranges: Vec<Vec<Value>> = FromRedisValue::from_redis_value(slots.extract_error()?)?;
    let mut masters: Vec<(Vec<u8>, u16)> = Vec::new();
    for range in ranges {
        let mut parts = range.into_iter();
        let (Some(first), Some(_), Some(Value::Array(master))) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        // Host, port, number of the node.
        let Some(id) = master.into_iter().nth(2) else { continue };
        masters.push((FromRedisValue::from_redis_value(id)?, FromRedisValue::from_redis_value(first)?));
    }
    masters.sort();
    masters.dedup_by(|one, other| one.0 == other.0);
    Ok(masters.into_iter().map(|(_, slot)| slot).collect())
}

/// What begins with these bytes and nothing else.
fn pattern(prefix: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(prefix.len() + 8);
    for &byte in prefix {
        if b"*?[]\\^-".contains(&byte) {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
    pattern.push(b'*');
    pattern
}
