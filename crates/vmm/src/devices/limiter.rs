//! How many bytes and operations a device may move in a time: two token buckets, and a timer for who has to wait.
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use serde::{Deserialize, Serialize};

/// One bucket, with the API's names: `size` tokens come back in `refill_time` milliseconds; `one_time_burst` tokens come on top, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refill {
    pub size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_time_burst: Option<u64>,
    pub refill_time: u64,
}

/// The limits of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Refill>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ops: Option<Refill>,
}

impl Limits {
    /// Takes over the buckets that `other` names.
    pub(crate) fn merge(&mut self, other: &Limits) {
        for (own, new) in [
            (&mut self.bandwidth, &other.bandwidth),
            (&mut self.ops, &other.ops),
        ] {
            if new.is_some() {
                own.clone_from(new);
            }
        }
    }
}

/// Where a bucket stands, for a copy of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    tokens: i64,
    burst: u64,
}

#[derive(Debug)]
struct Bucket {
    size: i64,
    refill_ns: u64,
    burst: u64,
    /// Below zero after a request larger than the bucket: it is served from a full one, and the next waits until the debt is paid.
    tokens: i64,
    filled: Instant,
}

impl Bucket {
    /// A size or time of zero means no limit, as in Firecracker.
    fn new(refill: &Refill, now: Instant) -> Option<Bucket> {
        if refill.size == 0 || refill.refill_time == 0 {
            return None;
        }
        let size = i64::try_from(refill.size).unwrap_or(i64::MAX);
        Some(Bucket {
            size,
            refill_ns: refill.refill_time.saturating_mul(1_000_000),
            burst: refill.one_time_burst.unwrap_or(0),
            tokens: size,
            filled: now,
        })
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_nanos();
        let (size, refill) = (self.size.unsigned_abs(), u128::from(self.refill_ns));
        let tokens = passed * u128::from(size) / refill;
        let missing = u128::from(self.size.abs_diff(self.tokens));
        if tokens >= missing {
            self.tokens = self.size;
            self.filled = now;
        } else if tokens > 0 {
            // Smaller than what is missing, so it fits; what is no whole token yet stays in the time.
            self.tokens += i64::try_from(tokens).unwrap_or(0);
            let used = u64::try_from(tokens * refill / u128::from(size)).unwrap_or(u64::MAX);
            self.filled += Duration::from_nanos(used);
        }
    }

    /// How long a request of `amount` has to wait; zero if it may go now.
    fn wait(&mut self, amount: u64, now: Instant) -> Duration {
        if amount <= self.burst {
            return Duration::ZERO;
        }
        self.fill(now);
        let needed = i64::try_from(amount - self.burst)
            .unwrap_or(i64::MAX)
            .min(self.size);
        if self.tokens >= needed {
            return Duration::ZERO;
        }
        let missing = u128::from(needed.abs_diff(self.tokens)) * u128::from(self.refill_ns);
        let rest = missing.div_ceil(u128::from(self.size.unsigned_abs()));
        Duration::from_nanos(u64::try_from(rest).unwrap_or(u64::MAX))
    }

    fn take(&mut self, amount: u64) {
        let from_burst = amount.min(self.burst);
        self.burst -= from_burst;
        let rest = i64::try_from(amount - from_burst).unwrap_or(i64::MAX);
        self.tokens = self.tokens.saturating_sub(rest);
    }
}

/// The limiter of one direction of one device.
#[derive(Debug)]
pub struct RateLimiter {
    bandwidth: Option<Bucket>,
    ops: Option<Bucket>,
    /// Runs out when the request that had to wait may go.
    timer: OwnedFd,
    waits: bool,
    /// How often a request had to wait, for the metrics.
    pub(crate) nr_throttled: u64,
}

