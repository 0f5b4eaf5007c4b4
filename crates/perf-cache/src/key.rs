//! Keys: what identifies a value, in memory and as bytes that are the same in every process.

use std::borrow::Cow;
use std::hash::Hash;
use std::rc::Rc;
use std::sync::Arc;

/// A key written as bytes: self-delimiting, so that no two different keys of one type write the same bytes.
///
/// The bytes name the value in a shared store and in the invalidation log, hence they must not depend on the process, the
/// build or the platform. `std::hash::Hash` makes no such promise, which is why this trait exists.
///
/// ```
/// use perf_cache::CacheKey;
///
/// #[derive(Clone, PartialEq, Eq, Hash)]
/// struct Page { tenant: u32, path: String }
///
/// impl CacheKey for Page {
///     fn write_key(&self, out: &mut Vec<u8>) {
///         (self.tenant, &self.path).write_key(out);
///     }
/// }
/// assert_ne!(("ab", "c").key_bytes(), ("a", "bc").key_bytes());
/// ```
pub trait CacheKey {
    /// Appends the key's bytes.
    fn write_key(&self, out: &mut Vec<u8>);

    /// The key that [`write_key`](Self::write_key) wrote at the beginning of `bytes`, which then begin behind it; `None`
    /// when these are not bytes of such a key.
    ///
    /// Only [`purge_stored`](crate::Cache::purge_stored) needs it, which has nothing but the bytes. Unless overridden, no key
    /// can be read; the types that implement the trait here can be where they are owned.
    fn read_key(bytes: &mut &[u8]) -> Option<Self>
    where
        Self: Sized,
    {
        let _ = bytes;
        None
    }

    /// The key's bytes alone.
    fn key_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_key(&mut out);
        out
    }
}

/// Everything a cache asks of its keys; implemented for all types that have it.
pub trait Key: CacheKey + Hash + Eq + Clone + Send + Sync + 'static {}

impl<T: CacheKey + Hash + Eq + Clone + Send + Sync + 'static> Key for T {}

/// Takes so many bytes from the beginning.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

macro_rules! fixed_width {
    ($($int:ty),*) => {
        $(impl CacheKey for $int {
            fn write_key(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn read_key(bytes: &mut &[u8]) -> Option<Self> {
                take(bytes).map(Self::from_be_bytes)
            }
        })*
    };
}

fixed_width!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128);

macro_rules! written_as {
    ($($type:ty as $wide:ty, $read:expr;)*) => {
        $(impl CacheKey for $type {
            fn write_key(&self, out: &mut Vec<u8>) {
                (*self as $wide).write_key(out);
            }

            fn read_key(bytes: &mut &[u8]) -> Option<Self> {
                <$wide>::read_key(bytes).and_then($read)
            }
        })*
    };
}

// `usize` and `isize` are written as 64 bits on every platform.
written_as! {
    usize as u64, |wide| wide.try_into().ok();
    isize as i64, |wide| wide.try_into().ok();
    bool as u8, |byte| (byte < 2).then_some(byte == 1);
    char as u32, Self::from_u32;
}

macro_rules! floats {
    ($($float:ty),*) => {
        $(impl CacheKey for $float {
            /// The bits: zero and negative zero are two keys.
            fn write_key(&self, out: &mut Vec<u8>) {
                self.to_bits().write_key(out);
            }

            fn read_key(bytes: &mut &[u8]) -> Option<Self> {
                CacheKey::read_key(bytes).map(Self::from_bits)
            }
        })*
    };
}

floats!(f32, f64);

/// Length first, so that neighbours cannot run into each other.
fn delimited(bytes: &[u8], out: &mut Vec<u8>) {
    bytes.len().write_key(out);
    out.extend_from_slice(bytes);
}

fn read_delimited<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = usize::read_key(bytes)?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

impl CacheKey for str {
    fn write_key(&self, out: &mut Vec<u8>) {
        delimited(self.as_bytes(), out);
    }
}

