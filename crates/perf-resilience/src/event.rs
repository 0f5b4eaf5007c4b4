use std::fmt;
use std::sync::Arc;

/// Where a policy pushes its rare events. Called outside every lock, on the thread that caused the event; it must not
/// block.
pub(crate) struct Listener<E>(Option<Arc<Callback<E>>>);

type Callback<E> = dyn Fn(&E) + Send + Sync;

impl<E> Listener<E> {
    pub(crate) fn new(listener: impl Fn(&E) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listener)))
    }

    pub(crate) fn tell(&self, event: &E) {
        if let Some(listener) = &self.0 {
            listener(event);
        }
    }
}

impl<E> Clone for Listener<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E> Default for Listener<E> {
    fn default() -> Self {
        Self(None)
    }
}

impl<E> fmt::Debug for Listener<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Listener" } else { "no Listener" })
    }
}
