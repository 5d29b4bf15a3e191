//! baton-raft-storage
