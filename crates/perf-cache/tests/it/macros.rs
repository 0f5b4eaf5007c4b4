//! What `#[cached]` makes of a function. What it refuses is tested beside it.

use perf_cache::{Cache, CacheConfig, CacheSpace, Entries, LoadError, cached, tag};
use perf_core::time;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// A source that counts how often it was asked, and the caches in front of it.
struct Db {
    asked: AtomicU32,
    space: CacheSpace,
    users: Cache<u64, String>,
    pages: Cache<(u32, String), u32>,
}

impl Db {
    fn new() -> Arc<Self> {
        let space = CacheSpace::in_process("t");
        let users = space.cache("users").capacity(Entries(100)).build().unwrap();
        let pages = space.cache("pages").capacity(Entries(100)).build().unwrap();
        Arc::new(Self { asked: AtomicU32::new(0), space, users, pages })
    }

    async fn ask(&self) -> u32 {
        time::sleep(Duration::from_millis(10)).await;
        self.asked.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

#[cached(cache = "db.users", key(id), tags("org:{org}", "users"))]
async fn user(db: Arc<Db>, id: u64, mut org: u32) -> Result<String, String> {
    let nth = db.ask().await;
    org += 1;
    if id == 0 { Err(format!("nobody in {org}")) } else { Ok(format!("user {id}, answer {nth}")) }
}

#[cached(cache = db.pages, key(tenant, path))]
async fn page<S>(path: String, db: Arc<Db>, suffix: S, tenant: u32) -> Result<u32, String>
where
    S: AsRef<str> + Send + 'static,
{
    let nth = db.ask().await;
    Ok(nth * 100
        + tenant
        + u32::try_from(path.len() + suffix.as_ref().len()).map_err(|error| error.to_string())?)
}

static SPACE: LazyLock<CacheSpace> = LazyLock::new(|| CacheSpace::in_process("made"));
static CALLS: AtomicU32 = AtomicU32::new(0);

#[cached(
    space = "SPACE",
    namespace = "doubled",
    config = "CacheConfig::conservative()",
    key(number),
    tags("doubled")
)]
async fn doubled(number: u32) -> Result<u32, String> {
    CALLS.fetch_add(1, Ordering::Relaxed);
    Ok(number * 2)
}

#[tokio::test(start_paused = true)]
async fn a_namespace_makes_a_cache_of_its_own_with_its_own_settings() {
    assert_eq!((*doubled(4).await.unwrap(), *doubled(4).await.unwrap()), (8, 8));
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
    assert_eq!(doubled::cache().name().as_str(), "made.doubled");
    assert_eq!(doubled::cache().config(), &CacheConfig::conservative());
    assert!(SPACE.cache::<u32, u32>("doubled").build().is_err(), "the name is taken");
    doubled::invalidate(&4).await;
    assert_eq!((*doubled(4).await.unwrap(), CALLS.load(Ordering::Relaxed)), (8, 2));
    SPACE.invalidate_tags([tag!("doubled")]).await;
    assert_eq!((*doubled(4).await.unwrap(), CALLS.load(Ordering::Relaxed)), (8, 3));
}

#[tokio::test(start_paused = true)]
async fn many_calls_of_one_key_run_the_body_once() {
    let db = Db::new();
    let calls: Vec<_> = (0..100).map(|_| tokio::spawn(user(Arc::clone(&db), 7, 1))).collect();
    for call in calls {
        assert_eq!(*call.await.unwrap().unwrap(), "user 7, answer 1");
    }
    assert_eq!(*user(Arc::clone(&db), 8, 1).await.unwrap(), "user 8, answer 2");
    let hit = user(Arc::clone(&db), 7, 1).await.unwrap();
    assert_eq!((hit.key(), db.asked()), (&7, 2));
}

#[tokio::test(start_paused = true)]
async fn each_tag_invalidates_the_values_whose_arguments_wrote_it() {
    let db = Db::new();
    for (id, org) in [(7, 1), (8, 2)] {
        user(Arc::clone(&db), id, org).await.unwrap();
    }
    db.space.invalidate_tags([tag!("org", 1)]).await;
    assert_eq!(*user(Arc::clone(&db), 7, 1).await.unwrap(), "user 7, answer 3");
    assert_eq!(*user(Arc::clone(&db), 8, 2).await.unwrap(), "user 8, answer 2");
    db.space.invalidate_tags([tag!("users")]).await;
    assert_eq!(*user(Arc::clone(&db), 8, 2).await.unwrap(), "user 8, answer 4");
}

