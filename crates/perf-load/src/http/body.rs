//! The body of an answer: where it ends, and its bytes without the transfer encoding.

use super::head::Framing;

/// A chunk's size line, and each trailer, is at most this long.
const MAX_LINE: usize = 16 * 1024;

/// All trailers together are at most this many lines.
const MAX_TRAILERS: u32 = 1_000;

/// Follows a body through the bytes as they come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoder {
    state: State,
    line: usize,
    trailers: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// This many bytes to the end.
    Length(u64),
    UntilClose,
    /// Inside a size line: the number so far, whether it has a digit, whether an extension began.
    Size {
        size: u64,
        digits: u8,
        extension: bool,
    },
    Chunk(u64),
    /// The line break after a chunk.
    ChunkEnd,
    Trailer {
        empty: bool,
    },
    Done,
}

const SIZE: State = State::Size { size: 0, digits: 0, extension: false };

impl Decoder {
    pub(super) const fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::UntilClose => State::UntilClose,
            Framing::Chunked => SIZE,
        };
        Self { state, line: 0, trailers: 0 }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the end of the connection ends the body.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.state == State::UntilClose
    }

    /// Takes bytes off the front of `input`, hands the body's own to `sink`, and says how many were taken. Stops at the body's end.
    pub(super) fn decode(
        &mut self,
        input: &[u8],
        sink: &mut impl FnMut(&[u8]),
    ) -> Result<usize, &'static str> {
        let mut used = 0;
        while used < input.len() && self.state != State::Done {
            used += self.step(&input[used..], sink)?;
        }
        Ok(used)
    }

    fn step(&mut self, input: &[u8], sink: &mut impl FnMut(&[u8])) -> Result<usize, &'static str> {
        match self.state {
            State::UntilClose => {
                sink(input);
                Ok(input.len())
            }
            State::Length(left) | State::Chunk(left) => {
                let taken = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
                sink(&input[..taken]);
                let left = left - taken as u64;
                self.state = match self.state {
                    State::Length(_) if left == 0 => State::Done,
                    State::Length(_) => State::Length(left),
                    _ if left == 0 => State::ChunkEnd,
                    _ => State::Chunk(left),
                };
                Ok(taken)
            }
            State::Done => Ok(0),
            State::Size { .. } | State::ChunkEnd | State::Trailer { .. } => {
                self.count_line_byte(input[0])?;
                self.state = self.after(input[0])?;
                Ok(1)
            }
        }
    }

    const fn count_line_byte(&mut self, byte: u8) -> Result<(), &'static str> {
        self.line = if byte == b'\n' { 0 } else { self.line + 1 };
        if self.line > MAX_LINE { Err("a line of the chunked body is too long") } else { Ok(()) }
    }

    fn after(&mut self, byte: u8) -> Result<State, &'static str> {
        match (self.state, byte) {
            (State::Size { digits: 0, .. }, b'\n') => Err("a chunk has no size"),
            (State::Size { size: 0, .. }, b'\n') => Ok(State::Trailer { empty: true }),
            (State::Size { size, .. }, b'\n') => Ok(State::Chunk(size)),
            (State::Size { extension: true, .. }, _) => Ok(self.state),
            (State::Size { size, digits, .. }, b';' | b'\r' | b' ' | b'\t') => {
                Ok(State::Size { size, digits, extension: true })
            }
            (State::Size { size, digits, .. }, digit) => {
                let digit = (digit as char).to_digit(16).ok_or("the size of a chunk is not a number")?;
                if size >> 60 != 0 {
                    return Err("the size of a chunk is too large");
                }
                Ok(State::Size {
                    size: size << 4 | u64::from(digit),
                    digits: digits.saturating_add(1),
                    extension: false,
                })
            }
            (State::ChunkEnd, b'\r') => Ok(State::ChunkEnd),
            (State::ChunkEnd, b'\n') => Ok(SIZE),
            (State::ChunkEnd, _) => Err("a chunk is longer than its size"),
            (State::Trailer { empty: true }, b'\n') => Ok(State::Done),
            (State::Trailer { empty: false }, b'\n') => {
                self.trailers += 1;
                if self.trailers > MAX_TRAILERS {
                    return Err("there are too many trailers");
                }
                Ok(State::Trailer { empty: true })
            }
            (State::Trailer { empty }, b'\r') => Ok(State::Trailer { empty }),
            (State::Trailer { .. }, _) => Ok(State::Trailer { empty: false }),
            (state, _) => Ok(state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode_in_pieces(
        framing: Framing,
        wire: &[u8],
        piece: usize,
    ) -> Result<(Vec<u8>, usize), &'static str> {
        let (mut decoder, mut body, mut used) = (Decoder::new(framing), Vec::new(), 0);
        for chunk in wire.chunks(piece.max(1)) {
            used += decoder.decode(chunk, &mut |bytes| body.extend_from_slice(bytes))?;
            if decoder.is_done() {
                break;
            }
        }
        if decoder.is_done() { Ok((body, used)) } else { Err("incomplete") }
    }

    #[test]
    fn chunks_extensions_and_trailers_are_read() {
        let wire = b"4;name=\"v\"\r\nWiki\r\nA\r\npedia in  \r\n0\r\nx-trailer: 1\r\ny: 2\r\n\r\nNEXT";
        for piece in 1..wire.len() {
            let (body, used) = decode_in_pieces(Framing::Chunked, wire, piece).unwrap();
            assert_eq!((body.as_slice(), used), (&b"Wikipedia in  "[..], wire.len() - 4));
        }
    }

    #[test]
    fn broken_chunks_are_refused() {
        for wire in ["\r\nabc", "x\r\n", "3\r\nabcd\r\n", "11111111111111111\r\n"] {
            let broken = decode_in_pieces(Framing::Chunked, wire.as_bytes(), 1);
            assert!(broken.is_err_and(|why| why != "incomplete"), "{wire}");
        }
        assert_eq!(decode_in_pieces(Framing::Chunked, b"5\r\nab", 1), Err("incomplete"));
        let long = [b"1;".as_slice(), &[b'x'; MAX_LINE + 1]].concat();
        assert!(decode_in_pieces(Framing::Chunked, &long, 100).is_err_and(|why| why != "incomplete"));
    }

    #[test]
    fn a_length_ends_the_body_and_leaves_the_rest() {
        assert_eq!(decode_in_pieces(Framing::Length(3), b"abcdef", 2).unwrap(), (b"abc".to_vec(), 3));
        assert!(Decoder::new(Framing::Length(0)).is_done());
        assert!(Decoder::new(Framing::UntilClose).ends_with_connection());
    }

    proptest! {
        #[test]
        fn any_body_survives_chunking(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            piece in 1..50_usize,
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                wire.extend(chunk);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\n\r\n");
            let (body, used) = decode_in_pieces(Framing::Chunked, &wire, piece).unwrap();
            prop_assert_eq!(body, chunks.concat());
            prop_assert_eq!(used, wire.len());
        }

        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode_in_pieces(Framing::Chunked, &bytes, 7);
        }
    }
}
