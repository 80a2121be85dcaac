//! Accepted batches and what of them has not started.

use std::collections::VecDeque;
use std::fmt;
use warrant::session_wire::{Orders, TEXT_MAX};
use warrant::{Batch, File, Item, ItemKind, TaskRef, VerifyError};

use crate::environment::{Environments, Pairs};
use crate::text::CannotStart;

/// Why a batch was refused. Nothing of it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The descriptor was no memory file, or one that is too large.
    Unreadable(i32),
    Signature(VerifyError),
    Farm,
    Session {
        named: u64,
        here: u64,
    },
    Job {
        named: u64,
        here: u64,
    },
    /// A replay, or a batch before it was lost.
    Sequence {
        named: u64,
        expected: u64,
    },
    NameTooLong,
    Stuck,
    Leaving,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(errno) => write!(f, "batch could not be read: {}", crate::text::why(*errno)),
            Self::Signature(e) => write!(f, "batch was not accepted: {e}"),
            Self::Farm => f.write_str("batch is for another farm"),
            Self::Session { named, here } => write!(f, "batch is for session {named}, this is session {here}"),
            Self::Job { named, here } => write!(f, "batch is for job {named}, this session runs job {here}"),
            Self::Sequence { named, expected } => {
                write!(f, "batch has the sequence number {named}, the next one to run is {expected}")
            }
            Self::NameTooLong => write!(f, "batch has an environment whose name is longer than {TEXT_MAX} bytes"),
            Self::Stuck => f.write_str("session runs nothing more: processes of an earlier task could not be killed"),
            Self::Leaving => f.write_str("session is leaving"),
        }
    }
}

/// A batch that was accepted.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) sequence: u64,
    pub(crate) not_after: u64,
    pub(crate) env: Pairs,
    pub(crate) cwd: Option<Vec<u8>>,
    pub(crate) files: Vec<File>,
    /// How writing the files went, once it was tried.
    pub(crate) files_written: Option<Result<(), CannotStart>>,
    pub(crate) items: VecDeque<Item>,
}

/// What was taken out of the queue.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct GivenBack {
    pub(crate) tasks: Vec<TaskRef>,
    pub(crate) enters: Vec<String>,
    pub(crate) exits: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    batches: VecDeque<Pending>,
    last: u64,
}

impl Queue {
    /// Whether a batch whose signature was checked is the next one of this session.
    pub(crate) fn check(&self, batch: &Batch, orders: &Orders) -> Result<(), Refusal> {
        if batch.farm != orders.farm {
            return Err(Refusal::Farm);
        }
        if batch.session != orders.session {
            return Err(Refusal::Session { named: batch.session, here: orders.session });
        }
        if batch.job != orders.job {
            return Err(Refusal::Job { named: batch.job, here: orders.job });
        }
        let expected = self.last.saturating_add(1);
        if batch.sequence != expected {
            return Err(Refusal::Sequence { named: batch.sequence, expected });
        }
        let long = |item: &Item| match &item.kind {
            ItemKind::Enter { name } | ItemKind::Exit { name } => name.len() > TEXT_MAX,
            ItemKind::Task(_) => false,
        };
        if batch.items.iter().any(long) { Err(Refusal::NameTooLong) } else { Ok(()) }
    }

