//! How values become bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// A value could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(String);

impl CodecError {
    /// An error with this message.
    pub fn new(message: impl fmt::Display) -> Self {
        Self(message.to_string())
    }
}

/// Writes and reads values of one type.
pub trait Codec<V>: Send + Sync + 'static {
    /// Names the format in what is stored; unique among the formats of one cache. Ours use 1 to 15.
    fn id(&self) -> u8;

    /// Appends the bytes of a value.
    ///
    /// # Errors
    /// The value cannot be written in this format.
    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Reads a value. The bytes come from a store that others write to: they may be anything.
    ///
    /// # Errors
    /// The bytes are not a value in this format.
    fn decode(&self, bytes: &[u8]) -> Result<V, CodecError>;
}

/// postcard: compact and quick, the default. It does not describe itself, so a changed type needs a new
/// [`schema`](crate::CacheBuilder::schema).
#[derive(Clone, Copy, Debug, Default)]
pub struct Postcard;

impl<V: Serialize + DeserializeOwned> Codec<V> for Postcard {
    fn id(&self) -> u8 {
        1
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let bytes = postcard::to_extend(value, std::mem::take(out)).map_err(CodecError::new)?;
        *out = bytes;
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, CodecError> {
        let (value, rest) = postcard::take_from_bytes(bytes).map_err(CodecError::new)?;
        if rest.is_empty() { Ok(value) } else { Err(CodecError::new("bytes are left over")) }
    }
}

/// JSON: larger, readable by people and by other languages. Numbers keep their last digit.
#[cfg(feature = "json")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

#[cfg(feature = "json")]
impl<V: Serialize + DeserializeOwned> Codec<V> for Json {
    fn id(&self) -> u8 {
        2
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(out, value).map_err(CodecError::new)
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, CodecError> {
        serde_json::from_slice(bytes).map_err(CodecError::new)
    }
}

/// MessagePack with named fields: tolerates fields that were added.
#[cfg(feature = "messagepack")]
#[derive(Clone, Copy, Debug, Default)]
pub struct MessagePack;

#[cfg(feature = "messagepack")]
impl<V: Serialize + DeserializeOwned> Codec<V> for MessagePack {
    fn id(&self) -> u8 {
        3
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), CodecError> {
        rmp_serde::encode::write_named(out, value).map_err(CodecError::new)
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, CodecError> {
        let mut reader = rmp_serde::Deserializer::new(std::io::Cursor::new(bytes));
        let value = V::deserialize(&mut reader).map_err(CodecError::new)?;
        let all = usize::try_from(reader.position()) == Ok(bytes.len());
        if all { Ok(value) } else { Err(CodecError::new("bytes are left over")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Order {
        id: u64,
        customer: String,
        lines: Vec<(u32, f64)>,
        note: Option<String>,
        labels: BTreeMap<String, i32>,
    }

    fn order() -> impl Strategy<Value = Order> {
        let lines = prop::collection::vec((any::<u32>(), -1e9..1e9_f64), 0..8);
        let labels = prop::collection::btree_map(".{0,6}", any::<i32>(), 0..4);
        (any::<u64>(), ".{0,20}", lines, prop::option::of(".{0,9}"), labels)
            .prop_map(|(id, customer, lines, note, labels)| Order { id, customer, lines, note, labels })
    }

    fn codecs() -> Vec<Box<dyn Codec<Order>>> {
        vec![
            Box::new(Postcard),
            #[cfg(feature = "json")]
            Box::new(Json),
            #[cfg(feature = "messagepack")]
            Box::new(MessagePack),
        ]
    }

    proptest! {
        #[test]
        fn every_codec_reads_back_what_it_wrote_and_refuses_what_is_left_over(order in order()) {
            for codec in codecs() {
                let mut bytes = Vec::new();
                codec.encode(&order, &mut bytes).unwrap();
                prop_assert_eq!(&codec.decode(&bytes).unwrap(), &order);
                bytes.push(b'x');
                prop_assert!(codec.decode(&bytes).is_err());
            }
        }

        #[test]
        fn s33_no_bytes_make_a_codec_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            for codec in codecs() {
                // Whether such bytes are a value is the format's business; that they do no harm is ours.
                let _ = codec.decode(&bytes);
            }
        }

        /// Damage close to a real value reaches deeper than bytes at random.
        #[test]
        fn s33_no_damaged_value_makes_a_codec_panic(order in order(), at in any::<usize>(), to in any::<u8>()) {
            for codec in codecs() {
                let mut bytes = Vec::new();
                codec.encode(&order, &mut bytes).unwrap();
                let at = at % bytes.len();
                bytes[at] = to;
                let _ = codec.decode(&bytes);
                let _ = codec.decode(&bytes[..at]);
            }
        }
    }

    #[test]
    fn ids_are_unique() {
        let mut ids: Vec<u8> = codecs().iter().map(|codec| codec.id()).collect();
        ids.dedup();
        assert_eq!(ids.len(), codecs().len());
    }
}
