//! What one log entry works in: tables, log time, and everything it gives back.

use crate::apply::{Applied, ApplyContext, Effect};
use crate::dedup::Origins;
use crate::intents;
use crate::tables::TableError;
use crate::timers::Retirement;
use crate::write_batch::WriteBatch;
use baton_protocol::proto::internal::{Done, Event, Intent, Rejection, Reply, reply};
use baton_protocol::{ErrorCode, GroupId, IntentId, META_GROUP, Slot};
use bytes::Bytes;

/// Why a command did not go through.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The caller's fault or bad luck: the command leaves no trace.
    Rejected(Box<Rejection>),
    /// Storage failed: the group stops.
    Tables(TableError),
}

impl From<TableError> for Stop {
    fn from(error: TableError) -> Self {
        Self::Tables(error)
    }
}

/// What a command answers.
pub(crate) type Outcome = Result<Reply, Stop>;

/// A refusal. Messages are lowercase, without a full stop, and name the fix.
pub(crate) fn reject(code: ErrorCode, message: impl Into<String>) -> Stop {
    Stop::Rejected(Box::new(Rejection {
        code: code.number(),
        message: message.into(),
        existing_service_account: None,
    }))
}

pub(crate) fn invalid(message: impl Into<String>) -> Stop {
    reject(ErrorCode::InvalidArgument, message)
}

pub(crate) fn not_found(what: &str) -> Stop {
    reject(ErrorCode::NotFound, format!("{what} not found"))
}

pub(crate) fn reply(outcome: reply::Outcome) -> Reply {
    Reply {
        replayed: false,
        outcome: Some(outcome),
    }
}

pub(crate) fn rejected(rejection: Rejection) -> Reply {
    reply(reply::Outcome::Rejected(rejection))
}

pub(crate) fn done() -> Reply {
    reply(reply::Outcome::Done(Done {}))
}

/// An event that the entry appended, by its position.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Appended(usize);

/// What an entry produced so far, beside row changes.
#[derive(Debug, Default)]
struct Output {
    events: Vec<Event>,
    /// Those of `events` that the rows of their intents do not hold yet.
    unsaved: Vec<Appended>,
    /// Intents created, and removed.
    born: u64,
    erased: u64,
    effects: Vec<Effect>,
    sends: Vec<GroupId>,
    timer_due_ms: Option<u64>,
    retirements: Vec<Retirement>,
}

/// How far an [`Output`] had come.
#[derive(Debug)]
struct OutputMark {
    events: usize,
    unsaved: usize,
    effects: usize,
    sends: usize,
    retirements: usize,
    born: u64,
    erased: u64,
    timer_due_ms: Option<u64>,
}

impl Output {
    fn mark(&self) -> OutputMark {
        OutputMark {
            events: self.events.len(),
            unsaved: self.unsaved.len(),
            effects: self.effects.len(),
            sends: self.sends.len(),
            retirements: self.retirements.len(),
            born: self.born,
            erased: self.erased,
            timer_due_ms: self.timer_due_ms,
        }
    }

    fn roll_back(&mut self, mark: &OutputMark) {
        self.events.truncate(mark.events);
        self.unsaved.truncate(mark.unsaved);
        self.effects.truncate(mark.effects);
        self.sends.truncate(mark.sends);
        self.retirements.truncate(mark.retirements);
        (self.born, self.erased) = (mark.born, mark.erased);
        self.timer_due_ms = mark.timer_due_ms;
    }
}

/// One log entry in progress.
pub(crate) struct Transaction<'a, 'b> {
    pub(crate) tables: &'a mut WriteBatch<'b>,
    pub(crate) ctx: &'a ApplyContext,
    /// Log time, the same for every command of the entry.
    pub(crate) now_ms: u64,
    pub(crate) origins: Origins,
    output: Output,
}

impl<'a, 'b> Transaction<'a, 'b> {
    pub(crate) fn new(tables: &'a mut WriteBatch<'b>, ctx: &'a ApplyContext, now_ms: u64) -> Self {
        Self {
            tables,
            ctx,
            now_ms,
            origins: Origins::default(),
            output: Output::default(),
        }
    }

