//! Finds what is slow, proves which index helps, applies it safely, and takes it back if it did not.
