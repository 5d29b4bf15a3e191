//! Shares of the posts of a node: what one host and one workspace may have under way at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// What is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Holder {
    Host(Arc<str>),
    Workspace(Arc<str>),
}

/// One for the whole node.
#[derive(Debug)]
pub(crate) struct Shares {
    host_max: usize,
    workspace_max: usize,
    taken: Mutex<HashMap<Holder, usize>>,
    freed: watch::Sender<u64>,
}

impl Shares {
    pub(crate) fn new(host_max: usize, workspace_max: usize) -> Arc<Self> {
        Arc::new(Self {
            host_max: host_max.max(1),
            workspace_max: workspace_max.max(1),
            taken: Mutex::default(),
            freed: watch::Sender::new(0),
        })
    }

    /// A place for one post; `None` when the host or the workspace has all of its share under way.
    pub(crate) fn take(self: &Arc<Self>, host: &Arc<str>, workspace: &Arc<str>) -> Option<Share> {
        let holders = [
            (Holder::Host(Arc::clone(host)), self.host_max),
            (Holder::Workspace(Arc::clone(workspace)), self.workspace_max),
        ];
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |(holder, most): &(Holder, usize)| taken.get(holder).copied().unwrap_or(0) >= *most;
        if holders.iter().any(full) {
            return None;
        }
        for (holder, _) in &holders {
            *taken.entry(holder.clone()).or_default() += 1;
        }
        Some(Share {
            shares: Arc::clone(self),
            holders: holders.map(|(holder, _)| holder),
            used: true,
        })
    }

    /// Says when a place may have become free. Subscribe before a place is asked for.
    pub(crate) fn freed(&self) -> watch::Receiver<u64> {
        self.freed.subscribe()
    }
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    shares: Arc<Shares>,
    holders: [Holder; 2],
    used: bool,
}

impl Share {
    /// Gives back a place that was not used. Nobody is told: whoever is told looks, and would tell the next one.
    pub(crate) fn unused(mut self) {
        self.used = false;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for holder in &self.holders {
            if let Some(count) = taken.get_mut(holder) {
                *count -= 1;
                if *count == 0 {
                    taken.remove(holder);
                }
            }
        }
        drop(taken);
        if self.used {
            self.shares.freed.send_modify(|n| *n = n.wrapping_add(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_host_nor_a_workspace_gets_more_than_its_share() {
        let shares = Shares::new(2, 3);
        let [a, b, w, x]: [Arc<str>; 4] = ["a", "b", "w", "x"].map(Arc::from);
        let freed = shares.freed();
        let first = shares.take(&a, &w).unwrap();
        let second = shares.take(&a, &w).unwrap();
        assert!(
            shares.take(&a, &x).is_none(),
            "the host has its share, whoever asks"
        );
        let third = shares.take(&b, &w).unwrap();
        assert!(
            shares.take(&b, &w).is_none(),
            "the workspace has its share, wherever it posts"
        );
        let other = shares.take(&b, &x).unwrap();
        assert!(!freed.has_changed().unwrap());
        drop(second);
        assert!(freed.has_changed().unwrap());
        assert!(shares.take(&a, &w).is_some());
        drop((first, third, other));
        assert!(
            shares.taken.lock().unwrap().is_empty(),
            "nothing is kept about who posts nothing"
        );
    }
}
