//! Time, as a value that is handed in: tests move it, production reads the system's.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall time for what users see, monotonic time for leases and deadlines.
///
/// Wall time never decides correctness: rows are ordered by `_seq`, publications by manifest version.
pub trait Clock: Send + Sync + 'static {
    /// Unix milliseconds.
    fn now_ms(&self) -> i64;
    /// Time since an arbitrary fixed point of this process; never goes back.
    fn monotonic(&self) -> Duration;
}

/// A clock that can be shared.
pub type SharedClock = Arc<dyn Clock>;

/// The system's clocks.
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// The clock of a running server.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system clocks")]
    pub fn shared() -> SharedClock {
        Arc::new(Self { start: Instant::now() })
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the system clocks")]
impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that moves only when told to.
pub struct ManualClock {
    now_ms: AtomicI64,
    monotonic_ms: AtomicI64,
}

impl ManualClock {
    /// Starts at `now_ms` (unix milliseconds), monotonic zero.
    pub fn new(now_ms: i64) -> Arc<Self> {
        Arc::new(Self { now_ms: AtomicI64::new(now_ms), monotonic_ms: AtomicI64::new(0) })
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
        self.monotonic_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// Sets the wall clock alone, also backwards, as an administrator or NTP would.
    pub fn set_wall(&self, now_ms: i64) {
        self.now_ms.store(now_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.monotonic_ms.load(Ordering::SeqCst)).unwrap_or(0))
    }
}

/// `YYYY-MM-DDTHH:MM:SSZ` of unix milliseconds, second resolution (RFC 3339, UTC).
pub fn rfc3339(ms: i64) -> String {
    let c = Civil::from_ms(ms);
    format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", c.year, c.month, c.day, c.hour, c.minute, c.second)
}

/// A UTC date and time of the proleptic Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    /// Year, may be negative.
    pub year: i64,
    /// 1..=12
    pub month: u32,
    /// 1..=31
    pub day: u32,
    /// 0..=23
    pub hour: u32,
    /// 0..=59
    pub minute: u32,
    /// 0..=59
    pub second: u32,
}

impl Civil {
    /// The date of unix milliseconds.
    pub fn from_ms(ms: i64) -> Self {
        let seconds = ms.div_euclid(1000);
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Days to civil date: 400-year eras that begin on 0000-03-01, so that leap days end a year.
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let small = |n: i64| u32::try_from(n).unwrap_or(0);
        Self {
            year: yoe + era * 400 + i64::from(month <= 2),
            month: small(month),
            day: small(doy - (153 * mp + 2) / 5 + 1),
            hour: small(rest / 3600),
            minute: small(rest % 3600 / 60),
            second: small(rest % 60),
        }
    }

    /// Unix milliseconds of this date, or `None` if it is not a date of the calendar.
    pub fn to_ms(self) -> Option<i64> {
        if !(1..=12).contains(&self.month) || self.day < 1 || self.hour > 23 || self.minute > 59 || self.second > 59 {
            return None;
        }
        let (y, m, d) = (self.year - i64::from(self.month <= 2), i64::from(self.month), i64::from(self.day));
        let era = y.div_euclid(400);
        let yoe = y.rem_euclid(400);
        let doy = (153 * (if m > 2 { m - 3 } else { m + 9 }) + 2) / 5 + d - 1;
        let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
        let days = era * 146_097 + doe - 719_468;
        let seconds =
            days * 86_400 + i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second);
        // The formula rolls 31 February over into March; the round trip tells.
        (Self::from_ms(seconds * 1000) == self).then_some(seconds * 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn civil_dates_round_trip() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_699_556_393_000, "2023-11-09T18:59:53Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00Z"),
            (-1000, "1969-12-31T23:59:59Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
            assert_eq!(Civil::from_ms(ms).to_ms(), Some(ms.div_euclid(1000) * 1000));
        }
        let feb31 = Civil { year: 2023, month: 2, day: 31, hour: 0, minute: 0, second: 0 };
        assert_eq!(feb31.to_ms(), None);
    }

    #[test]
    fn manual_clock_moves_both_or_wall_alone() {
        let clock = ManualClock::new(1000);
        clock.advance(Duration::from_millis(5));
        clock.set_wall(10);
        assert_eq!((clock.now_ms(), clock.monotonic()), (10, Duration::from_millis(5)));
    }
}
