//! The catalogue of telemetry channels.

use std::fmt;

/// Unit of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A fraction, usually 0 to 1.
    Ratio,
    /// Bytes per second.
    BytesPerSecond,
    /// A number of items.
    Count,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Ratio => "ratio",
            Unit::BytesPerSecond => "bytes/s",
            Unit::Count => "count",
        })
    }
}

macro_rules! channels {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $unit:ident, $threshold:expr;)+) => {
        /// A telemetry channel. The order is the matrix's column order.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Channel {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Channel {
            /// All channels, in the matrix's column order.
            pub const ALL: [Channel; [$($name),+].len()] = [$(Channel::$variant),+];

            /// Name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Channel::$variant => $name,)+ }
            }

            /// Unit of the channel's values.
            pub const fn unit(self) -> Unit {
                match self { $(Channel::$variant => Unit::$unit,)+ }
            }

            /// Value from which the channel indicates a problem, in the channel's unit; `None` if there is none.
            pub const fn threshold(self) -> Option<f32> {
                match self { $(Channel::$variant => $threshold,)+ }
            }

            /// Description in one sentence.
            pub const fn description(self) -> &'static str {
                match self { $(Channel::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

channels! {
    /// CPU time used since the last reading, as a share of all CPUs.
    CpuUsed = "cpu.used", Ratio, None;
    /// One-minute load average per CPU.
    LoadPerCore = "load.per_core", Ratio, None;
    /// Memory in use: 1 − available ÷ total.
    MemoryUsed = "memory.used", Ratio, Some(0.95);
    /// Swap in use.
    SwapUsed = "swap.used", Ratio, None;
    /// Space in use on the fullest file system.
    DiskUsed = "disk.used", Ratio, Some(0.95);
    /// Bytes read from block devices.
    DiskRead = "disk.read", BytesPerSecond, None;
    /// Bytes written to block devices.
    DiskWrite = "disk.write", BytesPerSecond, None;
    /// Bytes received on all interfaces except loopback.
    NetworkIn = "network.in", BytesPerSecond, None;
    /// Bytes sent on all interfaces except loopback.
    NetworkOut = "network.out", BytesPerSecond, None;
    /// Open file descriptions on the host.
    FilesOpen = "files.open", Count, None;
    /// Processes on the host.
    Processes = "processes", Count, None;
    /// Share of the last 10 s in which at least one task waited for CPU (PSI).
    PressureCpu = "pressure.cpu", Ratio, None;
    /// Share of the last 10 s in which at least one task waited for memory (PSI).
    PressureMemory = "pressure.memory", Ratio, None;
    /// Share of the last 10 s in which at least one task waited for I/O (PSI).
    PressureIo = "pressure.io", Ratio, None;
}

impl Channel {
    /// Number of channels.
    pub const COUNT: usize = Channel::ALL.len();

    /// Finds a channel by name.
    pub fn from_name(name: &str) -> Option<Channel> {
        Channel::ALL.into_iter().find(|channel| channel.name() == name)
    }

    /// Column in the matrix.
    pub const fn column(self) -> usize {
        self as usize
    }
}
