//! The allowed arrows between crates, read from `cargo metadata`: siblings never depend on each other.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot read its input says so by panicking"
)]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

const SIBLINGS: [&str; 5] = ["perf-cache", "perf-pool", "perf-resilience", "perf-metrics", "perf-dbopt"];

/// What a crate may depend on inside the house, tests and benchmarks apart.
fn allowed(name: &str) -> BTreeSet<&'static str> {
    let core = ["perf-core"];
    let mut arrows = BTreeSet::new();
    match name {
        "perf-core" | "perf-cache-macros" => {}
        "perf-cache" => arrows.extend(["perf-core", "perf-cache-macros"]),
        "perf-pool" | "perf-resilience" | "perf-metrics" | "perf-dbopt" | "perf-testkit" => {
            arrows.extend(core);
        }
        "perf-load" => arrows.extend(["perf-core", "perf-metrics"]),
        "perf-http" => arrows.extend(core.into_iter().chain(SIBLINGS)),
        "perfkit" => arrows.extend(core.into_iter().chain(SIBLINGS).chain(["perf-http"])),
        "perfkit-examples" | "perfkit-benches" | "perfkit-tests" => {
            arrows.extend(core.into_iter().chain(SIBLINGS).chain([
                "perf-http",
                "perf-load",
                "perf-testkit",
                "perfkit",
            ]));
        }
        _ => panic!("`{name}` is not a crate of the house: give it its arrows here and in ARCHITECTURE.md"),
    }
    arrows
}

/// The dependencies of each crate on other crates of the house; those of tests and benchmarks apart.
fn edges(dev: bool) -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo metadata starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
            let house = dependencies
                .filter(|d| !d["path"].is_null() && (d["kind"] == "dev") == dev)
                .map(|d| text(&d["name"]))
                .collect();
            (text(&package["name"]), house)
        })
        .collect()
}

#[test]
fn every_crate_of_the_design_exists() {
    let house = edges(false);
    for name in SIBLINGS.into_iter().chain([
        "perf-core",
        "perf-cache-macros",
        "perf-http",
        "perf-load",
        "perf-testkit",
        "perfkit",
    ]) {
        assert!(house.contains_key(name), "{name} is missing");
    }
}

#[test]
fn crates_depend_only_along_the_allowed_arrows() {
    for (name, dependencies) in edges(false) {
        let allowed = allowed(&name);
        for dependency in dependencies {
            assert!(allowed.contains(dependency.as_str()), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn tests_of_a_library_use_only_itself_the_core_and_the_testkit() {
    for (name, dependencies) in edges(true) {
        if matches!(
            name.as_str(),
            "perfkit" | "perf-http" | "perfkit-examples" | "perfkit-benches" | "perfkit-tests"
        ) {
            continue;
        }
        for dependency in dependencies {
            let own = dependency == name || ["perf-core", "perf-testkit"].contains(&dependency.as_str());
            assert!(own, "the tests of {name} must not depend on {dependency}");
        }
    }
}
