//! baton-consensus
