//! Private servers: real PostgreSQL, Redis and MariaDB processes that belong to one test.
//!
//! Each server runs in a temporary directory on a port of its own, as an unprivileged account where the server refuses
//! root, and goes with its processes and its directory when its handle is dropped, also when the test panics. A small
//! guard process cleans up when the test process itself is killed.
//!
//! All waiting is done on the blocking pool in real time: servers do not follow a paused clock.

mod account;
mod binary;
mod directory;
mod error;
mod guard;
mod instance;
mod mariadb;
mod port;
mod postgres;
mod process;
mod real_time;
mod redis;
mod template;
mod tree;

pub use error::ServerError;
pub use mariadb::{MariaDbBuilder, MariaDbServer};
pub use postgres::{PostgresBuilder, PostgresServer};
pub use redis::{RedisBuilder, RedisCluster, RedisReply, RedisSentinel, RedisServer, Sentinel};

pub(crate) use port::Port;