impl RateLimiter {
    /// # Errors
    /// If the kernel has no timer left.
    pub fn new(limits: Option<&Limits>) -> io::Result<RateLimiter> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let mut limiter = RateLimiter {
            bandwidth: None,
            ops: None,
            timer: timerfd_create(TimerfdClockId::Monotonic, flags)?,
            waits: false,
            nr_throttled: 0,
        };
        limits.into_iter().for_each(|limits| limiter.update(limits));
        Ok(limiter)
    }

    /// Takes over the buckets that `limits` names; the others stay.
    pub fn update(&mut self, limits: &Limits) {
        let now = Instant::now();
        if let Some(refill) = &limits.bandwidth {
            self.bandwidth = Bucket::new(refill, now);
        }
        if let Some(refill) = &limits.ops {
            self.ops = Bucket::new(refill, now);
        }
        if self.waits {
            // Whoever waits asks again at once: the new limit may be wider.
            self.arm(Duration::from_nanos(1));
        }
    }

    /// Becomes readable when waiting is over.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    /// Takes one operation of `bytes` bytes from both buckets. False: not now, and the timer runs.
    pub fn take(&mut self, bytes: u64) -> bool {
        if self.bandwidth.is_none() && self.ops.is_none() {
            return true;
        }
        let now = Instant::now();
        let wait = |bucket: &mut Option<Bucket>, amount| {
            bucket
                .as_mut()
                .map_or(Duration::ZERO, |bucket| bucket.wait(amount, now))
        };
        let rest = wait(&mut self.bandwidth, bytes).max(wait(&mut self.ops, 1));
        if rest > Duration::ZERO {
            self.waits = true;
            self.nr_throttled += 1;
            self.arm(rest);
            return false;
        }
        self.waits = false;
        self.bandwidth
            .iter_mut()
            .for_each(|bucket| bucket.take(bytes));
        self.ops.iter_mut().for_each(|bucket| bucket.take(1));
        true
    }

    /// Whether somebody waits and it is not yet time.
    pub fn is_closed(&mut self) -> bool {
        let mut count = [0; 8];
        if self.waits && rustix::io::read(&self.timer, &mut count).is_ok() {
            self.waits = false;
        }
        self.waits
    }

    /// Makes the timer run out at once: the owner has work left and gives its lock back in between.
    pub(crate) fn come_back(&self) {
        self.arm(Duration::from_nanos(1));
    }

    fn arm(&self, rest: Duration) {
        let time = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: i64::try_from(rest.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: rest.subsec_nanos().into(),
            },
        };
        // Only a time that is none is refused.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &time);
    }

    /// Where the buckets stand.
    #[must_use]
    pub fn save(&self) -> [Option<Level>; 2] {
        let level = |bucket: &Option<Bucket>| {
            bucket.as_ref().map(|bucket| Level {
                tokens: bucket.tokens,
                burst: bucket.burst,
            })
        };
        [level(&self.bandwidth), level(&self.ops)]
    }

    /// Lets buckets that exist here stand where `levels` stood: a copy is no way to get a new burst.
    pub fn restore(&mut self, levels: [Option<Level>; 2]) {
        for (bucket, level) in [&mut self.bandwidth, &mut self.ops].into_iter().zip(levels) {
            if let (Some(bucket), Some(level)) = (bucket, level) {
                bucket.tokens = level.tokens.min(bucket.size);
                bucket.burst = level.burst.min(bucket.burst);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(size: u64, burst: u64) -> (Bucket, Instant) {
        let now = Instant::now();
        let refill = Refill {
            size,
            one_time_burst: Some(burst),
            refill_time: 1000,
        };
        (Bucket::new(&refill, now).unwrap(), now)
    }

    #[test]
    fn a_burst_is_spent_once_and_tokens_come_back() {
        let (mut bucket, now) = bucket(100, 50);
        assert_eq!(bucket.wait(150, now), Duration::ZERO);
        bucket.take(150);
        assert_eq!(bucket.wait(25, now), Duration::from_millis(250));
        assert_eq!(
            bucket.wait(100, now + Duration::from_secs(9)),
            Duration::ZERO
        );
        assert_eq!((bucket.tokens, bucket.burst), (100, 0));
    }

    #[test]
    fn a_request_larger_than_the_bucket_goes_and_its_debt_is_paid() {
        let (mut bucket, now) = bucket(100, 0);
        assert_eq!(bucket.wait(250, now), Duration::ZERO);
        bucket.take(250);
        assert_eq!(bucket.wait(10, now), Duration::from_millis(1600));
    }

    #[test]
    fn parts_of_tokens_are_not_lost() {
        let (mut bucket, now) = bucket(3, 0);
        bucket.take(3);
        for step in 1..=10 {
            bucket.fill(now + Duration::from_millis(step * 100));
        }
        assert_eq!(bucket.tokens, 3);
    }

    #[test]
    fn the_timer_opens_the_limiter_and_zero_means_no_limit() {
        let refill = |size| {
            Some(Refill {
                size,
                one_time_burst: None,
                refill_time: 1,
            })
        };
        let limits = Limits {
            bandwidth: refill(0),
            ops: refill(1),
        };
        let mut limiter = RateLimiter::new(Some(&limits)).unwrap();
        assert!(limiter.take(1 << 40));
        assert!(!limiter.take(1));
        assert!(limiter.waits);
        let mut poll = [rustix::event::PollFd::from_borrowed_fd(
            limiter.timer.as_fd(),
            rustix::event::PollFlags::IN,
        )];
        rustix::event::poll(&mut poll, None).unwrap();
        assert!(!limiter.is_closed());
        assert!(limiter.take(1));
    }
}