    pub(crate) fn push(&mut self, batch: Batch) {
        self.last = batch.sequence;
        self.batches.push_back(Pending {
            sequence: batch.sequence,
            not_after: batch.not_after,
            env: batch.env,
            cwd: batch.cwd,
            files: batch.files,
            files_written: None,
            items: batch.items.into(),
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The batch that items are taken from.
    pub(crate) fn front(&mut self) -> Option<&mut Pending> {
        self.batches.front_mut()
    }

    /// The earliest deadline among batches that have items left.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.batches.iter().filter(|b| !b.items.is_empty()).map(|b| b.not_after).min()
    }

    /// Removes a task that waits. False when none does.
    pub(crate) fn remove(&mut self, task: TaskRef) -> bool {
        for batch in &mut self.batches {
            if let Some(at) = batch.items.iter().position(|i| i.kind == ItemKind::Task(task)) {
                batch.items.remove(at);
                return true;
            }
        }
        false
    }

    /// Takes what has not started out of the batches that `which` names. Exits of entered environments stay when
    /// `keep` is given.
    pub(crate) fn give_back(&mut self, which: impl Fn(&Pending) -> bool, keep: Option<&Environments>) -> GivenBack {
        let mut back = GivenBack::default();
        for batch in self.batches.iter_mut().filter(|b| which(b)) {
            for item in std::mem::take(&mut batch.items) {
                match &item.kind {
                    ItemKind::Task(task) => back.tasks.push(*task),
                    ItemKind::Enter { name } => back.enters.push(name.clone()),
                    ItemKind::Exit { name } if keep.is_some_and(|e| e.is_entered(name)) => batch.items.push_back(item),
                    ItemKind::Exit { name } => back.exits.push(name.clone()),
                }
            }
        }
        back
    }

    /// Takes out batches of which nothing is left; the first stays while an item of it runs.
    pub(crate) fn finished(&mut self, first_is_busy: bool) -> Vec<u64> {
        let mut done = Vec::new();
        let mut at = 0;
        self.batches.retain(|b| {
            let keep = !b.items.is_empty() || (at == 0 && first_is_busy);
            at += 1;
            if !keep {
                done.push(b.sequence);
            }
            keep
        });
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(index: u64) -> TaskRef {
        TaskRef { step: 0, index, epoch: 1 }
    }

    fn item(kind: ItemKind) -> Item {
        Item { kind, argv: vec![b"true".to_vec()], env: vec![], files: vec![], timeout_ms: 0, grace_ms: 0 }
    }

    fn batch(sequence: u64, items: Vec<Item>) -> Batch {
        Batch {
            farm: [1; 16],
            session: 3,
            sequence,
            job: 7,
            not_after: 1000 * sequence,
            env: vec![],
            cwd: None,
            files: vec![],
            items,
        }
    }

    fn orders() -> Orders {
        Orders {
            farm: [1; 16],
            session: 3,
            job: 7,
            keys: vec![],
            desktop: false,
            lease_until: 0,
            orphan_limit_ms: 1000,
        }
    }

    #[test]
    fn only_the_next_batch_of_this_session_is_accepted() {
        let mut queue = Queue::default();
        let good = batch(1, vec![item(ItemKind::Task(task(1)))]);
        let wrong: [(Batch, Refusal); 6] = [
            (Batch { farm: [2; 16], ..good.clone() }, Refusal::Farm),
            (Batch { session: 4, ..good.clone() }, Refusal::Session { named: 4, here: 3 }),
            (Batch { job: 8, ..good.clone() }, Refusal::Job { named: 8, here: 7 }),
            (batch(0, vec![]), Refusal::Sequence { named: 0, expected: 1 }),
            (batch(2, vec![]), Refusal::Sequence { named: 2, expected: 1 }),
            (batch(1, vec![item(ItemKind::Enter { name: "x".repeat(TEXT_MAX + 1) })]), Refusal::NameTooLong),
        ];
        for (batch, refusal) in wrong {
            assert_eq!(queue.check(&batch, &orders()), Err(refusal));
        }
        assert_eq!(queue.check(&good, &orders()), Ok(()));
        queue.push(good.clone());
        assert_eq!(queue.check(&good, &orders()), Err(Refusal::Sequence { named: 1, expected: 2 }));
    }

    #[test]
    fn a_recall_keeps_the_exits_of_entered_environments() {
        let mut environments = Environments::default();
        environments.enter("in");
        let exit = |name: &str| item(ItemKind::Exit { name: name.to_owned() });
        let mut queue = Queue::default();
        queue.push(batch(1, vec![item(ItemKind::Task(task(1))), exit("in"), exit("out")]));
        queue.push(batch(2, vec![item(ItemKind::Enter { name: "new".to_owned() }), item(ItemKind::Task(task(2)))]));
        queue.push(batch(3, vec![item(ItemKind::Task(task(3)))]));
        let back = queue.give_back(|b| b.sequence <= 2, Some(&environments));
        assert_eq!(back.tasks, [task(1), task(2)]);
        assert_eq!((back.enters.as_slice(), back.exits.as_slice()), (&["new".to_owned()][..], &["out".to_owned()][..]));
        assert_eq!(queue.finished(false), [2]);
        assert_eq!(queue.front().map(|b| b.items.len()), Some(1));
        assert_eq!(queue.next_deadline(), Some(1000));
    }

    #[test]
    fn a_batch_is_not_done_while_its_last_item_runs() {
        let mut queue = Queue::default();
        queue.push(batch(1, vec![]));
        assert_eq!(queue.finished(true), Vec::<u64>::new());
        assert_eq!(queue.finished(false), [1]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_waiting_task_can_be_removed_once() {
        let mut queue = Queue::default();
        queue.push(batch(1, vec![item(ItemKind::Task(task(1)))]));
        assert!(!queue.remove(task(2)));
        assert!(queue.remove(task(1)));
        assert!(!queue.remove(task(1)));
    }
}
