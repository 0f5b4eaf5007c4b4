use perfkit::{Config, Stack};

fn refused(text: &str) -> String {
    Config::from_toml(text).unwrap_err().to_string()
}

#[test]
fn a_field_that_does_not_exist_is_named() {
    for (text, words) in [
        ("nmae = 'shop'", "nmae"),
        ("[http]\ntimeuot = '5s'", "timeuot"),
        ("[databases.orders]\nurl = 'sqlite::memory:'\npool = { maximum = 3 }", "maximum"),
        ("[caches.users]\npreset = 'balanced'\nttl = '5s'", "ttl"),
        ("[management]\nport = 1", "port"),
        ("[databases.orders]\nurl = 'sqlite::memory:'\nbalance = { stratgy = 'p2c' }", "stratgy"),
        ("[databases.orders]\nurl = 'sqlite::memory:'\nreplicas = [{ ulr = 'x' }]", "ulr"),
        ("[alerts.full]\nmetric = 'depth'", "alerts.full.above = nothing, allowed: a number"),
        (
            "[alerts.full]\nmetric = 'depth'\nabove = 1.0\nclear = 2.0",
            "alerts.full.clear = 2, allowed: at most 1",
        ),
        (
            "[objectives.o]\nbad = 'b'\ntotal = 't'\nobjective = 99.9",
            "objectives.o.objective = 99.9, allowed: above 0",
        ),
        #[cfg(feature = "webhook")]
        ("[webhook]\nurl = 'ftp://x'", "webhook.url = "),
        ("[scaling]\nreplicas = { minimum = 2 }", "minimum"),
    ] {
        let said = refused(text);
        assert!(said.contains(words), "{text}: {said}");
    }
}

#[test]
fn a_value_out_of_range_is_named_with_its_path_and_what_is_allowed() {
    let said = refused("[databases.orders]\nurl = 'sqlite::memory:'\npool = { max = 0 }");
    assert!(said.contains("databases.orders.pool.max = 0, allowed: 1 to 100000"), "{said}");
    let said = refused("[caches.users]\njitter = 1.5");
    assert!(said.contains("caches.users.jitter = 1.5, allowed: 0 to 1"), "{said}");
    let said =
        refused("[databases.orders]\nurl = 'sqlite::memory:'\nresilience.budget.kind.tokens.stop_at = 1.0");
    assert!(
        said.contains("databases.orders.resilience.budget.tokens.stop_at = 1, allowed: 0 to below 1"),
        "{said}"
    );
    let said = refused("[shutdown]\ntimeout = '2h'");
    assert!(said.contains("shutdown.timeout"), "{said}");
}

#[cfg(feature = "postgres")]
#[test]
fn how_indexes_are_created_and_tried_is_configured_and_refused_by_path_value_and_range() {
    let database = "[databases.o]\nurl = 'postgres://a/o'\n";
    let config = Config::from_toml(&format!(
        "{database}apply = {{ lock_timeout = '5s', window = '02:00-05:00', max_bytes = 1_000_000, deny = ['audit.log'] }}\n\
         trial = {{ min_time = '1h', verify = {{ min_calls = 50 }} }}"
    ))
    .unwrap();
    let (apply, trial) = (&config.databases["o"].apply, &config.databases["o"].trial);
    assert_eq!((apply.lock_timeout.as_secs(), apply.attempts, apply.max_bytes), (5, 5, Some(1_000_000)));
    assert_eq!(
        (apply.window.unwrap().to_string(), &*apply.deny),
        ("02:00-05:00".to_owned(), &["audit.log".to_owned()][..])
    );
    assert_eq!(
        (trial.min_time.as_secs(), trial.max_time.as_secs(), trial.verify.min_calls),
        (3600, 72 * 3600, 50)
    );
    // What the file says is what the applier takes.
    perfkit::dbopt::postgres::IndexApplier::new(apply.clone()).unwrap();
    for (text, words) in [
        ("apply = { lock_timeout = '2m' }", "databases.o.apply.lock_timeout = 120s, allowed: 1ms to 60s"),
        ("apply = { attempts = 0 }", "databases.o.apply.attempts = 0, allowed: 1 to 20"),
        ("apply = { max_per_table = 0 }", "databases.o.apply.max_per_table = 0, allowed: 1 or more"),
        ("apply = { deny = [''] }", "databases.o.apply.deny = , allowed: names of tables"),
        ("apply = { window = '25:00-26:00' }", "25:00-26:00"),
        ("apply = { force = true }", "force"),
        ("trial = { max_time = '1m' }", "databases.o.trial.max_time = 60s, allowed: at least min_time"),
        ("trial = { interval = '0s' }", "databases.o.trial.interval = 0s, allowed: more than zero"),
        (
            "trial = { verify = { min_calls = 1 } }",
            "databases.o.trial.verify.min_calls = 1, allowed: 2 or more",
        ),
        (
            "trial = { verify = { min_effect = 1.5 } }",
            "databases.o.trial.verify.min_effect = 1.5, allowed: 0 to 1",
        ),
        (
            "trial = { verify = { significance = nan } }",
            "databases.o.trial.verify.significance = NaN, allowed: above 0",
        ),
    ] {
        let said = refused(&format!("{database}{text}"));
        assert!(said.contains(words), "{text}: {said}");
    }
}

