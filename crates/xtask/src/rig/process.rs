//! A child process with a deadline. Owns killing and waiting: a child never outlives its value, and nothing but
//! children is ever killed.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::leftovers;

/// How often a process with a deadline is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    deadline: Instant,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, with this code.
    Exit(i32),
    /// By a signal.
    Signal,
    /// It had to be killed because its time was over.
    Overdue,
}

/// Prepares to run a program, by the words of something around it if there are any.
pub(crate) fn run_by(around: &[OsString], program: &Path) -> Command {
    match around {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    }
}

impl Process {
    /// Starts a command that has this long to end.
    pub(crate) fn start(command: &mut Command, patience: Duration) -> io::Result<Self> {
        Ok(Self { child: leftovers::spawn(command)?, deadline: Instant::now() + patience })
    }

    /// Returns the number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the child, for its pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Tells whether the process has no time left.
    pub(crate) fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Tells whether the process has ended, or has no time left.
    pub(crate) fn is_over(&mut self) -> bool {
        self.is_late() || !matches!(self.look(), Ok(None))
    }

    /// Kills the process with SIGKILL and waits until it is gone.
    pub(crate) fn kill(&mut self) -> io::Result<ExitStatus> {
        let end = leftovers::bury(&mut self.child, |child| {
            // It may be gone already: then there is nothing to kill, and `wait` knows how it ended.
            drop(child.kill());
            child.wait().map(Some)
        })?;
        Ok(end.expect("whoever waited knows the end"))
    }

    /// Returns how the process ended, if it did.
    fn look(&mut self) -> io::Result<Option<ExitStatus>> {
        leftovers::bury(&mut self.child, Child::try_wait)
    }

    /// Asks the process to end, as an init system does, and waits.
    pub(crate) fn terminate(&mut self, patience: Duration) -> io::Result<End> {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        self.end_within(patience)
    }

    /// Waits this long for the end, and makes it then.
    pub(crate) fn end_within(&mut self, patience: Duration) -> io::Result<End> {
        self.deadline = Instant::now() + patience;
        self.wait()
    }

    /// Waits for the end, and makes it at the deadline.
    pub(crate) fn wait(&mut self) -> io::Result<End> {
        loop {
            if let Some(status) = self.look()? {
                return Ok(status.code().map_or(End::Signal, End::Exit));
            }
            if Instant::now() >= self.deadline {
                self.kill()?;
                return Ok(End::Overdue);
            }
            thread::sleep(LOOK);
        }
    }

    /// Tells whether the process has ended, but leaves it as it is, so that what it used up can still be read.
    pub(crate) fn has_ended(&self) -> io::Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(rustix::process::waitid(WaitId::Pid(Pid::from_child(&self.child)), options)?.is_some())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, patience: Duration) -> Process {
        Process::start(Command::new("sh").args(["-c", script]), patience).unwrap()
    }

    #[test]
    fn ends_are_told_apart() {
        let hour = Duration::from_hours(1);
        assert_eq!(shell("exit 7", hour).wait().unwrap(), End::Exit(7));
        assert_eq!(shell("kill -9 $$", hour).wait().unwrap(), End::Signal);
        assert_eq!(shell("exec sleep 3600", Duration::ZERO).wait().unwrap(), End::Overdue);
        assert_eq!(shell("exec sleep 3600", hour).terminate(hour).unwrap(), End::Signal);
    }

    #[test]
    fn a_process_that_ended_can_still_be_looked_at() {
        let mut process = shell("exit 3", Duration::from_hours(1));
        while !process.has_ended().unwrap() {
            thread::yield_now();
        }
        assert!(process.has_ended().unwrap());
        assert_eq!(process.wait().unwrap(), End::Exit(3));
    }
}
