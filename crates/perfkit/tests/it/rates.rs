//! Rates that instances share, by configuration.

use perf_testkit::RedisServer;
use perfkit::{Config, Stack};

#[tokio::test]
async fn instances_share_one_rate_for_each_key_through_the_redis_of_the_caches_or_another() {
    let server = RedisServer::start().await.unwrap();
    let rate = "rate = { quota = { permits = 3, per = '1h', burst = 3 }, timeout = '5s' }";
    let text = format!(
        "[cache]\nredis = '{url}'\n[shared_rates.logins]\n{rate}\n[shared_rates.other]\nredis = '{url}'\n{rate}",
        url = server.url()
    );
    let instance = async || Stack::new(Config::from_toml(&text).unwrap()).await.unwrap();
    let instances = [instance().await, instance().await];
    for name in ["logins", "other"] {
        let mut admitted = 0;
        for round in 0..6 {
            let limit = instances[round % 2].shared_rate(name).unwrap();
            admitted += usize::from(limit.try_acquire("ada", 1).await.is_ok());
        }
        assert_eq!(admitted, 3, "three for both together");
        instances[0].shared_rate(name).unwrap().try_acquire("bob", 1).await.unwrap();
    }
    let page = instances[0].metrics().text();
    assert!(page.contains(r#"perf_resilience_rate_refused_total{name="logins"}"#), "{page}");
    let error = instances[0].shared_rate("none").unwrap_err().to_string();
    assert!(error.contains("`shared_rates.none` in the configuration; there are: logins, other"), "{error}");
    for stack in instances {
        stack.close().await;
    }
}

#[tokio::test]
async fn a_place_that_is_no_redis_is_refused_without_its_password() {
    let text = "[shared_rates.logins]\nredis = 'http://u:hunter2@a'";
    let error = Stack::new(Config::from_toml(text).unwrap()).await.unwrap_err().to_string();
    assert!(error.contains("shared_rates.logins.redis = ***") && !error.contains("hunter2"), "{error}");
}
