use perf_core::InvalidConfig;

/// A tenth: below the spare capacity of any service that is not about to fall over anyway.
pub const DEFAULT_BUDGET_RATIO: f64 = 0.1;
/// What may be saved up: a hundred extra calls cover a short outage of a busy service.
pub const DEFAULT_BUDGET_CAP: u32 = 100;
/// One retry a second is harmless to anything, and all that a service with little traffic ever needs.
pub const DEFAULT_BUDGET_RESERVE: u32 = 1;
/// One extra call for every five in flight, as Envoy has it.
pub const DEFAULT_BUDGET_SHARE: f64 = 0.2;
/// Three extra calls at once, however few calls are in flight, as Envoy has it.
pub const DEFAULT_BUDGET_FLOOR: u32 = 3;

/// The largest cap, reserve, floor and capacity.
const MOST: u32 = 1_000_000;

/// What a budget counts.
///
/// By ratio bounds amplification over time whatever happens, which is why it is the default. By calls in flight bounds the
/// load at each moment and needs no warming up, but lets slow failures be retried more often than quick ones. By tokens
/// reacts to results: cheap while calls succeed, shut while they fail.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum BudgetKind {
    /// Each call pays for a share of an extra one: `ratio`, `cap` and `min_per_sec` of [`BudgetConfig`].
    #[default]
    Ratio,
    /// Extra calls may be so large a share of the calls in flight.
    InFlight(InFlight),
    /// Extra calls and failures cost tokens, and successes bring some back.
    Tokens(Tokens),
}

/// How many extra calls may be under way beside the calls in flight.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct InFlight {
    /// Extra calls for each call in flight, 0 to 1, rounded down; default [`DEFAULT_BUDGET_SHARE`].
    pub share: f64,
    /// So many are allowed in any case, at most a million; default [`DEFAULT_BUDGET_FLOOR`].
    pub floor: u32,
}

impl Default for InFlight {
    fn default() -> Self {
        Self { share: DEFAULT_BUDGET_SHARE, floor: DEFAULT_BUDGET_FLOOR }
    }
}

/// What things cost in a bucket of tokens, which begins full. All numbers are tokens, 0 to a million, exact to a
/// millionth.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct Tokens {
    /// The bucket holds so many, 1 to a million; default 500.
    pub capacity: u32,
    /// An extra call after a failure, or a hedge; default 5.
    pub retry: f64,
    /// An extra call after an attempt that ran out of time; default 10.
    pub timeout: f64,
    /// An extra call after the dependency said that it is overloaded; default 5.
    pub overload: f64,
    /// Every request that fails, tried again or not; default 0.
    pub failure: f64,
    /// What a call that succeeds brings; default 1.
    pub success: f64,
    /// Whether a call that an extra one saved gets back what that one cost, instead of `success`; default yes.
    pub refund: bool,
    /// Nothing is paid while no more than this share of the bucket is left, 0 to below 1; default 0.
    pub stop_at: f64,
}

impl Tokens {
    /// As the SDKs of AWS: 500 tokens, of which a retry takes 5, after a timeout 10; a success brings 1, and one that a
    /// retry brought about brings back what the retry took.
    #[must_use]
    pub const fn aws() -> Self {
        Self {
            capacity: 500,
            retry: 5.0,
            timeout: 10.0,
            overload: 5.0,
            failure: 0.0,
            success: 1.0,
            refund: true,
            stop_at: 0.0,
        }
    }

    /// As gRPC throttles retries: ten tokens, of which every failure takes one and every success brings back a tenth;
    /// retries themselves cost nothing, but there are none while half of the bucket or less is left.
    #[must_use]
    pub const fn grpc() -> Self {
        Self {
            capacity: 10,
            retry: 0.0,
            timeout: 0.0,
            overload: 0.0,
            failure: 1.0,
            success: 0.1,
            refund: false,
            stop_at: 0.5,
        }
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Self::aws()
    }
}

/// What a configuration file can say about a budget.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct BudgetConfig {
    /// What it counts; default [`BudgetKind::Ratio`], the only kind that looks at the other fields.
    pub kind: BudgetKind,
    /// Extra calls each call pays for, 0 to 10; default [`DEFAULT_BUDGET_RATIO`].
    pub ratio: f64,
    /// How many extra calls can be saved up, at most a million; default [`DEFAULT_BUDGET_CAP`].
    pub cap: u32,
    /// Extra calls a second that cost nothing, at most a million; default [`DEFAULT_BUDGET_RESERVE`].
    pub min_per_sec: u32,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self {
            kind: BudgetKind::Ratio,
            ratio: DEFAULT_BUDGET_RATIO,
            cap: DEFAULT_BUDGET_CAP,
            min_per_sec: DEFAULT_BUDGET_RESERVE,
        }
    }
}

impl BudgetConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if !(0.0..=10.0).contains(&self.ratio) {
            return Err(InvalidConfig::new("ratio", self.ratio, "0 to 10"));
        }
        for (field, value) in [("cap", self.cap), ("min_per_sec", self.min_per_sec)] {
            if value > MOST {
                return Err(InvalidConfig::new(field, value, "0 to 1000000"));
            }
        }
        match &self.kind {
            BudgetKind::Ratio => Ok(()),
            BudgetKind::InFlight(in_flight) => in_flight.validate().map_err(|e| e.within("in_flight")),
            BudgetKind::Tokens(tokens) => tokens.validate().map_err(|e| e.within("tokens")),
        }
    }
}

impl InFlight {
    fn validate(&self) -> Result<(), InvalidConfig> {
        if !(0.0..=1.0).contains(&self.share) {
            return Err(InvalidConfig::new("share", self.share, "0 to 1"));
        }
        if self.floor > MOST {
            return Err(InvalidConfig::new("floor", self.floor, "0 to 1000000"));
        }
        Ok(())
    }
}

impl Tokens {
    fn validate(&self) -> Result<(), InvalidConfig> {
        if !(1..=MOST).contains(&self.capacity) {
            return Err(InvalidConfig::new("capacity", self.capacity, "1 to 1000000"));
        }
        for (field, tokens) in [
            ("retry", self.retry),
            ("timeout", self.timeout),
            ("overload", self.overload),
            ("failure", self.failure),
            ("success", self.success),
        ] {
            if !(0.0..=f64::from(MOST)).contains(&tokens) {
                return Err(InvalidConfig::new(field, tokens, "0 to 1000000"));
            }
        }
        if !(0.0..1.0).contains(&self.stop_at) {
            return Err(InvalidConfig::new("stop_at", self.stop_at, "0 to below 1"));
        }
        Ok(())
    }
}
