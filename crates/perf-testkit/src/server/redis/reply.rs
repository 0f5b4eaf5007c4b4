//! A Redis client of two pages, so that the testkit depends on none: RESP2 on a blocking socket.

use super::ServerError;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take. Short enough that a paused server does not hold up a test for long.
const PATIENCE: Duration = Duration::from_secs(5);

/// An answer of a Redis server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisReply {
    /// Nothing.
    Nil,
    /// A number.
    Int(i64),
    /// A text, simple or bulk. Bytes that are not UTF-8 are replaced.
    Text(String),
    /// A list.
    List(Vec<RedisReply>),
}

impl RedisReply {
    /// The text, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    #[must_use]
    pub const fn int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The elements; none if it is no list.
    #[must_use]
    pub fn list(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            _ => &[],
        }
    }
}

/// One connection.
pub(super) struct Client(BufReader<TcpStream>);

impl Client {
    pub(super) fn connect(port: u16, password: Option<&str>) -> Result<Self, ServerError> {
        let failed = || format!("could not reach redis on port {port}");
        let connect = || {
            let socket =
                TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.set_write_timeout(Some(PATIENCE))?;
            socket.set_nodelay(true)?;
            Ok(socket)
        };
        let mut client = Self(BufReader::new(connect().map_err(ServerError::io(failed))?));
        if let Some(password) = password {
            client.command(&["AUTH".to_owned(), password.to_owned()])?;
        }
        Ok(client)
    }

    /// Sends one command and reads its answer.
    pub(super) fn command(&mut self, words: &[String]) -> Result<RedisReply, ServerError> {
        let exchange = self.send(words).and_then(|()| read(&mut self.0));
        let answer = exchange.map_err(ServerError::io(|| format!("no answer to {}", words.join(" "))))?;
        answer.map_err(|answer| ServerError::Refused { request: words.join(" "), answer })
    }

    fn send(&mut self, words: &[String]) -> io::Result<()> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.0.get_mut().write_all(request.as_bytes())
    }
}

/// An answer, or the text of an error answer.
type Answer = Result<RedisReply, String>;

fn read(input: &mut impl BufRead) -> io::Result<Answer> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    let line = line.strip_suffix("\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let rest = line.get(1..).unwrap_or_default();
    let number = || rest.parse::<i64>().map_err(io::Error::other);
    match line.as_bytes().first() {
        Some(b'+') => Ok(Ok(RedisReply::Text(rest.to_owned()))),
        Some(b'-') => Ok(Err(rest.to_owned())),
        Some(b':') => Ok(Ok(RedisReply::Int(number()?))),
        Some(b'$') => read_bulk(input, number()?).map(Ok),
        Some(b'*') => read_list(input, number()?),
        _ => Err(io::Error::other(format!("not a redis answer: {line:?}"))),
    }
}

fn read_bulk(input: &mut impl Read, length: i64) -> io::Result<RedisReply> {
    let Ok(length) = usize::try_from(length) else { return Ok(RedisReply::Nil) };
    let mut bytes = vec![0; length + 2];
    input.read_exact(&mut bytes)?;
    bytes.truncate(length);
    Ok(RedisReply::Text(String::from_utf8_lossy(&bytes).into_owned()))
}

fn read_list(input: &mut impl BufRead, length: i64) -> io::Result<Answer> {
    let Ok(length) = usize::try_from(length) else { return Ok(Ok(RedisReply::Nil)) };
    let mut list = Vec::new();
    for _ in 0..length {
        // An error inside a list is part of the answer, as in the result of EXEC.
        list.push(read(input)?.unwrap_or_else(RedisReply::Text));
    }
    Ok(Ok(RedisReply::List(list)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_answer_is_read() {
        let mut input = &b"*4\r\n:7\r\n$5\r\nhello\r\n+OK\r\n*-1\r\n-ERR no\r\n"[..];
        let text = |text: &str| RedisReply::Text(text.to_owned());
        let list = RedisReply::List(vec![RedisReply::Int(7), text("hello"), text("OK"), RedisReply::Nil]);
        assert_eq!(read(&mut input).unwrap(), Ok(list));
        assert_eq!(read(&mut input).unwrap(), Err("ERR no".to_owned()));
        assert!(read(&mut input).is_err(), "the end of the stream is no answer");
    }
}
