//! Private servers, fault proxies, scripted services and contract suites for perfkit's tests.

mod server;

pub use server::{
    MariaDbBuilder, MariaDbServer, PostgresBuilder, PostgresServer, RedisBuilder, RedisCluster, RedisReply,
    RedisSentinel, RedisServer, Sentinel, ServerError,
};
