use perf_core::{InvalidConfig, Secret};
use perf_pool::balance::{Endpoint, Role};
use serde::Deserialize;

/// Another server with the data of a database, beside its `url`.
///
/// ```
/// use perfkit::pool::balance::Role;
///
/// let config = perfkit::Config::from_toml(r#"
///     [databases.orders]
///     url = "postgres://db-1/orders"
///     balance = { strategy = "p2c", tries = 2, slow_start = "20s", ejector = { consecutive = 3 } }
///
///     [[databases.orders.replicas]]
///     url = "postgres://db-2/orders"
///     weight = 2.0
///
///     [[databases.orders.replicas]]
///     name = "elsewhere"
///     url = "postgres://db-3/orders"
///     priority = 1
/// "#)?;
/// let replicas = &config.databases["orders"].replicas;
/// assert_eq!((replicas[0].role, replicas[0].weight, replicas[1].priority), (Role::Reader, 2.0, 1));
/// assert_eq!(config.databases["orders"].balance.tries, 2);
/// # Ok::<(), perfkit::ConfigError>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct EndpointConfig {
    /// What it is called in numbers. Default `replica-1`, `replica-2` and so on; `primary` is the database's own `url`.
    #[serde(default)]
    pub name: Option<String>,
    /// Where it is, of the same kind as the database's `url`. Never printed: it may hold a password.
    pub url: Secret<String>,
    /// What it may be used for until the server itself has been asked. Default `reader`.
    #[serde(default = "reader")]
    pub role: Role,
    /// Its share of the traffic, compared with the others. 0.001 to 1,000, default 1.
    #[serde(default = "one")]
    pub weight: f64,
    /// Its group: it is used only as those of lower numbers fail. Default 0, the group of the database's own `url`.
    #[serde(default)]
    pub priority: u32,
}

const fn reader() -> Role {
    Role::Reader
}

const fn one() -> f64 {
    1.0
}

impl EndpointConfig {
    /// The name of the endpoint that is the database's own `url`.
    pub const PRIMARY: &str = "primary";

    /// A reader at `url`, everything else as it comes.
    pub fn new(url: impl Into<String>) -> Self {
        Self { name: None, url: Secret::new(url.into()), role: reader(), weight: one(), priority: 0 }
    }

    /// The name it goes by as number `index` of the list.
    pub(crate) fn name_at(&self, index: usize) -> String {
        self.name.clone().unwrap_or_else(|| format!("replica-{}", index + 1))
    }

    #[cfg_attr(
        not(any(feature = "sqlite", feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "without a driver there is nothing to balance")
    )]
    pub(crate) fn endpoint(&self, index: usize) -> Endpoint {
        Endpoint::new(self.name_at(index)).weight(self.weight).priority(self.priority).role(self.role)
    }

    fn validate(&self, kind: &str) -> Result<(), InvalidConfig> {
        let scheme = scheme(self.url.expose());
        if kind_of(scheme) != kind_of(kind) {
            return Err(InvalidConfig::new(
                "url",
                format!("{scheme}:…"),
                format!("{kind}:…, as the database's own"),
            ));
        }
        if !(0.001..=1_000.0).contains(&self.weight) {
            return Err(InvalidConfig::new("weight", self.weight, "0.001 to 1000"));
        }
        Ok(())
    }
}

/// The part of a URL before the colon.
pub(crate) fn scheme(url: &str) -> &str {
    url.split_once(':').map_or("", |(scheme, _)| scheme)
}

fn kind_of(scheme: &str) -> &str {
    match scheme {
        "postgresql" => "postgres",
        "mariadb" => "mysql",
        other => other,
    }
}

/// Checks the list of a database at `url`: every field, and that names differ.
pub(super) fn validate(replicas: &[EndpointConfig], url: &str) -> Result<(), InvalidConfig> {
    let mut names = vec![EndpointConfig::PRIMARY.to_owned()];
    for (index, replica) in replicas.iter().enumerate() {
        let within = |error: InvalidConfig| error.within(&index.to_string());
        replica.validate(scheme(url)).map_err(within)?;
        let name = replica.name_at(index);
        if name.is_empty() || names.contains(&name) {
            return Err(within(InvalidConfig::new("name", name, "a name no other endpoint has")));
        }
        names.push(name);
    }
    Ok(())
}
