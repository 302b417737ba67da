//! Parsers of the files under /proc. Each takes the whole text and returns `None` if the value is missing.
//!
//! The `procfs` crate's parsers reject the whole file because of a field that is not needed (a kernel before 5.13 has
//! no `full` line in `pressure/cpu`, some containers lack most of `meminfo`), so these are our own.

use super::counters::Counters;

#[cfg(test)]
mod tests;

/// CPU time since boot, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CpuTimes {
    pub(super) busy: u64,
    pub(super) idle: u64,
}

impl CpuTimes {
    /// Parses the first line of /proc/stat. Guest time is part of user time already, so it is not added; waiting for
    /// I/O is idle.
    pub(super) fn parse(stat: &str) -> Option<CpuTimes> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let mut times = [0; 8];
        let mut count = 0;
        for (slot, field) in times.iter_mut().zip(line.split_ascii_whitespace()) {
            *slot = field.parse::<u64>().ok()?;
            count += 1;
        }
        let [user, nice, system, idle, waiting, irq, softirq, steal] = times;
        let busy = [user, nice, system, irq, softirq, steal]
            .into_iter()
            .fold(0, u64::saturating_add);
        (count >= 4).then_some(CpuTimes {
            busy,
            idle: idle.saturating_add(waiting),
        })
    }

    /// Share of the time since `before` in which CPUs were busy, 0 to 1; `None` if no time passed or a counter
    /// decreased.
    pub(super) fn share_since(self, before: CpuTimes) -> Option<f64> {
        let busy = self.busy.checked_sub(before.busy)?;
        let idle = self.idle.checked_sub(before.idle)?;
        ratio(busy, busy.saturating_add(idle))
    }
}

/// Number of CPUs online, from /proc/stat; `None` if it lists none.
pub(super) fn cpus(stat: &str) -> Option<u32> {
    let is_cpu = |line: &&str| {
        line.strip_prefix("cpu")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    u32::try_from(stat.lines().filter(is_cpu).count())
        .ok()
        .filter(|count| *count > 0)
}

/// Boot time of the host, in seconds since 1970, from /proc/stat.
pub(super) fn boot_seconds(stat: &str) -> Option<i64> {
    stat.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

/// /proc/meminfo, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) total: Option<u64>,
    available: Option<u64>,
    free: Option<u64>,
    buffers: Option<u64>,
    cached: Option<u64>,
    swap_total: Option<u64>,
    swap_free: Option<u64>,
}

impl Memory {
    pub(super) fn parse(meminfo: &str) -> Memory {
        let mut memory = Memory::default();
        for line in meminfo.lines() {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let field = match name {
                "MemTotal" => &mut memory.total,
                "MemAvailable" => &mut memory.available,
                "MemFree" => &mut memory.free,
                "Buffers" => &mut memory.buffers,
                "Cached" => &mut memory.cached,
                "SwapTotal" => &mut memory.swap_total,
                "SwapFree" => &mut memory.swap_free,
                _ => continue,
            };
            *field = kibibytes(value);
        }
        memory
    }

    /// The share of memory in use, 0 to 1.
    pub(super) fn used(self) -> Option<f64> {
        let total = self.total?;
        ratio(total.saturating_sub(self.available()?), total)
    }

    /// The share of swap in use, 0 to 1; 0 where there is none.
    pub(super) fn swap_used(self) -> Option<f64> {
        match self.swap_total? {
            0 => Some(0.0),
            total => ratio(total.saturating_sub(self.swap_free?), total),
        }
    }

    /// Kernels before 3.14 do not estimate it; the sum of free and reclaimable memory is close.
    fn available(self) -> Option<u64> {
        self.available.or_else(|| {
            let reclaimable = self.buffers.unwrap_or(0).saturating_add(self.cached.unwrap_or(0));
            Some(self.free?.saturating_add(reclaimable))
        })
    }
}

fn kibibytes(value: &str) -> Option<u64> {
    value
        .split_ascii_whitespace()
        .next()?
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// Runnable tasks, averaged over a minute, from /proc/loadavg.
pub(super) fn load_average(loadavg: &str) -> Option<f64> {
    loadavg.split_ascii_whitespace().next()?.parse().ok()
}

/// Open file descriptions, from /proc/sys/fs/file-nr.
pub(super) fn open_files(file_nr: &str) -> Option<u64> {
    file_nr.split_ascii_whitespace().next()?.parse().ok()
}

/// `some avg10` of a file under /proc/pressure, as a ratio.
pub(super) fn pressure(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let percent: f64 = some
        .split_ascii_whitespace()
        .find_map(|field| field.strip_prefix("avg10="))?
        .parse()
        .ok()?;
    Some((percent / 100.0).clamp(0.0, 1.0))
}

/// Bytes received and sent by every interface except loopback, from /proc/net/dev.
pub(super) fn interfaces(dev: &str) -> Counters {
    let interface = |line: &str| {
        // An alias (`eth0:1`) has a colon in its name, and old kernels put no space after the one that ends it.
        let (name, values) = line.rsplit_once(':')?;
        let mut values = values.split_ascii_whitespace();
        let received = values.next()?.parse().ok()?;
        let sent = values.nth(7)?.parse().ok()?;
        Some((name.trim().to_owned(), [received, sent]))
    };
    dev.lines()
        .filter_map(interface)
        .filter(|(name, _)| name != "lo")
        .collect()
}

/// `part` ÷ `whole`, 0 to 1; `None` if the whole is 0.
pub(super) fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| (part as f64 / whole as f64).clamp(0.0, 1.0))
}
