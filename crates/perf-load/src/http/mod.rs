//! The load generator's own HTTP/1.1 client: requests made in place, answers parsed in place, nothing allocated per request.

mod body;
mod connection;
mod head;
mod protocol;
mod request;
mod target;

pub(crate) use head::header;
pub(crate) use protocol::Http;
pub use request::{Method, Request};
pub use target::Target;
