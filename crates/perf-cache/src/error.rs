//! Why a load gave no value.

use perf_core::Rejected;
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Why a read-through gave no value. Every caller that joined the load gets the same one.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError<E> {
    /// The loader failed with this error.
    Load(Arc<E>),
    /// A loader of another call site, joined for the same key, failed with another type of error; this is its message.
    Foreign(Arc<str>),
    /// The loader panicked with this message.
    Panicked(Arc<str>),
    /// The value was not there in time. The load goes on and its value will be stored.
    Timeout(Rejected),
    /// Too many loads are running.
    Overloaded(Rejected),
    /// The loader asked for the very key it is loading.
    Recursive,
    /// The source has nothing under this key, and the caller asked for a value.
    Missing,
    /// The runtime is shutting down.
    Shutdown(Rejected),
}

impl<E> LoadError<E> {
    /// The loader's own error, if that is what it was.
    #[must_use]
    pub fn load(&self) -> Option<&E> {
        match self {
            Self::Load(error) => Some(error),
            _ => None,
        }
    }

    /// The refusal, if the cache refused or gave up waiting.
    #[must_use]
    pub const fn rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Timeout(rejected) | Self::Overloaded(rejected) | Self::Shutdown(rejected) => Some(rejected),
            _ => None,
        }
    }

    /// Whether the value was not there in time.
    #[must_use]
    pub const fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout(_))
    }

    /// Whether the source has nothing under this key.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }
}

impl<E> Clone for LoadError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Load(error) => Self::Load(Arc::clone(error)),
            Self::Foreign(message) => Self::Foreign(Arc::clone(message)),
            Self::Panicked(message) => Self::Panicked(Arc::clone(message)),
            Self::Timeout(rejected) => Self::Timeout(rejected.clone()),
            Self::Overloaded(rejected) => Self::Overloaded(rejected.clone()),
            Self::Recursive => Self::Recursive,
            Self::Missing => Self::Missing,
            Self::Shutdown(rejected) => Self::Shutdown(rejected.clone()),
        }
    }
}

impl<E: fmt::Display> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(error) => write!(f, "the loader failed: {error}"),
            Self::Foreign(message) => write!(f, "the joined loader failed: {message}"),
            Self::Panicked(message) => write!(f, "the loader panicked: {message}"),
            Self::Timeout(rejected) | Self::Overloaded(rejected) | Self::Shutdown(rejected) => {
                rejected.fmt(f)
            }
            Self::Recursive => f.write_str("the loader asked for the key it is loading"),
            Self::Missing => f.write_str("the source has nothing under this key"),
        }
    }
}

impl<E: Error + 'static> Error for LoadError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Load(error) => Some(&**error),
            Self::Timeout(rejected) | Self::Overloaded(rejected) | Self::Shutdown(rejected) => Some(rejected),
            Self::Foreign(_) | Self::Panicked(_) | Self::Recursive | Self::Missing => None,
        }
    }
}

/// The same before the error type of a caller is known: one flight serves call sites with different ones.
#[derive(Clone, Debug)]
#[doc(hidden)]
#[non_exhaustive]
pub enum Failure {
    Load(Erased),
    Panicked(Arc<str>),
    Timeout(Rejected),
    Overloaded(Rejected),
    Recursive,
    Missing,
    Shutdown(Rejected),
}

/// An error of any type, with its message.
#[derive(Clone, Debug)]
#[doc(hidden)]
pub struct Erased {
    pub(crate) error: Arc<dyn Any + Send + Sync>,
    pub(crate) message: Arc<str>,
}

impl Erased {
    pub(crate) fn new<E: fmt::Display + Send + Sync + 'static>(error: E) -> Self {
        Self { message: error.to_string().into(), error: Arc::new(error) }
    }
}

impl Failure {
    pub(crate) fn typed<E: Send + Sync + 'static>(self) -> LoadError<E> {
        match self {
            Self::Load(Erased { error, message }) => match error.downcast() {
                Ok(error) => LoadError::Load(error),
                Err(_) => LoadError::Foreign(message),
            },
            Self::Panicked(message) => LoadError::Panicked(message),
            Self::Timeout(rejected) => LoadError::Timeout(rejected),
            Self::Overloaded(rejected) => LoadError::Overloaded(rejected),
            Self::Recursive => LoadError::Recursive,
            Self::Missing => LoadError::Missing,
            Self::Shutdown(rejected) => LoadError::Shutdown(rejected),
        }
    }

    /// The message for whoever is served a stale value instead.
    pub(crate) fn message(&self) -> Arc<str> {
        match self {
            Self::Load(erased) => Arc::clone(&erased.message),
            Self::Panicked(message) => Arc::clone(message),
            Self::Timeout(rejected) | Self::Overloaded(rejected) | Self::Shutdown(rejected) => {
                rejected.to_string().into()
            }
            Self::Recursive => "the loader asked for the key it is loading".into(),
            Self::Missing => "the source has nothing under this key".into(),
        }
    }
}
