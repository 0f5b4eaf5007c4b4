use super::state::Series;
use super::{OTHER, UNMATCHED};
use http::Method;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The known methods, and the label that all others share: a client may invent methods.
pub(super) const METHODS: [&str; 10] =
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "_OTHER"];

/// Where a method stands in [`METHODS`].
pub(super) fn method_index(method: &Method) -> u8 {
    match *method {
        Method::CONNECT => 0,
        Method::DELETE => 1,
        Method::GET => 2,
        Method::HEAD => 3,
        Method::OPTIONS => 4,
        Method::PATCH => 5,
        Method::POST => 6,
        Method::PUT => 7,
        Method::TRACE => 8,
        _ => 9,
    }
}

/// The series of one route template, a method at a time.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) template: Box<str>,
    pub(super) methods: [OnceLock<Box<Series>>; METHODS.len()],
}

impl Route {
    fn new(template: &str) -> Self {
        Self { template: template.into(), methods: Default::default() }
    }
}

/// Which route a request belongs to: its slot in [`Routes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RouteId(u32);

/// The route templates seen so far: an open-addressing table that only grows, so that a look-up takes no lock.
#[derive(Debug)]
pub(super) struct Routes {
    unmatched: Route,
    other: Route,
    slots: Box<[OnceLock<Route>]>,
    used: AtomicUsize,
    limit: usize,
}

impl Routes {
    const UNMATCHED_ID: RouteId = RouteId(u32::MAX);
    const OTHER_ID: RouteId = RouteId(u32::MAX - 1);

    pub(super) fn new(limit: usize) -> Self {
        // Half empty at the limit, so that a probe ends soon and always ends.
        let slots = (limit * 2).next_power_of_two().max(2);
        Self {
            unmatched: Route::new(UNMATCHED),
            other: Route::new(OTHER),
            slots: (0..slots).map(|_| OnceLock::new()).collect(),
            used: AtomicUsize::new(0),
            limit,
        }
    }

    /// The slot of `template`, which is made on its first use; `None` is a request without a route.
    pub(super) fn id_of(&self, template: Option<&str>) -> RouteId {
        let Some(template) = template else { return Self::UNMATCHED_ID };
        let mask = self.slots.len() - 1;
        let start = hash(template.as_bytes()) as usize;
        for step in 0..self.slots.len() {
            let index = start.wrapping_add(step) & mask;
            let found = match self.slots[index].get() {
                Some(route) => route,
                None if self.used.load(Ordering::Relaxed) >= self.limit => return Self::OTHER_ID,
                None => self.slots[index].get_or_init(|| {
                    self.used.fetch_add(1, Ordering::Relaxed);
                    Route::new(template)
                }),
            };
            if *found.template == *template {
                return RouteId(index as u32);
            }
        }
        Self::OTHER_ID
    }

    pub(super) fn get(&self, id: RouteId) -> &Route {
        match id {
            Self::UNMATCHED_ID => &self.unmatched,
            // Slots are never emptied, so the fallback is never taken for an id that `id_of` gave.
            RouteId(index) => self.slots.get(index as usize).and_then(OnceLock::get).unwrap_or(&self.other),
        }
    }

    /// How many templates have a slot.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Every route, in order of template.
    pub(super) fn all(&self) -> Vec<&Route> {
        let named = self.slots.iter().filter_map(OnceLock::get);
        let mut routes: Vec<_> = named.chain([&self.unmatched, &self.other]).collect();
        routes.sort_by(|a, b| a.template.cmp(&b.template));
        routes
    }
}

/// A multiplicative hash, eight bytes at a time. Templates are the program's own, so nobody can flood the table.
#[inline]
fn hash(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut state = bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = (state.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR);
    }
    // The last eight bytes again, some of them twice, are read faster than the one to seven that are left.
    let tail = match (bytes.last_chunk::<8>(), rest) {
        (_, []) => 0,
        (Some(last), _) => u64::from_le_bytes(*last),
        (None, rest) => rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    state = (state.rotate_left(5) ^ tail).wrapping_mul(FACTOR);
    state ^ (state >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_keeps_its_slot() {
        let routes = Routes::new(100);
        let ids: Vec<_> = (0..100).map(|n| routes.id_of(Some(&format!("/orders/{n}")))).collect();
        for (n, id) in ids.into_iter().enumerate() {
            let template = format!("/orders/{n}");
            assert_eq!(routes.id_of(Some(&template)), id);
            assert_eq!(*routes.get(id).template, *template);
        }
    }

    #[test]
    fn templates_beyond_the_limit_share_one_label() {
        let routes = Routes::new(2);
        for n in 0..50 {
            routes.id_of(Some(&format!("/r{n}")));
        }
        assert_eq!(routes.used(), 2);
        assert_eq!(&*routes.get(routes.id_of(Some("/r49"))).template, OTHER);
        assert_eq!(&*routes.get(routes.id_of(Some("/r0"))).template, "/r0");
        assert_eq!(routes.all().len(), 4);
    }

    #[test]
    fn two_threads_make_one_slot_of_one_template() {
        let routes = Routes::new(64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..64 {
                        routes.id_of(Some(&format!("/r{n}")));
                    }
                });
            }
        });
        assert_eq!(routes.used(), 64);
    }

    #[test]
    fn methods_are_known_or_other() {
        for (index, name) in METHODS.iter().enumerate() {
            let method = Method::from_bytes(name.as_bytes()).unwrap();
            assert_eq!(usize::from(method_index(&method)), index);
        }
        assert_eq!(method_index(&Method::from_bytes(b"HACK").unwrap()), 9);
    }
}
