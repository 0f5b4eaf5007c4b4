//! Numbers that are right, alerts that can be trusted, advice that explains itself.