    /// Runs `work` so that a rejection takes back everything it wrote, appended and asked for.
    pub(crate) fn atomically<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Stop>,
    ) -> Result<Result<T, Rejection>, TableError> {
        debug_assert!(
            self.output.unsaved.is_empty(),
            "rolling back would lose events of before"
        );
        let mark = self.tables.mark();
        let produced = self.output.mark();
        match work(self) {
            Ok(value) => Ok(Ok(value)),
            Err(Stop::Tables(error)) => Err(error),
            Err(Stop::Rejected(rejection)) => {
                self.tables.roll_back(mark);
                self.output.roll_back(&produced);
                Ok(Err(*rejection))
            }
        }
    }

    /// Takes an event that [`Self::save_intent`] will store.
    pub(crate) fn append_event(&mut self, event: Event) -> Appended {
        let at = Appended(self.output.events.len());
        self.output.events.push(event);
        self.output.unsaved.push(at);
        at
    }

    pub(crate) fn event(&self, at: Appended) -> Option<&Event> {
        self.output.events.get(at.0)
    }

    /// Writes the header of an intent together with its new events.
    pub(crate) fn save_intent(&mut self, id: IntentId, intent: &Intent) -> Result<(), TableError> {
        let Output { events, unsaved, .. } = &mut self.output;
        let new = unsaved
            .iter()
            .filter_map(|at| events.get(at.0))
            .filter(|event| event.intent_id == intent.intent_id);
        intents::save(self.tables, id, intent, new)?;
        unsaved.retain(|at| {
            events
                .get(at.0)
                .is_some_and(|event| event.intent_id != intent.intent_id)
        });
        Ok(())
    }

    pub(crate) fn count_born(&mut self) {
        self.output.born += 1;
    }

    pub(crate) fn count_erased(&mut self) {
        self.output.erased += 1;
    }

    /// Intents created and removed by the entry.
    pub(crate) fn take_counts(&mut self) -> (u64, u64) {
        (
            std::mem::take(&mut self.output.born),
            std::mem::take(&mut self.output.erased),
        )
    }

    pub(crate) fn push_effect(&mut self, effect: Effect) {
        self.output.effects.push(effect);
    }

    /// Notes that messages wait for `target`; announced once per entry.
    pub(crate) fn note_send(&mut self, target: GroupId) {
        if !self.output.sends.contains(&target) {
            self.output.sends.push(target);
        }
    }

    /// Notes a new timer; the earliest of the entry is announced.
    pub(crate) fn note_timer(&mut self, due_ms: u64) {
        let earliest = self.output.timer_due_ms.map_or(due_ms, |d| d.min(due_ms));
        self.output.timer_due_ms = Some(earliest);
    }

    pub(crate) fn push_retirement(&mut self, retirement: Retirement) {
        self.output.retirements.push(retirement);
    }

    pub(crate) fn take_retirements(&mut self) -> Vec<Retirement> {
        std::mem::take(&mut self.output.retirements)
    }

    /// Notes that tenants or keys changed.
    pub(crate) fn note_meta(&mut self, revoked_token_sha256: Option<Bytes>) {
        self.push_effect(Effect::Meta { revoked_token_sha256 });
    }

    pub(crate) fn group_of(&self, slot: Slot) -> GroupId {
        self.ctx.map.group_of(slot)
    }

    /// Refuses an object that belongs to another group: a routing bug must not split its state.
    pub(crate) fn require_slot(&self, slot: Slot) -> Result<(), Stop> {
        if self.group_of(slot) == self.ctx.group {
            Ok(())
        } else {
            Err(invalid(format!(
                "slot {} does not belong to group {}; route by intent id",
                slot.number(),
                self.ctx.group
            )))
        }
    }

    pub(crate) fn require_meta(&self) -> Result<(), Stop> {
        if self.ctx.group == META_GROUP {
            Ok(())
        } else {
            Err(invalid(
                "tenants and keys live in the meta group; send the command there",
            ))
        }
    }

    pub(crate) fn into_applied(self, replies: Vec<Reply>) -> Applied {
        let Output {
            events,
            mut effects,
            sends,
            timer_due_ms,
            unsaved,
            ..
        } = self.output;
        debug_assert!(
            unsaved.is_empty(),
            "an event was appended and its header not saved"
        );
        effects.extend(sends.into_iter().map(|target| Effect::Send { target }));
        effects.extend(timer_due_ms.map(|due_ms| Effect::Timer { due_ms }));
        Applied {
            log_time_ms: self.now_ms,
            replies,
            events,
            effects,
        }
    }
}
