//! The time at which the kernel kills this process, if it does not act before.

use nix::{
    sys::{
        signal::{SigEvent, SigevNotify, Signal},
        timer::{Expiration, Timer, TimerSetTimeFlags},
    },
    time::ClockId,
};
use wyneos_core::time::Time;

/// A kernel timer (timer_create(2)) on the clock that advances during suspend. It kills this process even if that was
/// stopped (SIGSTOP) or hangs.
#[derive(Default)]
pub(super) struct Deadline {
    timer: Option<Timer>,
    at: Time,
}

impl Deadline {
    /// Sets the deadline; one earlier than before is ignored.
    pub(super) fn extend(&mut self, at: Time) -> nix::Result<()> {
        if at <= self.at {
            return Ok(());
        }
        let timer = match &mut self.timer {
            Some(timer) => timer,
            none => {
                let event = SigEvent::new(SigevNotify::SigevSignal {
                    signal: Signal::SIGKILL,
                    si_value: 0,
                });
                none.insert(Timer::new(ClockId::CLOCK_BOOTTIME, event)?)
            }
        };
        let Time(nanos) = at;
        let moment = std::time::Duration::from_nanos(nanos).into();
        timer.set(Expiration::OneShot(moment), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        self.at = at;
        Ok(())
    }

    /// Removes the deadline: nothing that has to end is running any more.
    pub(super) fn lift(&mut self) {
        self.timer = None;
    }
}
