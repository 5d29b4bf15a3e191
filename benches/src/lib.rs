//! baton-benches
