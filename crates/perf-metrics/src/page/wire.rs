//! Protobuf, written in one pass: a message's length is filled in afterwards, as a varint of fixed width, which every
//! decoder reads.

/// Width of the lengths: enough for 256 MiB.
const LENGTH_BYTES: usize = 4;

/// A message of a name and a value.
pub(crate) fn pair(out: &mut Vec<u8>, field: u32, name: &str, value: &str) {
    message(out, field, |out| {
        text(out, 1, name);
        text(out, 2, value);
    });
}

pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(crate) fn unsigned(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, u64::from(field << 3));
    varint(out, value);
}

pub(crate) fn signed(out: &mut Vec<u8>, field: u32, value: i64) {
    unsigned(out, field, zigzag(value));
}

pub(crate) fn double(out: &mut Vec<u8>, field: u32, value: f64) {
    varint(out, u64::from(field << 3 | 1));
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn text(out: &mut Vec<u8>, field: u32, value: &str) {
    varint(out, u64::from(field << 3 | 2));
    varint(out, value.len() as u64);
    out.extend_from_slice(value.as_bytes());
}

pub(crate) fn message(out: &mut Vec<u8>, field: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = open(out, field);
    body(out);
    end(out, start);
}

/// Begins a message whose end is not known here.
pub(crate) fn open(out: &mut Vec<u8>, field: u32) -> usize {
    varint(out, u64::from(field << 3 | 2));
    begin(out)
}

/// Bytes: ids of OpenTelemetry.
#[cfg(feature = "otlp")]
pub(crate) fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    varint(out, u64::from(field << 3 | 2));
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Leaves room for a length.
pub(crate) fn begin(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    out.len()
}

/// Fills in the length of what was written since `start`.
pub(crate) fn end(out: &mut [u8], start: usize) {
    let mut length = out.len() - start;
    let (head, _) = out.split_at_mut(start);
    for (position, byte) in head[start - LENGTH_BYTES..].iter_mut().enumerate() {
        let more = if position + 1 < LENGTH_BYTES { 0x80 } else { 0 };
        *byte = (length & 0x7F) as u8 | more;
        length >>= 7;
    }
}

/// Eight bytes: counts and times of OpenTelemetry.
#[cfg(feature = "otlp")]
pub(crate) fn fixed(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, u64::from(field << 3 | 1));
    out.extend_from_slice(&value.to_le_bytes());
}
