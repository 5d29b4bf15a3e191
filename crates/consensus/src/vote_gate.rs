//! When a replica may vote and stand for election.

use baton_raft_storage::{LogId, TypeConfig};
use openraft::raft::VoteRequest;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A restarted voter has forgotten the lease it granted: until the longest election timeout has passed, its vote
/// could make a second leader while the first still serves.
///
/// A replica whose log end was cut, or whose log is gone, may have acknowledged what it no longer has (a torn write
/// was never acknowledged, damage of the last record may have been; the two look alike). It must not help to elect
/// a leader that lacks it. It is whole again once it has applied what a leader had. When a power cut made a majority
/// suspect there is no leader: then it asks *every* voter how far its log reaches. As long as one copy of an entry
/// is undamaged, a log at least as long as all of them holds it, so such a log may be voted for, and whoever has it
/// is whole. With a voter missing in that state the group waits for it: guessing could lose acknowledged writes.
#[derive(Debug)]
pub(crate) struct VoteGate {
    /// Monotonic time.
    refuse_until: Duration,
    log: Mutex<Log>,
}

#[derive(Debug, Clone, Copy)]
enum Log {
    Whole,
    Suspect,
    /// Suspect, but every voter has said how far its log reaches; this is the longest.
    Longest(Option<LogId>),
}

impl VoteGate {
    pub(crate) fn new(refuse_until: Duration, suspect: bool) -> Self {
        Self {
            refuse_until,
            log: Mutex::new(if suspect { Log::Suspect } else { Log::Whole }),
        }
    }

    /// Why a vote is refused now; a leadership transfer comes from the leader itself and is never an early one.
    pub(crate) fn refusal(&self, now: Duration, request: &VoteRequest<TypeConfig>) -> Option<&'static str> {
        let hole = match *self.lock() {
            Log::Whole => false,
            Log::Suspect => true,
            Log::Longest(longest) => request.last_log_id < longest,
        };
        if hole {
            return Some("the end of this replica's log was lost; it votes again once it has caught up");
        }
        (now < self.refuse_until && !request.leadership_transfer)
            .then_some("this replica has just started; it votes after the longest election timeout")
    }

    /// Whether the replica must not stand for election.
    pub(crate) fn is_suspect(&self) -> bool {
        !matches!(*self.lock(), Log::Whole)
    }

    /// Every voter's log ends at or before `longest`.
    pub(crate) fn longest_heard(&self, longest: Option<LogId>) {
        let mut log = self.lock();
        if matches!(*log, Log::Suspect) {
            *log = Log::Longest(longest);
        }
    }

    pub(crate) fn caught_up(&self) {
        *self.lock() = Log::Whole;
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_raft_storage::log_id;
    use openraft::impls::Vote;

    const LATE: Duration = Duration::from_secs(10);

    fn request(last: Option<LogId>) -> VoteRequest<TypeConfig> {
        VoteRequest::new(Vote::new(9, 2), last)
    }

    #[test]
    fn a_suspect_votes_only_for_a_log_as_long_as_the_longest_of_all() {
        let gate = VoteGate::new(Duration::ZERO, true);
        assert!(gate.refusal(LATE, &request(Some(log_id(8, 900)))).is_some());
        gate.longest_heard(Some(log_id(3, 7)));
        assert!(gate.refusal(LATE, &request(None)).is_some());
        assert!(gate.refusal(LATE, &request(Some(log_id(3, 6)))).is_some());
        assert!(gate.refusal(LATE, &request(Some(log_id(2, 99)))).is_some());
        assert!(gate.refusal(LATE, &request(Some(log_id(3, 7)))).is_none());
        assert!(gate.is_suspect());
        // What was heard first counts: later logs are a later leader's business.
        gate.longest_heard(None);
        assert!(gate.refusal(LATE, &request(None)).is_some());
        gate.caught_up();
        assert!(gate.refusal(LATE, &request(None)).is_none());
    }

    #[test]
    fn a_fresh_start_refuses_all_but_transfers() {
        let gate = VoteGate::new(LATE, false);
        let mut ask = request(None);
        assert!(gate.refusal(Duration::ZERO, &ask).is_some());
        ask.leadership_transfer = true;
        assert!(gate.refusal(Duration::ZERO, &ask).is_none());
        ask.leadership_transfer = false;
        assert!(gate.refusal(LATE, &ask).is_none());
    }
}
