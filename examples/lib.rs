//! The examples share nothing: each is one file, or one folder, that stands alone.