#[tokio::test(start_paused = true)]
async fn a_tag_invalidated_while_the_body_runs_keeps_its_value_out() {
    let db = Db::new();
    let call = tokio::spawn(user(Arc::clone(&db), 7, 1));
    time::sleep(Duration::from_millis(5)).await;
    db.space.invalidate_tags([tag!("org", 1)]).await;
    assert_eq!(*call.await.unwrap().unwrap(), "user 7, answer 1");
    assert!(db.users.get(&7).is_none());
}

#[tokio::test(start_paused = true)]
async fn invalidating_a_key_removes_its_value_alone() {
    let db = Db::new();
    for id in [7, 8] {
        user(Arc::clone(&db), id, 1).await.unwrap();
    }
    assert!(user::invalidate(&db, &7).await.acked);
    assert!(db.users.get(&7).is_none() && db.users.get(&8).is_some());
    assert_eq!(*user(Arc::clone(&db), 7, 1).await.unwrap(), "user 7, answer 3");
}

#[tokio::test(start_paused = true)]
async fn uncached_runs_each_time_and_stores_nothing() {
    let db = Db::new();
    for nth in 1..=2 {
        assert_eq!(user::uncached(Arc::clone(&db), 7, 1).await, Ok(format!("user 7, answer {nth}")));
    }
    assert!(db.users.get(&7).is_none());
    user(Arc::clone(&db), 7, 1).await.unwrap();
    assert_eq!(user::uncached(Arc::clone(&db), 7, 1).await.unwrap(), "user 7, answer 4");
    assert_eq!(*user(db, 7, 1).await.unwrap(), "user 7, answer 3");
}

#[tokio::test(start_paused = true)]
async fn errors_pass_through_and_are_not_remembered() {
    let db = Db::new();
    for nth in 1..=2 {
        let error = user(Arc::clone(&db), 0, 4).await.unwrap_err();
        assert!(matches!(error, LoadError::Load(error) if *error == "nobody in 5"));
        assert_eq!(db.asked(), nth);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_leaves_its_load_to_the_next() {
    let db = Db::new();
    let patience = Duration::from_millis(1);
    assert!(time::timeout(patience, user(Arc::clone(&db), 7, 1)).await.is_err());
    assert_eq!(*user(Arc::clone(&db), 7, 1).await.unwrap(), "user 7, answer 1");
}

#[tokio::test(start_paused = true)]
async fn several_parts_make_a_tuple_and_type_parameters_stay() {
    let db = Db::new();
    let path = || String::from("/a");
    assert_eq!(*page(path(), Arc::clone(&db), "xyz", 3).await.unwrap(), 108);
    assert_eq!(*page(path(), Arc::clone(&db), String::new(), 3).await.unwrap(), 108);
    assert_eq!(db.pages.get(&(3, path())).as_deref(), Some(&108));
    page::invalidate(&path(), &db, &3).detach();
    assert_eq!(*page(path(), Arc::clone(&db), "xyz", 3).await.unwrap(), 208);
}

#[tokio::test(start_paused = true)]
async fn a_function_without_arguments_in_a_function_has_one_value() {
    static SPACE: LazyLock<CacheSpace> = LazyLock::new(|| CacheSpace::in_process("one"));
    static RATES: LazyLock<Cache<(), u32>> = LazyLock::new(|| SPACE.cache("rates").build().unwrap());
    static ASKED: AtomicU32 = AtomicU32::new(0);

    #[cached(cache = RATES, key())]
    #[expect(clippy::let_and_return, reason = "an expectation is met where the body went, and nowhere else")]
    async fn rate() -> Result<u32, String> {
        let asked = Ok(ASKED.fetch_add(1, Ordering::Relaxed));
        asked
    }

    assert_eq!((*rate().await.unwrap(), *rate().await.unwrap()), (0, 0));
    rate::invalidate().await;
    assert_eq!(*rate().await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn arguments_may_have_any_name_and_perf_cache_may_be_elsewhere() {
    mod facade {
        pub(super) use perf_cache as cache;
    }

    #[cached(crate = facade::cache, cache = cache, key(key, context), tags("{load}:{tags}"))]
    async fn sum(cache: Cache<(u8, u8), u8>, key: u8, context: u8, load: u8, tags: u8) -> Result<u8, String> {
        Ok(key + context + load + tags + u8::from(cache.loading() == 0))
    }

    let space = CacheSpace::in_process("t");
    let sums: Cache<(u8, u8), u8> = space.cache("sums").build().unwrap();
    assert_eq!(*sum(sums.clone(), 1, 2, 3, 4).await.unwrap(), 10);
    assert!(sums.contains(&(1, 2)));
    space.invalidate_tags([tag!(3, 4)]).await;
    assert!(!sums.contains(&(1, 2)));
    sum(sums.clone(), 1, 2, 3, 4).await.unwrap();
    sum::invalidate(&sums, &1, &2).await;
    assert!(!sums.contains(&(1, 2)));
}
