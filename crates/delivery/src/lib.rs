//! baton-delivery
