//! A decoder of just enough protobuf.

/// Field numbers and payloads.
pub(crate) fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let payload = match key & 7 {
            0 => varint(&mut bytes).to_le_bytes().to_vec(),
            1 => take(&mut bytes, 8),
            2 => {
                let length = varint(&mut bytes) as usize;
                take(&mut bytes, length)
            }
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, payload));
    }
    found
}

/// The payloads of one field.
#[cfg(feature = "otlp")]
pub(crate) fn all(message: &[u8], field: u64) -> Vec<Vec<u8>> {
    fields(message).into_iter().filter(|(number, _)| *number == field).map(|(_, payload)| payload).collect()
}

/// The payload of a field that is there once.
#[cfg(feature = "otlp")]
pub(crate) fn one(message: &[u8], field: u64) -> Vec<u8> {
    let mut found = all(message, field);
    assert_eq!(found.len(), 1, "field {field}");
    found.remove(0)
}

/// A text.
#[cfg(feature = "otlp")]
pub(crate) fn string(message: &[u8], field: u64) -> String {
    String::from_utf8(one(message, field)).unwrap()
}

/// A number of eight bytes, or a varint.
#[cfg(feature = "otlp")]
pub(crate) fn number(message: &[u8], field: u64) -> u64 {
    u64::from_le_bytes(one(message, field).try_into().unwrap())
}

pub(crate) fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return value;
        }
        shift += 7;
    }
}

pub(crate) fn take(bytes: &mut &[u8], length: usize) -> Vec<u8> {
    let (head, tail) = bytes.split_at(length);
    *bytes = tail;
    head.to_vec()
}
