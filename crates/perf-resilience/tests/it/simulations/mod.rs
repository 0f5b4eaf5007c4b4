//! The simulations of the design: what backoff does under contention, what hedging does to a tail, how retries multiply
//! through layers, and whether an adaptive limit keeps a server at work through its bad days.

mod amplification;
mod contention;
mod hedging;
mod loadshed;
