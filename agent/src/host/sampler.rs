//! One reading of every channel.

use super::counters::Rates;
use super::disks;
use super::paced::Paced;
use super::parse::{self, CpuTimes, Memory};
use super::usage::Usage;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;
use wyneos_core::telemetry::{Channel, Reading};

/// Reads the host's telemetry, and keeps the counters from which rates are computed.
#[derive(Debug)]
pub(crate) struct Sampler {
    proc: PathBuf,
    sys_block: PathBuf,
    cpu: Option<CpuTimes>,
    disks: Rates,
    network: Rates,
    whole_disks: Paced<BTreeSet<String>>,
    usage: Usage,
    processes: Paced<usize>,
}

impl Sampler {
    /// Creates a sampler of this host.
    pub(crate) fn new() -> Sampler {
        Sampler::of(Path::new("/proc"), Path::new("/sys/block"))
    }

    /// Creates a sampler of the host described under these two directories.
    pub(super) fn of(proc: &Path, sys_block: &Path) -> Sampler {
        Sampler {
            proc: proc.to_owned(),
            sys_block: sys_block.to_owned(),
            cpu: None,
            disks: Rates::default(),
            network: Rates::default(),
            whole_disks: Paced::new(),
            usage: Usage::new(proc.join("self/mountinfo")),
            processes: Paced::new(),
        }
    }

    /// One value per channel, in the channel's unit, finite and never negative; `None` if the host does not report it.
    ///
    /// CPU, disk and network traffic are measured since the last reading, so the first has none of them. On hosts with
    /// very many processes, mounts or block devices those are counted less often than every reading, at least once a
    /// minute. Usage of disks was queried before this reading. Waits for no disk: all other files are in the kernel's
    /// memory.
    pub(crate) fn read(&mut self, now: Instant) -> Reading {
        let mut reading: Reading = [None; Channel::COUNT];
        let mut set = |channel: Channel, value: Option<f64>| {
            reading[channel.column()] = value
                .map(|value| value as f32)
                .filter(|value| value.is_finite() && *value >= 0.0);
        };

        let (cpu, load) = self.cpu_and_load();
        set(Channel::CpuUsed, cpu);
        set(Channel::LoadPerCore, load);
        let memory = self
            .text("meminfo")
            .map_or_else(Memory::default, |text| Memory::parse(&text));
        set(Channel::MemoryUsed, memory.used());
        set(Channel::SwapUsed, memory.swap_used());
        set(Channel::DiskUsed, self.usage.used());
        let [read, written] = self.disk_traffic(now);
        set(Channel::DiskRead, read);
        set(Channel::DiskWrite, written);
        let [received, sent] = self.network_traffic(now);
        set(Channel::NetworkIn, received);
        set(Channel::NetworkOut, sent);
        set(
            Channel::FilesOpen,
            self.text("sys/fs/file-nr")
                .and_then(|text| Some(parse::open_files(&text)? as f64)),
        );
        set(Channel::Processes, self.processes(now));
        for (channel, file) in [
            (Channel::PressureCpu, "pressure/cpu"),
            (Channel::PressureMemory, "pressure/memory"),
            (Channel::PressureIo, "pressure/io"),
        ] {
            set(channel, self.text(file).and_then(|text| parse::pressure(&text)));
        }
        reading
    }

    fn cpu_and_load(&mut self) -> (Option<f64>, Option<f64>) {
        let (times, cpus) = match self.text("stat") {
            Some(stat) => (CpuTimes::parse(&stat), parse::cpus(&stat)),
            None => (None, None),
        };
        let share = times.zip(self.cpu).and_then(|(now, before)| now.share_since(before));
        self.cpu = times;
        let load = self.text("loadavg").and_then(|text| parse::load_average(&text));
        (share, load.zip(cpus).map(|(load, cpus)| load / f64::from(cpus)))
    }

    fn disk_traffic(&mut self, now: Instant) -> [Option<f64>; 2] {
        let text = self.text("diskstats");
        let whole = self.whole_disks.get(now, || disks::whole(&self.sys_block));
        let traffic = text.zip(whole).map(|(text, whole)| disks::traffic(&text, whole));
        self.disks.update(now, traffic)
    }

    fn network_traffic(&mut self, now: Instant) -> [Option<f64>; 2] {
        let traffic = self.text("net/dev").map(|text| parse::interfaces(&text));
        self.network.update(now, traffic)
    }

    fn processes(&mut self, now: Instant) -> Option<f64> {
        self.processes
            .get(now, || count_processes(&self.proc))
            .map(|count| *count as f64)
    }

    fn text(&self, file: &str) -> Option<String> {
        read_text(&self.proc.join(file))
    }
}

/// The text of a file under /proc. Those have no size, so a sufficient buffer for most of them is allocated in advance:
/// one read each.
pub(super) fn read_text(path: &Path) -> Option<String> {
    let mut bytes = Vec::with_capacity(8192);
    File::open(path).ok()?.read_to_end(&mut bytes).ok()?;
    // A mount point need not be UTF-8; that must not affect the others.
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Number of processes with a directory under /proc. No file has it: the counts in `loadavg` and `sysinfo` are of
/// threads.
fn count_processes(proc: &Path) -> Option<usize> {
    let is_process = |name: &[u8]| name.iter().all(u8::is_ascii_digit);
    let entries = fs::read_dir(proc).ok()?.filter_map(Result::ok);
    // A live /proc contains at least this process.
    Some(entries.filter(|entry| is_process(entry.file_name().as_bytes())).count()).filter(|count| *count > 0)
}
