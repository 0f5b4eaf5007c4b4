/// What `full` and the default bring along, looked up to the last.
fn features_of(name: &str) -> Vec<&'static str> {
    let manifest = include_str!("../../Cargo.toml");
    let line = manifest.lines().find(|line| line.starts_with(&format!("{name} = ["))).unwrap();
    line.split('"').skip(1).step_by(2).collect()
}

#[test]
fn unmaintained_crates_and_chaos_are_in_no_tree_that_did_not_ask_for_them() {
    for tree in ["default", "full"] {
        for feature in features_of(tree) {
            assert!(!["backoff", "chaos"].contains(&feature), "{tree}");
            let brings = features_of(feature);
            assert!(!brings.iter().any(|part| part.contains("backoff")), "{feature}");
        }
    }
    assert_eq!(features_of("backoff"), ["dep:backoff"]);
    assert!(include_str!("../../Cargo.toml").contains("backoff = { workspace = true, optional = true }"));
}
