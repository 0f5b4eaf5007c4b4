//! Configuration as a file says it.

use perf_http::manage::ManagementConfig;
use perf_http::{RateLimit, RateLimitConfig, Standard, StandardConfig};
use serde_json::json;
use std::time::Duration;

#[test]
fn a_stack_is_read_from_a_file() {
    let text = json!({
        "timeout": "2s",
        "body_limit": 4096,
        "trusted_proxies": ["10.0.0.0/8"],
        "rate_limit": { "quotas": [{ "name": "api", "count": 50, "per": "1s", "burst": 100 }], "max_keys": 1000 },
    });
    let config: StandardConfig = serde_json::from_value(text).unwrap();
    config.validate().unwrap();
    assert_eq!((config.timeout, config.server_timing), (Duration::from_secs(2), true));
    let stack = Standard::builder("shop").config(config.clone()).build().unwrap();
    assert!(stack.rate_limit().is_some());
    let written: StandardConfig = serde_json::from_value(serde_json::to_value(&config).unwrap()).unwrap();
    assert_eq!(written, config);
}

#[test]
fn nothing_said_is_the_default() {
    let config: StandardConfig = serde_json::from_value(json!({})).unwrap();
    assert_eq!(config, StandardConfig::default());
    assert!(Standard::builder("shop").config(config).build().unwrap().rate_limit().is_none());
}

#[test]
fn fields_nobody_knows_are_refused() {
    for text in [json!({ "timeuot": "2s" }), json!({ "rate_limit": { "quota": [] } })] {
        assert!(
            serde_json::from_value::<StandardConfig>(text).unwrap_err().to_string().contains("unknown field")
        );
    }
    assert!(serde_json::from_value::<ManagementConfig>(json!({ "open": true })).is_err());
}

#[test]
fn values_out_of_range_are_named_where_they_stand() {
    let field = |text| {
        let config: StandardConfig = serde_json::from_value(text).unwrap();
        config.validate().unwrap_err().field().to_owned()
    };
    assert_eq!(field(json!({ "timeout": "0s" })), "timeout");
    assert_eq!(field(json!({ "trusted_proxies": ["everybody"] })), "trusted_proxies");
    assert_eq!(field(json!({ "rate_limit": { "max_keys": 0 } })), "rate_limit.max_keys");
    let quota = json!({ "name": "api", "count": 0, "per": "1s" });
    assert_eq!(field(json!({ "rate_limit": { "quotas": [quota] } })), "rate_limit.quotas.api.count");
}

#[test]
fn a_token_is_read_and_never_said_again() {
    let config: ManagementConfig =
        serde_json::from_value(json!({ "address": "127.0.0.1:9000", "token": "short-secret" })).unwrap();
    let error = config.validate().unwrap_err();
    assert_eq!(error.field(), "token");
    assert!(!format!("{error} {config:?}").contains("short-secret"));
}

#[test]
fn a_limit_is_read_from_a_file() {
    let text =
        json!({ "quotas": [{ "name": "api", "count": 1, "per": "1s" }], "trusted_proxies": ["10.0.0.1"] });
    let config: RateLimitConfig = serde_json::from_value(text).unwrap();
    config.validate().unwrap();
    assert!(RateLimit::builder("api").config(&config).unwrap().build().is_ok());
}
