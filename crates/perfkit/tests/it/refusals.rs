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
    let said = refused("[shutdown]\ntimeout = '2h'");
    assert!(said.contains("shutdown.timeout"), "{said}");
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
