//! Tests of the whole house; see the test targets.