impl CacheKey for String {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.as_str().write_key(out);
    }

    fn read_key(bytes: &mut &[u8]) -> Option<Self> {
        str::from_utf8(read_delimited(bytes)?).ok().map(Self::from)
    }
}

impl<T: CacheKey> CacheKey for [T] {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.len().write_key(out);
        self.iter().for_each(|item| item.write_key(out));
    }
}

impl<T: CacheKey> CacheKey for Vec<T> {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.as_slice().write_key(out);
    }

    fn read_key(bytes: &mut &[u8]) -> Option<Self> {
        let length = usize::read_key(bytes)?;
        // An item may take no bytes at all; no more than this many are believed to.
        (length <= bytes.len().max(1 << 16)).then(|| (0..length).map(|_| T::read_key(bytes)).collect())?
    }
}

impl<T: CacheKey, const N: usize> CacheKey for [T; N] {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|item| item.write_key(out));
    }

    fn read_key(bytes: &mut &[u8]) -> Option<Self> {
        let items: Option<Vec<T>> = (0..N).map(|_| T::read_key(bytes)).collect();
        items?.try_into().ok()
    }
}

impl<T: CacheKey> CacheKey for Option<T> {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.is_some().write_key(out);
        self.iter().for_each(|item| item.write_key(out));
    }

    fn read_key(bytes: &mut &[u8]) -> Option<Self> {
        if bool::read_key(bytes)? { T::read_key(bytes).map(Some) } else { Some(None) }
    }
}

impl CacheKey for () {
    fn write_key(&self, _: &mut Vec<u8>) {}

    fn read_key(_: &mut &[u8]) -> Option<Self> {
        Some(())
    }
}

macro_rules! through_deref {
    ($($pointer:ty),*) => {
        $(impl<T: CacheKey + ?Sized> CacheKey for $pointer {
            fn write_key(&self, out: &mut Vec<u8>) {
                (**self).write_key(out);
            }
        })*
    };
}

through_deref!(&T, Box<T>, Arc<T>, Rc<T>);

impl<T: CacheKey + ToOwned + ?Sized> CacheKey for Cow<'_, T> {
    fn write_key(&self, out: &mut Vec<u8>) {
        (**self).write_key(out);
    }
}

macro_rules! tuples {
    ($($name:ident)+) => {
        impl<$($name: CacheKey),+> CacheKey for ($($name,)+) {
            #[expect(non_snake_case, reason = "the type parameters name the fields")]
            fn write_key(&self, out: &mut Vec<u8>) {
                let ($($name,)+) = self;
                $($name.write_key(out);)+
            }

            fn read_key(bytes: &mut &[u8]) -> Option<Self> {
                Some(($($name::read_key(bytes)?,)+))
            }
        }
    };
}

tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn different_keys_have_different_bytes(a in any::<(String, Vec<u8>, Option<u16>)>(), b in any::<(String, Vec<u8>, Option<u16>)>()) {
            prop_assert_eq!(a == b, a.key_bytes() == b.key_bytes());
        }

        #[test]
        fn a_key_is_read_as_it_was_written(
            key in any::<((String, Vec<u16>, Option<char>), (i8, bool, usize), [u64; 2], f64)>(), behind in any::<u8>(),
        ) {
            prop_assume!(!key.3.is_nan());
            let mut bytes = key.key_bytes();
            bytes.push(behind);
            let mut rest = &bytes[..];
            prop_assert_eq!(CacheKey::read_key(&mut rest), Some(key));
            prop_assert_eq!(rest, [behind]);
        }

        #[test]
        fn no_bytes_make_the_reading_of_a_key_panic_or_take_long(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = <(String, Vec<Vec<()>>, Option<char>)>::read_key(&mut &bytes[..]);
            let _ = <(Vec<String>, bool)>::read_key(&mut &bytes[..]);
        }
    }

    #[test]
    fn owned_and_borrowed_forms_have_the_same_bytes() {
        assert_eq!("ab".key_bytes(), String::from("ab").key_bytes());
        assert_eq!(vec![1_u8, 2].key_bytes(), [1_u8, 2][..].key_bytes());
    }
}