#[test]
fn endpoints_balancing_tuning_and_scaling_are_refused_by_path_value_and_range() {
    let database = "[databases.o]\nurl = 'postgres://scott:tiger@a/o'\n";
    for (text, words) in [
        ("balance = { slow_start_least = 2.0 }", "databases.o.balance.slow_start_least = 2, allowed: 0 to 1"),
        ("balance = { tries = 0 }", "databases.o.balance.tries = 0, allowed: at least 1"),
        (
            "balance = { ejector = { consecutive = 0 } }",
            "databases.o.balance.ejector.consecutive = 0, allowed: at least 1",
        ),
        (
            "replicas = [{ url = 'postgres://b/o', weight = 0.0 }]",
            "databases.o.replicas.0.weight = 0, allowed: 0.001 to 1000",
        ),
        (
            "replicas = [{ url = 'mysql://scott:tiger@b/o' }]",
            "databases.o.replicas.0.url = mysql:…, allowed: postgres:…, as the database's own",
        ),
        (
            "replicas = [{ url = 'postgres://b/o' }, { name = 'replica-1', url = 'postgres://c/o' }]",
            "databases.o.replicas.1.name = replica-1, allowed: a name no other endpoint has",
        ),
    ] {
        let said = refused(&format!("{database}{text}"));
        assert!(said.contains(words) && !said.contains("tiger"), "{text}: {said}");
    }
    for (text, words) in [
        ("[tuning]\ninterval = '10ms'", "tuning.interval = 10ms, allowed: 1s to 1d"),
        ("[scaling]\nreplicas = { min = 11 }", "scaling.replicas.min = 11, allowed: 1 to max, 10"),
        #[cfg(feature = "websocket")]
        ("[websockets.w]", "websockets.w.urls = none, allowed: at least one"),
        #[cfg(feature = "websocket")]
        ("[websockets.w]\nurls = ['http://x']", "websockets.w.urls = http:…, allowed: ws://host"),
        #[cfg(feature = "websocket")]
        (
            "[websockets.w]\nurls = ['wss://x']\nweb_roots = false",
            "websockets.w.web_roots = false, allowed: true, or a ca_file",
        ),
        #[cfg(feature = "websocket")]
        (
            "[websockets.w]\nurls = ['ws://x']\npool = { max = 0 }",
            "websockets.w.pool.max = 0, allowed: 1 to 10000",
        ),
        #[cfg(feature = "websocket")]
        ("[websockets.w]\nurls = ['ws://x']\nheaders = { 'a b' = 'c' }", "websockets.w.headers.header = a b"),
    ] {
        let said = refused(text);
        assert!(said.contains(words), "{text}: {said}");
    }
}

#[cfg(all(feature = "snapshots", feature = "sqlite", feature = "postgres", feature = "redis"))]
#[test]
fn backups_and_shared_rates_are_refused_by_path_value_and_range() {
    let databases = "[databases.o]\nurl = 'sqlite:o.db'\n[databases.p]\nurl = 'postgres://a:tiger@b/p'\n\
                     [databases.m]\nurl = 'mysql://a:tiger@b/m'\n[databases.n]\nurl = 'sqlite::memory:'\n";
    for (text, words) in [
        ("[snapshots.x]\ndirectory = '/b'", "snapshots.x.database = x, allowed: one of: m, n, o, p"),
        (
            "[snapshots.m]\ndirectory = '/b'",
            "snapshots.m.database = m, a mysql database, allowed: a SQLite file",
        ),
        (
            "[snapshots.n]\ndirectory = '/b'",
            "snapshots.n.database = n, a sqlite database, allowed: a SQLite file",
        ),
        ("[snapshots.o]\ndirectory = ''", "snapshots.o.directory = nothing"),
        (
            "[snapshots.o]\ndirectory = '/b'\n[snapshots.p]\ndirectory = '/b'",
            "snapshots.p.directory = /b, allowed: one that",
        ),
        ("[snapshots.o]\ndirectory = '/b'\nevery = '0s'", "snapshots.o.every = 0s, allowed: 1s to 366d"),
        (
            "[snapshots.o]\ndirectory = '/b'\ndrill_every = '1ms'",
            "snapshots.o.drill_every = 1ms, allowed: 1s to 366d",
        ),
        ("[snapshots.o]\ndirectory = '/b'\ncompress = 23", "snapshots.o.compress = 23, allowed: 1 to 22"),
        ("[snapshots.o]\ndirectory = '/b'\nkeep = { hourly = 3 }", "hourly"),
        ("[snapshots.o]\nevery = '1d'", "directory"),
        ("[shared_rates.r]", "shared_rates.r.redis = nothing, allowed: a URL here or in the section `cache`"),
        (
            "[shared_rates.r]\nredis = 'redis://:tiger@a'\nrate = { quota = { permits = 0, per = '1s', burst = 1 } }",
            "shared_rates.r.rate.quota.permits = 0, allowed: 1 and above",
        ),
    ] {
        let said = refused(&format!("{databases}{text}"));
        assert!(said.contains(words) && !said.contains("tiger"), "{text}: {said}");
    }
    let never = format!("{databases}[snapshots.o]\ndirectory = '/b'\ndrill_every = '0s'");
    assert_eq!(Config::from_toml(&never).unwrap().snapshots["o"].schedule().drill_every, None);
}

#[test]
fn a_text_that_is_not_toml_says_where() {
    assert!(refused("[http\n").contains("line 1"), "{}", refused("[http\n"));
}

#[test]
fn a_secret_is_never_part_of_a_message() {
    let text = "[databases.orders]\nurl = 'oracle://scott:tiger@db/orders'";
    let config = Config::from_toml(text).unwrap();
    assert!(!format!("{config:?}").contains("tiger"));
}

#[tokio::test]
async fn a_database_of_an_unknown_kind_is_refused_with_the_kinds_there_are() {
    let config = Config::from_toml("[databases.orders]\nurl = 'oracle://scott:tiger@db/orders'").unwrap();
    let said = Stack::new(config).await.unwrap_err().to_string();
    assert!(said.contains("`orders`") && said.contains("`oracle`") && !said.contains("tiger"), "{said}");
}
