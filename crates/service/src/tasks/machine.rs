//! The life of a task as a pure function: `(state, event) -> state | refusal`. Nothing here runs or stores anything.
//!
//! init -> queued -> running -> (confirm -> confirmed -> running) -> done | fail. What is durable in each state:
//! - `init`: the request. `queued`: nothing more. `running`: the snapshot and its pin, then the units.
//! - `confirm`: the scan's counts and sample; the backup, if one was asked for, is complete.
//! - `confirmed`: a human's yes. From here on the delete happens, also after a restart.
//! - `done`, `fail`: final; the pin holds nothing any more.
//!
//! Only a human moves `confirm` to `confirmed`; only the task's driver makes every other move.

use knarr_catalog::tasks::Status;

/// Durable facts that decide what may happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) status: Status,
    /// A human has confirmed it, at some time.
    pub(crate) confirmed: bool,
    /// A unit has been granted its publication, whose outcome is not recorded yet.
    pub(crate) publishing: bool,
}

/// What happens to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// The driver took it up.
    Enqueue,
    /// Its turn: it begins, or goes on after a confirmation.
    Start,
    /// The scan is complete and a human must look at it.
    Ask,
    /// The human's yes.
    Confirm,
    /// All work is done.
    Finish,
    /// It cannot go on.
    Fail,
    /// Its creator or an administrator wants it stopped.
    Cancel,
    /// Nobody confirmed in time.
    Expire,
}

/// Why an event does not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It already happened: success without effect.
    NoEffect,
    /// A publication is under way or over: the task ends as it ends.
    TooLate,
    /// Not in this state.
    Illegal,
}

/// The status after `event`.
pub(crate) fn next(state: State, event: Event) -> Result<Status, Refusal> {
    use Status::{Confirm, Confirmed, Done, Fail, Init, Queued, Running};
    match (event, state.status) {
        (Event::Enqueue, Init) => Ok(Queued),
        (Event::Start, Queued | Confirmed) => Ok(Running),
        (Event::Ask, Running) if !state.confirmed && !state.publishing => Ok(Confirm),
        (Event::Confirm, Confirm) => Ok(Confirmed),
        (Event::Confirm, Confirmed | Running | Done) if state.confirmed => Err(Refusal::NoEffect),
        (Event::Finish, Running) if !state.publishing => Ok(Done),
        (Event::Fail, Init | Queued | Running | Confirm | Confirmed) => Ok(Fail),
        (Event::Cancel, Init | Queued | Running | Confirm | Confirmed) if !state.publishing => Ok(Fail),
        (Event::Cancel, Init | Queued | Running | Confirm | Confirmed | Done) => Err(Refusal::TooLate),
        (Event::Cancel, Fail) => Err(Refusal::NoEffect),
        (Event::Expire, Confirm) => Ok(Fail),
        (
            Event::Enqueue | Event::Start | Event::Ask | Event::Confirm | Event::Finish | Event::Fail | Event::Expire,
            Init | Queued | Running | Confirm | Confirmed | Done | Fail,
        ) => Err(Refusal::Illegal),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const EVENTS: [Event; 8] = [
        Event::Enqueue,
        Event::Start,
        Event::Ask,
        Event::Confirm,
        Event::Finish,
        Event::Fail,
        Event::Cancel,
        Event::Expire,
    ];

    /// Every pair, written down independently: one line per status and event, `confirmed` and `publishing` as given.
    #[test]
    fn every_pair_has_one_answer() {
        use Refusal::{Illegal, NoEffect, TooLate};
        use Status::{Confirm, Confirmed, Done, Fail, Init, Queued, Running};
        let s = |status, confirmed, publishing| State { status, confirmed, publishing };
        // Columns: Enqueue, Start, Ask, Confirm, Finish, Fail, Cancel, Expire.
        let no = Err(Illegal);
        let table = [
            (s(Init, false, false), [Ok(Queued), no, no, no, no, Ok(Fail), Ok(Fail), no]),
            (s(Queued, false, false), [no, Ok(Running), no, no, no, Ok(Fail), Ok(Fail), no]),
            (s(Running, false, false), [no, no, Ok(Confirm), no, Ok(Done), Ok(Fail), Ok(Fail), no]),
            (s(Running, false, true), [no, no, no, no, no, Ok(Fail), Err(TooLate), no]),
            (s(Running, true, false), [no, no, no, Err(NoEffect), Ok(Done), Ok(Fail), Ok(Fail), no]),
            (s(Running, true, true), [no, no, no, Err(NoEffect), no, Ok(Fail), Err(TooLate), no]),
            (s(Confirm, false, false), [no, no, no, Ok(Confirmed), no, Ok(Fail), Ok(Fail), Ok(Fail)]),
            (s(Confirmed, true, false), [no, Ok(Running), no, Err(NoEffect), no, Ok(Fail), Ok(Fail), no]),
            (s(Done, false, false), [no, no, no, no, no, no, Err(TooLate), no]),
            (s(Done, true, false), [no, no, no, Err(NoEffect), no, no, Err(TooLate), no]),
            (s(Fail, false, false), [no, no, no, no, no, no, Err(NoEffect), no]),
            (s(Fail, true, false), [no, no, no, no, no, no, Err(NoEffect), no]),
        ];
        for (state, answers) in table {
            for (event, answer) in EVENTS.into_iter().zip(answers) {
                assert_eq!(next(state, event), answer, "{state:?} {event:?}");
            }
        }
    }

    /// Explores every interleaving of driver, humans, cancel and expiry from `init` and checks what must hold on every path.
    #[test]
    fn task_machine() {
        // (state, a delete has been published, on this path a confirmation was seen)
        let start = (State { status: Status::Init, confirmed: false, publishing: false }, false);
        for need_confirm in [true, false] {
            let (mut seen, mut todo) = (HashSet::new(), vec![start]);
            while let Some((state, published)) = todo.pop() {
                if !seen.insert((state, published)) {
                    continue;
                }
                if published && need_confirm {
                    assert!(state.confirmed, "published without a confirmation: {state:?}");
                }
                if state.status == Status::Done {
                    assert!(published, "done without its publication");
                }
                for event in EVENTS {
                    // The driver asks only where a confirmation is needed, and finishes only after the publication.
                    if (event == Event::Ask && !need_confirm) || (event == Event::Finish && !published) {
                        continue;
                    }
                    match next(state, event) {
                        Ok(status) => {
                            assert!(!state.status.is_final(), "left a final state: {state:?} {event:?}");
                            if event == Event::Cancel {
                                assert!(!state.publishing);
                            }
                            let confirmed = state.confirmed || event == Event::Confirm;
                            let publishing = state.publishing && status == Status::Running;
                            todo.push((State { status, confirmed, publishing }, published));
                        }
                        Err(Refusal::NoEffect) => assert!(matches!(event, Event::Confirm | Event::Cancel)),
                        Err(Refusal::TooLate | Refusal::Illegal) => {}
                    }
                }
                // The unit's own moves: granted, then recorded.
                let may = state.status == Status::Running && (state.confirmed || !need_confirm) && !published;
                if may && !state.publishing {
                    todo.push((State { publishing: true, ..state }, published));
                }
                if state.publishing {
                    todo.push((State { publishing: false, ..state }, true));
                }
            }
            assert!(seen.iter().any(|(s, _)| s.status == Status::Done));
            assert!(seen.iter().any(|(s, _)| s.status == Status::Fail));
        }
    }
}
