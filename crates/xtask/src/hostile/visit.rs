//! One client at one behaviour, from its first request to its last: what the server remembers in between. Owns the
//! counts and the break: the moment half way through the file at which the line is cut, or everything holds still
//! until the client was killed.

use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::ask::Entrance;
use super::behaviour::Behaviour;
use super::version::FIRST;

/// In which form a case is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The command runs to its end; where the behaviour has a break, the line is cut.
    Plain,
    /// The command is killed half way, then given again.
    Interrupted,
}

/// What may be sent of the file just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permit {
    /// So many bytes.
    Bytes(usize),
    /// None: the line breaks.
    Break,
}

/// What one client did at one behaviour.
#[derive(Debug)]
pub(crate) struct Visit {
    /// The behaviour.
    pub(crate) behaviour: &'static Behaviour,
    /// The port that refuses connections for a while.
    pub(crate) late: OnceLock<u16>,
    /// The folder that no name may lead to.
    pub(crate) forbidden: String,
    form: Form,
    break_at: Option<u64>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    requests: u32,
    since_break: u32,
    active: u32,
    sent: u64,
    broken: bool,
    held: bool,
}

impl Visit {
    /// Begins a visit.
    pub(crate) fn new(behaviour: &'static Behaviour, form: Form, forbidden: String) -> Self {
        let size = behaviour.versions.first().map_or(FIRST.size, |version| version.size);
        let breaks = behaviour.breaks || form == Form::Interrupted;
        Self {
            behaviour,
            late: OnceLock::new(),
            forbidden,
            form,
            break_at: breaks.then_some(size / 2),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Counts a request.
    pub(crate) fn enter(&self) -> Entrance {
        let mut state = self.lock();
        state.requests += 1;
        state.active += 1;
        state.since_break += u32::from(state.broken);
        Entrance {
            number: state.requests,
            broken: state.broken,
            since_break: state.since_break,
            active: state.active,
        }
    }

    /// Notes that an answer is over.
    pub(crate) fn leave(&self) {
        self.lock().active -= 1;
    }

    /// Says how many of `want` bytes of the file may be sent; waits if everything holds still.
    pub(crate) fn permit(&self, want: usize) -> Permit {
        let mut state = self.lock();
        let Some(break_at) = self.break_at.filter(|_| !state.broken) else {
            return Permit::Bytes(want);
        };
        let left = usize::try_from(break_at - state.sent).unwrap_or(usize::MAX);
        if left > 0 {
            let now = want.min(left);
            state.sent += now as u64;
            return Permit::Bytes(now);
        }
        if self.form == Form::Plain {
            state.broken = true;
        } else {
            state.held = true;
            self.changed.notify_all();
            drop(
                self.changed.wait_while(state, |state| !state.broken).unwrap_or_else(PoisonError::into_inner),
            );
        }
        Permit::Break
    }

    /// Waits for the moment at which everything holds still, but not for long; tells whether it has come.
    pub(crate) fn wait_held(&self, patience: Duration) -> bool {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, patience, |state| !state.held);
        waited.unwrap_or_else(PoisonError::into_inner).0.held
    }

    /// Breaks what holds still: the client is gone.
    pub(crate) fn release(&self) {
        self.lock().broken = true;
        self.changed.notify_all();
    }

    /// Returns how many requests there were.
    pub(crate) fn requests(&self) -> u32 {
        self.lock().requests
    }

    /// A thread that panicked with the lock has only counted.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostile::behaviour;
    use crate::hostile::version::SIZE;

    fn visit(name: &str, form: Form) -> Visit {
        Visit::new(behaviour::find(name).unwrap(), form, String::new())
    }

    #[test]
    fn a_line_is_cut_once_half_way() {
        let visit = visit("cut-once", Form::Plain);
        assert!(!visit.enter().broken);
        assert_eq!(visit.permit(10), Permit::Bytes(10));
        let half = usize::try_from(SIZE / 2).unwrap();
        assert_eq!(visit.permit(usize::MAX), Permit::Bytes(half - 10));
        assert_eq!(visit.permit(1), Permit::Break);
        assert_eq!(visit.permit(half), Permit::Bytes(half));
        let again = visit.enter();
        assert_eq!((again.number, again.since_break, again.active, again.broken), (2, 1, 2, true));
    }

    #[test]
    fn without_a_break_nothing_is_cut() {
        let visit = visit("honest", Form::Plain);
        assert_eq!(visit.permit(usize::MAX), Permit::Bytes(usize::MAX));
    }

    #[test]
    fn an_interrupted_visit_holds_still_until_released() {
        let visit = visit("honest", Form::Interrupted);
        assert!(!visit.wait_held(Duration::ZERO));
        visit.permit(usize::MAX);
        std::thread::scope(|scope| {
            let held = scope.spawn(|| visit.permit(1));
            assert!(visit.wait_held(Duration::from_hours(1)));
            visit.release();
            assert_eq!(held.join().unwrap(), Permit::Break);
        });
        assert_eq!(visit.permit(7), Permit::Bytes(7));
    }
}
